"""The host stage, top to bottom: read, configure, apply, cut, verify, write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skipc.compiler.axes.resolution import try_sizes
from skipc.compiler.bundle.files import staged_folder
from skipc.compiler.bundle.writer import BundleWriter, InFront, bundle_path
from skipc.compiler.calibration import Calibration
from skipc.compiler.client import write_client
from skipc.compiler.configurations import check_networks, configurations_from_front
from skipc.compiler.errors import CompileError
from skipc.compiler.extras import require
from skipc.compiler.family import open_family
from skipc.compiler.front import Front, read_front
from skipc.compiler.gates import gates_sketch, read_gates
from skipc.compiler.heads import heads_sketch, read_heads
from skipc.compiler.int8_options import check_calibrated, read_calibration
from skipc.compiler.network import DEFAULT_TOLERANCE
from skipc.compiler.norms.of_front import known_norms
from skipc.compiler.parts import Parts
from skipc.compiler.prologue import Places, check_text, read_prologue
from skipc.compiler.read.recorded import recorded_sketch
from skipc.compiler.read.several import check_answers, fed_alike
from skipc.compiler.residual_scale import Scaling
from skipc.compiler.routed import KnownRouter, Routers, known_routers
from skipc.compiler.routes import check_tests
from skipc.compiler.sensitivity import keep_sensitive
from skipc.compiler.shared_ranges import with_shared_ranges
from skipc.compiler.targets import carried_over
from skipc.compiler.targets.options import Int8Form
from skipc.compiler.verify.golden import data_cases, random_cases, whole_number_bounds
from skipc.runtime.bundle.manifest import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import onnx_ir as ir

    from skipc.compiler.axes.precision import Precision
    from skipc.compiler.configurations import Configuration
    from skipc.compiler.family import Family
    from skipc.compiler.gates import Gates
    from skipc.compiler.heads import Head
    from skipc.compiler.norms.statistics import FamilyNorms, NormMode
    from skipc.compiler.read import Supernet
    from skipc.compiler.select.samples import Samples

_VERIFIED_CASES = 3
"""As many as are random otherwise."""
Progress = Callable[[str], None]
"""Called with a short text when a step begins."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a build may be told beyond its files.

    Attributes:
        out: The bundle's folder; by default the checkpoint's name with ``.skipc``.
        data: ``.npy`` or ``.npz`` with real inputs to verify on, too.
        tolerance: Largest error over the range of the reference's output; None for the
            default of the precision and the outputs' type.
        precision: What the configurations compute in that do not say it themselves; None for
            the types that the graph has.
        scaling: How kept branches are scaled at test time.
        norm: How norms adapt; None for what the front says.
        reestimate: Data to estimate norm statistics on, as ``skipc select --data`` takes it;
            None for the statistics that came with the front.
        calibrate: Such data to observe the ranges of activations on, for int8.
        prologue: What goes in front of the networks: steps of ours, or an ONNX file; None for
            nothing.
        apart: Whether that becomes a bundle of its own, for the client's side.
        max_drop: How much int8 may lose against float32, in points; what is too sensitive
            stays float32. None for all in int8.
        int8_form: How the target wants int8.
        overwrite: Replace a bundle that is already there.
        recipe: How the engines are to be built.
        profile: The user's own profile, which the bundle takes along; None for one that
            comes with skipc.
    """

    out: Path | None = None
    data: Path | None = None
    tolerance: float | None = None
    precision: Precision | None = None
    scaling: Scaling = field(default_factory=Scaling)
    norm: NormMode | None = None
    reestimate: str | None = None
    calibrate: str | None = None
    max_drop: float | None = None
    prologue: str | None = None
    apart: bool = False
    int8_form: Int8Form = field(default_factory=Int8Form)
    overwrite: bool = False
    recipe: Recipe = field(default_factory=lambda: Recipe("cpu"))
    profile: Path | None = None


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """A network that is to be built.

    Attributes:
        checkpoint: The checkpoint's file.
        norms: The norm statistics; None where they are estimated.
        heads: What lies beside the checkpoint to answer before the network's end.
        gates: What lies beside it to decide about units; None where nothing does.
    """

    checkpoint: Path
    norms: FamilyNorms | None
    heads: tuple[Head, ...]
    gates: Gates | None


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What is to be built, checked as far as that can be without the networks.

    Attributes:
        networks: By name, the networks; "" of the only one.
        path: The ``front.json`` with the configurations to build.
        front: What it says.
        routers: By configuration, the routers that are beside it.
        out: The bundle's folder.
        options: Everything else.
    """

    networks: Mapping[str, NetworkPlan]
    path: Path
    front: Front
    routers: Mapping[str, KnownRouter]
    out: Path
    options: BuildOptions


def plan_build(
    checkpoints: Mapping[str, Path], front: Path, options: BuildOptions
) -> BuildPlan:
    """Returns what is to be built.

    Args:
        checkpoints: The networks' files, by the networks' names; "" of the only one.
        front: The ``front.json`` with the configurations to build.
        options: Everything else.

    Raises:
        CompileError: Something the user gave does not work.
        OSError: Nothing can be written where the bundle goes.
    """
    # Not <: NaN must be refused.
    if options.tolerance is not None and not options.tolerance >= 0:
        raise CompileError(
            f"--tolerance {options.tolerance:g}: must be a number of at least 0, e.g."
            f" {DEFAULT_TOLERANCE:g} of the output's range."
        )
    if options.prologue is not None:
        check_text(options.prologue)
    elif options.apart:
        raise CompileError("--prologue-apart: there is no prologue. Give one with --prologue.")
    require("onnxruntime", "finish")  # compares every configuration with the reference
    out = bundle_path(checkpoints, options.out, options.overwrite)
    said = read_front(front)
    check_networks(said, checkpoints, str(front))
    check_calibrated(said, options.precision, options.calibrate, options.max_drop)
    networks = {
        name: NetworkPlan(
            checkpoint,
            known_norms(front, said.of(name), checkpoint, options.norm, options.reestimate),
            read_heads(checkpoint),
            read_gates(checkpoint),
        )
        for name, checkpoint in checkpoints.items()
    }
    routers = known_routers(front, said, checkpoints)
    return BuildPlan(networks, front, said, routers, out, options)


def build_bundle(
    supernet: Supernet,
    checkpoint: Path,
    front: Path,
    options: BuildOptions,
    progress: Progress = lambda _: None,
    note: Progress = lambda _: None,
) -> Path:
    """Compiles the family of one network: ``plan_build``, then ``build``."""
    plan = plan_build({"": checkpoint}, front, options)
    return build(plan, {"": supernet}, progress, note)


def build(
    plan: BuildPlan,
    supernets: Mapping[str, Supernet],
    progress: Progress = lambda _: None,
    note: Progress = lambda _: None,
    engines: Callable[[Path], object] = lambda _: None,
) -> Path:
    """Compiles a family and returns the bundle's folder.

    Args:
        plan: What is to be built.
        supernets: The networks read from the plan's checkpoints, by name.
        progress: Told what is being done.
        note: Told what the user should know of the result.
        engines: Called with the folder of the complete bundle before it takes its place, to
            build engines in it; what it raises leaves everything as it was.

    Raises:
        CompileError: Something the user gave does not work; nothing is left behind.
    """
    options = plan.options
    for supernet in supernets.values():
        options.scaling.check(supernet)
    supernets = fed_alike(supernets)
    try_sizes(plan.front, supernets, str(plan.path))
    first = next(iter(supernets.values()))
    prologue = None
    if options.prologue is not None:
        prologue = read_prologue(options.prologue, first, options.apart)
    inside = None if options.apart else prologue
    inputs = first.inputs if inside is None else inside.inputs
    given = data_cases(options.data, inputs, first.dimensions)
    samples = _samples(options.reestimate, first)
    calibration = Calibration((), options.int8_form)
    if options.calibrate is not None:
        calibration = read_calibration(options.calibrate, options.int8_form, first)

    families: dict[str, Family] = {}
    for name, network in plan.networks.items():
        progress(f"exporting the supernet {name}".strip())
        families[name] = open_family(
            *(supernets[name], options.scaling, network.heads, name, network.gates),
            calibration=calibration,
        )
    check_answers({name: family.network for name, family in families.items()})
    offers = {name: family.offers for name, family in families.items()}
    configurations = configurations_from_front(plan.front, offers, str(plan.path))
    outputs = next(iter(families.values())).network.outputs
    for one in configurations:
        check_tests(one.tests, outputs, f"{plan.path}: {one.name!r}")
    for router in plan.routers.values():
        router.check(configurations, first.inputs)

    for name, family in families.items():
        norms = plan.networks[name].norms
        if samples is not None:
            progress(f"re-estimating norms {name}".strip())
            norms = _estimated(plan, supernets[name], family, configurations, samples, note)
        assert norms is not None
        families[name] = family.with_norms(norms)

    if options.recipe.engines == "one":
        families = with_shared_ranges(families, configurations, options.precision, progress)
    if options.max_drop is not None:
        configurations = keep_sensitive(
            *(configurations, families, options.precision, options.max_drop, progress, note)
        )
    models = {name: family.network.model for name, family in families.items()}
    takes = [*models.values(), *([] if inside is None else [inside.network.model])]
    cases = random_cases(inputs, first.dimensions, _bounds(takes))
    if calibration.cases:  # what it has never seen like it is cut off at its ranges
        cases = list(calibration.cases[:_VERIFIED_CASES])
        if inside is not None:
            cases = [] if given else inside.cases_like(cases)
    cases += given
    with staged_folder(plan.out) as folder:
        front = None if inside is None else inside.in_front
        if prologue is not None and inside is None:
            progress("verifying the prologue")
            front = InFront(first.inputs, write_client(prologue, folder, options.recipe))
        with BundleWriter(folder, families, front) as writer:
            places = Places(inside, cases)
            asked = options.tolerance, options.precision
            parts = Parts(writer, families, configurations, places, *asked)
            routers = Routers(writer, cases, first.dimensions, note, places)
            named = {name for each in plan.routers.values() for name in each.router.names}
            # What a router names comes before it.
            ordered = sorted(configurations, key=lambda one: one.router is not None)
            for number, configuration in enumerate(ordered, start=1):
                progress(
                    f"pruning and verifying {configuration.name}"
                    f" ({number} of {len(configurations)})"
                )
                if configuration.name in plan.routers:
                    routers.write(configuration, plan.routers[configuration.name])
                    continue
                route, expected = parts.route(configuration, outputs, note)
                writer.configuration(configuration, route.stages, expected)
                if configuration.name in named and inside is not None:
                    route, expected = parts.route(configuration, outputs, note, True)
                routers.may_name(configuration, route.stages, expected)
            writer.golden_inputs(cases, places.handed)
            progress("hashing")
            checkpoints = {name: each.checkpoint for name, each in plan.networks.items()}
            recipe = writer.recipe(options.recipe, options.profile)
            precision = parts.precision(models)
            writer.finish(plan.out.name, checkpoints, precision, _sketches(plan), recipe)
        with carried_over(plan.out, folder, options.recipe.target):
            engines(folder)
    for text in (*parts.notes, *(text for each in families.values() for text in each.notes)):
        note(text)
    return plan.out


def _sketches(plan: BuildPlan) -> dict[str, str]:
    """Returns the sketches of the data that was used before, by what it was used for."""
    found = {
        f"the configurations of {name}" if name else "the configurations": sketch
        for name, sketch in plan.front.data_sketches.items()
    }
    for name, network in plan.networks.items():
        trained = recorded_sketch(network.checkpoint)
        if trained:
            found[f"the network {name}" if name else "the network"] = trained
        for what, sketch in (
            ("heads", heads_sketch(network.checkpoint)),
            ("gates", gates_sketch(network.checkpoint)),
        ):
            if sketch:
                found[f"the {what} of {name}" if name else f"the {what}"] = sketch
    for known in plan.routers.values():
        if known.router.header.data_sketch:
            found[f"the router {known.path.name}"] = known.router.header.data_sketch
    return found


def _samples(reestimate: str | None, supernet: Supernet) -> Samples | None:
    """Returns the part of the data that `skipc select` re-estimates norms on."""
    from skipc.compiler.select.data import DataOptions, read_data

    if reestimate is None:
        return None
    free = supernet.dimensions
    return read_data(
        DataOptions(reestimate), supernet.inputs, dimensions=free
    ).parts.reestimate


def _estimated(
    plan: BuildPlan,
    supernet: Supernet,
    family: Family,
    configurations: tuple[Configuration, ...],
    samples: Samples,
    note: Progress,
) -> FamilyNorms:
    """Returns the norm statistics of one network, re-estimated for what is chosen of it."""
    from skipc.compiler.select.batched import evaluated_family
    from skipc.compiler.select.evaluator import EvaluationSettings
    from skipc.compiler.select.groups import Groups

    options, name = plan.options, family.network.name
    settings = EvaluationSettings(options.norm or plan.front.of(name).norm)
    evaluated = evaluated_family(supernet, family, settings.rows, options.scaling, note)
    parts = [part for one in configurations for part in one.parts if part.network == name]
    groups = Groups(evaluated, samples, settings)
    return groups.norms({part.statistics: part.choices for part in parts})


def _bounds(models: Iterable[ir.Model]) -> dict[str, int]:
    """Returns what bounds the whole numbers that go into several networks."""
    found: dict[str, int] = {}
    for model in models:
        for name, high in whole_number_bounds(model).items():
            found[name] = min(high, found.get(name, high))
    return found

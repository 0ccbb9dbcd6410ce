"""The host stage, top to bottom: read, configure, apply, cut, verify, write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from skipc.compiler.axes.precision import Precision, PrecisionAxis, common_precision
from skipc.compiler.bundle.files import staged_folder
from skipc.compiler.bundle.writer import BundleWriter, bundle_path, provenance
from skipc.compiler.errors import CompileError
from skipc.compiler.extras import require
from skipc.compiler.family import open_family
from skipc.compiler.front import Front, configurations_from_front, read_front
from skipc.compiler.graph.index import constant_outputs, structure
from skipc.compiler.heads import read_heads
from skipc.compiler.network import DEFAULT_TOLERANCE
from skipc.compiler.norms.of_front import known_norms
from skipc.compiler.residual_scale import Scaling
from skipc.compiler.routes import route_of
from skipc.compiler.targets import carried_over
from skipc.compiler.verify.golden import data_cases, random_cases, whole_number_bounds
from skipc.compiler.verify.verify import verify_subnet
from skipc.runtime.bundle.manifest import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from skipc.compiler.heads import Head
    from skipc.compiler.norms.statistics import FamilyNorms, NormMode
    from skipc.compiler.read import Supernet

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
    overwrite: bool = False
    recipe: Recipe = field(default_factory=lambda: Recipe("cpu"))
    profile: Path | None = None


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What is to be built, checked as far as that can be without the network.

    Attributes:
        checkpoint: The checkpoint's file, for the bundle's name and provenance.
        path: The ``front.json`` with the configurations to build.
        front: What it says.
        norms: The norm statistics; None where they are estimated.
        heads: What lies beside the checkpoint to answer before the network's end.
        out: The bundle's folder.
        options: Everything else.
    """

    checkpoint: Path
    path: Path
    front: Front
    norms: FamilyNorms | None
    heads: tuple[Head, ...]
    out: Path
    options: BuildOptions


def plan_build(checkpoint: Path, front: Path, options: BuildOptions) -> BuildPlan:
    """Returns what is to be built.

    Args:
        checkpoint: The checkpoint's file.
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
    require("onnxruntime", "finish")  # compares every configuration with the reference
    out = bundle_path(checkpoint, options.out, options.overwrite)
    said = read_front(front)
    norms = known_norms(front, said, checkpoint, options.norm, options.reestimate)
    heads = read_heads(checkpoint)
    return BuildPlan(checkpoint, front, said, norms, heads, out, options)


def build_bundle(
    supernet: Supernet,
    checkpoint: Path,
    front: Path,
    options: BuildOptions,
    progress: Progress = lambda _: None,
    note: Progress = lambda _: None,
) -> Path:
    """Compiles a family and returns the bundle's folder: ``plan_build``, then ``build``."""
    return build(plan_build(checkpoint, front, options), supernet, progress, note)


def build(
    plan: BuildPlan,
    supernet: Supernet,
    progress: Progress = lambda _: None,
    note: Progress = lambda _: None,
    engines: Callable[[Path], object] = lambda _: None,
) -> Path:
    """Compiles a family and returns the bundle's folder.

    Args:
        plan: What is to be built.
        supernet: The network read from the plan's checkpoint.
        progress: Told what is being done.
        note: Told what the user should know of the result.
        engines: Called with the folder of the complete bundle before it takes its place, to
            build engines in it; what it raises leaves everything as it was.

    Raises:
        CompileError: Something the user gave does not work; nothing is left behind.
    """
    from skipc.compiler.select.batched import evaluated_family
    from skipc.compiler.select.data import DataOptions, read_data
    from skipc.compiler.select.evaluator import EvaluationSettings
    from skipc.compiler.select.groups import Groups

    options = plan.options
    options.scaling.check(supernet)
    given = data_cases(options.data, supernet.inputs, supernet.batch)
    samples = None
    if options.reestimate is not None:
        data = read_data(DataOptions(options.reestimate), supernet.inputs)
        samples = data.parts.reestimate  # as `skipc select` does, given the same data

    progress("exporting the supernet")
    family = open_family(supernet, options.scaling, plan.heads)
    configurations = configurations_from_front(plan.front, family.offers, str(plan.path))

    norms = plan.norms
    if samples is not None:
        progress("re-estimating norms")
        settings = EvaluationSettings(options.norm or plan.front.norm)
        evaluated = evaluated_family(supernet, family, settings.rows, options.scaling, note)
        groups = Groups(evaluated, samples, settings)
        norms = groups.norms({one.name: one.parts[0].choices for one in configurations})
    assert norms is not None
    family = family.with_norms(norms)

    full = family.network
    cases = random_cases(full.inputs, full.batch, whole_number_bounds(full.model)) + given
    asked = {} if options.precision is None else {PrecisionAxis.key: options.precision}
    computes_in: set[object] = set()
    first: dict[frozenset[str], str] = {}
    notes: dict[str, None] = {}
    with staged_folder(plan.out) as folder:
        with BundleWriter(folder, family) as writer:
            for number, configuration in enumerate(configurations, start=1):
                name = configuration.name
                progress(f"pruning and verifying {name} ({number} of {len(configurations)})")
                (part,) = configuration.parts
                choices = {**asked, **part.choices}
                computes_in.add(choices.get(PrecisionAxis.key))
                subnet = family.subnet(choices, name)
                network = subnet.network.tolerating(options.tolerance)
                _refuse_constant(name, network.model, full.model)
                file = writer.graph(subnet, name)
                verified = verify_subnet(file.file, name, network, cases)
                route = route_of(configuration, network)
                writer.configuration(configuration, route, file, verified)
                notes.update(dict.fromkeys(verified.notes))
                same = first.setdefault(structure(network.model), name)
                if same != name:
                    note(
                        f"{same!r} and {name!r} are the same network: they differ in what"
                        " lies within something that both leave out. Remove one of them from"
                        " the front."
                    )
            writer.golden_inputs(cases)
            progress("hashing")
            precision = common_precision(full.model, computes_in)
            made_of = provenance(plan.checkpoint, family, precision)
            recipe = writer.recipe(options.recipe, options.profile)
            writer.finish(plan.out.name, made_of, recipe)
        with carried_over(plan.out, folder, options.recipe.target):
            engines(folder)
    for text in (*notes, *family.notes):
        note(text)
    return plan.out


def _refuse_constant(name: str, model: ir.Model, full: ir.Model) -> None:
    """Refuses a configuration that skips, together, all that an output reads the inputs by."""
    own = {value.name for value in constant_outputs(full.graph)}
    for value in constant_outputs(model.graph):
        if value.name not in own:
            raise CompileError(
                f"configuration {name!r}: its output {value.name!r} is the same whatever goes"
                " in: the units that it skips are, together, all that read the inputs. Let it"
                " keep one of them."
            )

"""The host stage as a whole: supernet and front in, portable bundle out."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skipc.compiler import axes
from skipc.compiler.axes.precision import Precision, PrecisionAxis, graph_precision
from skipc.compiler.bundle.files import (
    check_writable,
    checkpoint_sha256,
    staged_folder,
    write_whole,
)
from skipc.compiler.bundle.weights import WeightStoreWriter
from skipc.compiler.bundle.writer import (
    GOLDEN_INPUTS_FILE,
    WEIGHTS_FILE,
    WrittenConfiguration,
    golden_outputs_file,
    write_golden,
    write_graph,
    write_manifest,
)
from skipc.compiler.errors import CompileError
from skipc.compiler.extras import require
from skipc.compiler.family import open_family
from skipc.compiler.front import Configuration, Front, configurations_from_front, read_front
from skipc.compiler.graph.index import structure
from skipc.compiler.network import DEFAULT_TOLERANCE
from skipc.compiler.norms.of_front import norms_of_front
from skipc.compiler.norms.statistics import FamilyNorms, NormMode
from skipc.compiler.residual_scale import ResidualScale, Scaling
from skipc.compiler.targets import carry_over
from skipc.compiler.verify.golden import data_cases, random_cases, whole_number_bounds
from skipc.compiler.verify.verify import verify_subnet
from skipc.runtime.bundle.folder import MANIFEST_FILE
from skipc.runtime.bundle.manifest import (
    AxisEntry,
    ChoiceEntry,
    NetworkEntry,
    OptionEntry,
    PartEntry,
    Provenance,
    Recipe,
)

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.family import Family
    from skipc.compiler.front import Part
    from skipc.compiler.network import Network
    from skipc.compiler.read import Supernet
    from skipc.compiler.verify.numerics import Case

Progress = Callable[[str], None]
"""Called with a short text when a step begins."""

BUNDLE_SUFFIX = ".skipc"


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
        residual_scale: How kept branches are scaled at test time; None for what the
            checkpoint says.
        survival: Survival probabilities by unit, where the network does not carry them.
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
    residual_scale: ResidualScale | None = None
    survival: Mapping[str, float] = field(default_factory=dict)
    norm: NormMode | None = None
    reestimate: str | None = None
    overwrite: bool = False
    recipe: Recipe = field(default_factory=lambda: Recipe("cpu"))
    profile: Path | None = None

    @property
    def scaling(self) -> Scaling:
        """How kept branches are scaled."""
        return Scaling(self.residual_scale, self.survival)


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What is to be built, checked as far as that can be without the network.

    Attributes:
        checkpoint: The checkpoint's file, for the bundle's name and provenance.
        path: The ``front.json`` with the configurations to build.
        front: What it says.
        norms: The norm statistics; None where they are estimated.
        out: The bundle's folder.
        options: Everything else.
    """

    checkpoint: Path
    path: Path
    front: Front
    norms: FamilyNorms | None
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
    out = bundle_path(checkpoint, options)
    said = read_front(front)
    norms = _known_norms(front, said, checkpoint, options)
    return BuildPlan(checkpoint, front, said, norms, out, options)


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
) -> Path:
    """Compiles a family and returns the bundle's folder.

    Args:
        plan: What is to be built.
        supernet: The network read from the plan's checkpoint.
        progress: Told what is being done.
        note: Told what the user should know of the result.

    Raises:
        CompileError: Something the user gave does not work; nothing is left behind.
    """
    from skipc.compiler.select.evaluator import EvaluationSettings
    from skipc.compiler.select.scoring import reestimated_norms, reestimation_samples

    options = plan.options
    options.scaling.check(supernet)
    given = data_cases(options.data, supernet.inputs, supernet.batch)
    samples = None
    if plan.norms is None:
        assert options.reestimate is not None
        samples = reestimation_samples(options.reestimate, supernet.inputs)
    progress("exporting the supernet")
    family = open_family(supernet, options.scaling)
    configurations = configurations_from_front(plan.front, family.offers, str(plan.path))
    norms = plan.norms
    if norms is None:
        assert samples is not None
        progress("re-estimating norms")
        settings = EvaluationSettings(options.norm or plan.front.norm)
        norms = reestimated_norms(
            supernet, family, configurations, settings, samples, options.scaling, note
        )
    family = family.with_norms(norms)
    with staged_folder(plan.out) as folder:
        _write_bundle(folder, plan, family, configurations, given, progress, note)
        carry_over(plan.out, folder, options.recipe.target)
    for text in family.notes:
        note(text)
    return plan.out


def _known_norms(
    path: Path, front: Front, checkpoint: Path, options: BuildOptions
) -> FamilyNorms | None:
    """Returns the norm statistics, of the front or none; None where they are estimated."""
    mode = options.norm or front.norm
    if mode is NormMode.SHARED:
        if options.reestimate is not None:
            raise CompileError(
                "--reestimate: nothing is estimated for --norm shared. Give --norm scalar or"
                " full."
            )
        return FamilyNorms(mode)
    if options.reestimate is not None:
        return None
    if mode is not front.norm:
        raise CompileError(
            f"--norm {mode.value}: the statistics of {path} are for {front.norm.value}. Give"
            " the data to estimate on with --reestimate, or run `skipc select` with this"
            " --norm."
        )
    return norms_of_front(path, front, checkpoint)


def bundle_path(checkpoint: Path, options: BuildOptions) -> Path:
    """Returns where the bundle goes.

    Raises:
        CompileError: Something is there already that must not be replaced, the folder
            around it is missing, or the checkpoint's path names no file.
        OSError: Nothing can be written there.
    """
    if not checkpoint.name:
        raise CompileError(
            f"{checkpoint}: is a directory, expected a file. Name the checkpoint inside it."
        )
    out = options.out or checkpoint.with_suffix(BUNDLE_SUFFIX)
    if out.is_symlink() or (out.exists() and not (out / MANIFEST_FILE).is_file()):
        raise CompileError(
            f"{out}: exists and is no bundle. Choose another folder with --out."
        )
    if out.exists() and not options.overwrite:
        raise CompileError(
            f"{out}: a bundle is already there. Pass --overwrite to replace it, or --out."
        )
    if not out.parent.is_dir():
        raise CompileError(f"--out {out}: the folder {out.parent} does not exist.")
    check_writable(out)
    return out


def _write_bundle(
    folder: Path,
    plan: BuildPlan,
    family: Family,
    configurations: tuple[Configuration, ...],
    given: list[Case],
    progress: Progress,
    note: Progress,
) -> None:
    options, full = plan.options, family.network
    inputs = random_cases(full.inputs, full.batch, whole_number_bounds(full.model)) + given
    first: dict[frozenset[str], str] = {}
    subnets: list[WrittenConfiguration] = []
    with WeightStoreWriter(folder / WEIGHTS_FILE) as store:
        for number, configuration in enumerate(configurations, start=1):
            name = configuration.name
            progress(f"pruning and verifying {name} ({number} of {len(configurations)})")
            subnet = family.subnet(_choices(configuration, options), name)
            network = _tolerating(subnet.network, options.tolerance)
            written = write_graph(subnet, name, store, folder)
            verified = verify_subnet(written.file, name, network, inputs)
            write_golden(folder / golden_outputs_file(name), verified.expected)
            parts = tuple(_entry(part) for part in configuration.parts)
            subnets.append(
                WrittenConfiguration(
                    name, parts, written, verified.verification, configuration.metrics
                )
            )
            same = first.setdefault(structure(network.model), name)
            if same != name:
                note(
                    f"{same!r} and {name!r} are the same network: they differ in what lies"
                    " within something that both leave out. Remove one of them from the front."
                )
    write_golden(folder / GOLDEN_INPUTS_FILE, inputs)
    progress("hashing")
    recipe = options.recipe
    if options.profile is not None:
        recipe = replace(recipe, profile=options.profile.name)
        write_whole(folder / options.profile.name, options.profile.read_bytes())
    write_manifest(
        folder,
        plan.out.name.removesuffix(BUNDLE_SUFFIX) or plan.out.name,
        _provenance(plan.checkpoint, family, _precision(family, configurations, options)),
        recipe,
        full,
        (NetworkEntry(full.name, _axes(family, configurations)),),
        subnets,
        store,
    )


def _axes(family: Family, configurations: tuple[Configuration, ...]) -> tuple[AxisEntry, ...]:
    """Returns what may be chosen of the axes that are asked for, for the manifest."""
    named = {key for one in configurations for part in one.parts for key in part.choices}
    found = []
    for axis in axes.AXES:
        offer = family.offers[axis.key]
        if axis.key in named or axis.genes(offer):
            options = (OptionEntry(o.name, o.parameters, o.macs) for o in offer.options)
            found.append(AxisEntry(axis.key, tuple(options)))
    return tuple(found)


def _entry(part: Part) -> PartEntry:
    """Returns what was chosen, for the manifest."""
    chosen = tuple(
        ChoiceEntry(
            axis.key,
            axis.taken(part.choices[axis.key]),
            axis.text(part.choices[axis.key]),
        )
        for axis in axes.AXES
        if axis.key in part.choices
    )
    return PartEntry(part.network, chosen)


def _choices(configuration: Configuration, options: BuildOptions) -> dict[str, object]:
    """Returns a configuration's choices, and what was asked for all of them."""
    (part,) = configuration.parts
    asked = {} if options.precision is None else {PrecisionAxis.key: options.precision}
    return {**asked, **part.choices}


def _tolerating(network: Network, relative: float | None) -> Network:
    """Returns the network with the tolerance that was asked for."""
    if relative is None:
        return network
    return replace(network, tolerance=replace(network.tolerance, relative=relative))


def _precision(
    family: Family, configurations: tuple[Configuration, ...], options: BuildOptions
) -> str:
    """Returns what the configurations compute in, ``mixed`` where they differ."""
    chosen = {_choices(one, options).get(PrecisionAxis.key) for one in configurations}
    if len(chosen) > 1:
        return "mixed"
    (found,) = chosen
    return graph_precision(family.network.model) if found is None else Precision(found).value


def _provenance(checkpoint: Path, family: Family, precision: str) -> Provenance:
    versions = {}
    for package in ("skipc", "torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    now = datetime.datetime.now(datetime.timezone.utc)
    return Provenance(
        created_utc=now.isoformat(timespec="seconds"),
        checkpoint=checkpoint.name,
        checkpoint_sha256=checkpoint_sha256(checkpoint),
        model=family.network.description,
        norm=family.norms.text,
        precision=precision,
        versions=versions,
    )

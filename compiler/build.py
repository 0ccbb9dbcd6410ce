"""The host stage as a whole: supernet and front in, portable bundle out."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skipc.compiler.axes.precision.caster import PrecisionCaster
from skipc.compiler.axes.precision.mode import Precision, graph_precision
from skipc.compiler.axes.residual_scale import ResidualScale, scale_branches
from skipc.compiler.axes.units import UnitSearch, find_units
from skipc.compiler.bundle.files import sha256_of, staged_folder, write_whole
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
from skipc.compiler.errors import CompileError, SupernetError, UnitError
from skipc.compiler.front import Configuration, configurations_from_front, read_front
from skipc.compiler.norms.mode import NormMode
from skipc.compiler.norms.of_front import norms_of_front
from skipc.compiler.norms.statistics import FamilyNorms
from skipc.compiler.read.export import SupernetGraph, export_supernet
from skipc.compiler.read.switching import SwitchingNetwork
from skipc.compiler.select.costs import Counter
from skipc.compiler.subnets import PrunedSubnets, SubnetSource
from skipc.compiler.targets import carry_over
from skipc.compiler.verify.golden import cases, whole_number_bounds
from skipc.compiler.verify.torch_reference import TorchReference
from skipc.compiler.verify.verify import TOLERANCE, default_tolerance, verify_subnet
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

    from skipc.compiler.front import Front
    from skipc.compiler.read import Supernet

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
            default of the precision and the outputs' type (see ``default_tolerance``).
        precision: What to compute in; None for the types that the graph has.
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


def build_bundle(
    supernet: Supernet,
    checkpoint: Path,
    front: Path,
    options: BuildOptions,
    progress: Progress = lambda _: None,
    note: Progress = lambda _: None,
) -> Path:
    """Compiles a family and returns the bundle's folder.

    Args:
        supernet: The network read from ``checkpoint``.
        checkpoint: Its file, for the bundle's name and provenance.
        front: The ``front.json`` with the configurations to build.
        options: Everything else.
        progress: Told what is being done.
        note: Told what the user should know of the result.

    Raises:
        CompileError: Something the user gave does not work; nothing is left behind.
    """
    # Not <: NaN must be refused.
    if options.tolerance is not None and not options.tolerance >= 0:
        raise CompileError(
            f"--tolerance {options.tolerance:g}: must be a number of at least 0, e.g."
            f" {TOLERANCE:g} of the output's range."
        )
    out = bundle_path(checkpoint, options)
    entries = read_front(front)
    progress("exporting the supernet")
    norms = _norms(supernet, front, entries, checkpoint, options, progress, note)
    source = open_subnets(supernet, options, norms)
    configurations = configurations_from_front(entries, source.search.units, str(front))
    _note_repeated(source, configurations, note)
    with staged_folder(out) as folder:
        caster = PrecisionCaster(options.precision)
        _write_bundle(
            folder, out, source, configurations, checkpoint, options, caster, progress
        )
        carry_over(out, folder, options.recipe.target)
    for kept in caster.kept:
        note(
            f"--precision {kept.precision}: {kept.name!r} and what reads it stay float32:"
            f" {kept.reason}."
        )
    return out


def open_subnets(
    supernet: Supernet, options: BuildOptions, norms: FamilyNorms
) -> SubnetSource:
    """Returns where the subnets of ``supernet`` come from.

    Raises:
        SupernetError: The network switches its norms itself and ``norms`` are given.
        UnitError: ... or a scale of its branches.
    """
    module = getattr(supernet, "module", None)
    if not isinstance(module, SwitchingNetwork):
        graph, search = open_supernet(supernet, options)
        return PrunedSubnets(graph, search, norms)
    from skipc.compiler.read import TorchSupernet
    from skipc.compiler.read.traced import TracedSubnets

    if norms.mode is not NormMode.SHARED:
        raise SupernetError(
            f"--norm {norms.mode.value}: {supernet.model} switches its norms with what it"
            " skips, so nothing is estimated anew. Use --norm shared."
        )
    if options.residual_scale is ResidualScale.ORIGINAL or options.survival:
        raise UnitError(
            f"--residual-scale: {supernet.model} is traced once per configuration and scales"
            " its branches itself. Leave --residual-scale and --survival out."
        )
    assert isinstance(supernet, TorchSupernet)
    return TracedSubnets(supernet)


def _norms(
    supernet: Supernet,
    path: Path,
    front: Front,
    checkpoint: Path,
    options: BuildOptions,
    progress: Progress,
    note: Progress,
) -> FamilyNorms:
    """Returns the norm statistics: none, the front's, or estimated now."""
    said = front.norm or NormMode.SHARED
    mode = options.norm or said
    if mode is NormMode.SHARED:
        if options.reestimate is not None:
            raise CompileError(
                "--reestimate: nothing is estimated for --norm shared. Give --norm scalar or"
                " full."
            )
        return FamilyNorms(mode)
    if options.reestimate is None:
        if mode is not said:
            raise CompileError(
                f"--norm {mode.value}: the statistics of {path} are for {said.value}. Give the"
                " data to estimate on with --reestimate, or run `skipc select` with this"
                " --norm."
            )
        return norms_of_front(path, front, checkpoint)
    from skipc.compiler.select.reestimating import reestimated_norms

    progress("re-estimating norms")
    scale = residual_scale_of(supernet, options.residual_scale)
    return reestimated_norms(
        supernet, front, mode, options.reestimate, scale, options.survival, note
    )


def open_supernet(
    supernet: Supernet, options: BuildOptions | None = None
) -> tuple[SupernetGraph, UnitSearch]:
    """Returns the supernet's graph and its units, branches scaled as ``options`` say."""
    chosen = options or BuildOptions()
    graph = export_supernet(supernet)
    search = find_units(graph.model)
    if residual_scale_of(supernet, chosen.residual_scale) is ResidualScale.ORIGINAL:
        graph = scale_branches(graph, search.units, chosen.survival)
    elif chosen.survival:
        raise UnitError("--survival has no effect without --residual-scale original.")
    if isinstance(graph.reference, TorchReference):
        graph.reference.check_joins(search.units)
    return graph, search


def residual_scale_of(supernet: Supernet, asked: ResidualScale | None) -> ResidualScale:
    """Returns how kept branches are scaled: as asked, else as the checkpoint says."""
    return asked or ResidualScale(getattr(supernet, "residual_scale", ResidualScale.INVERTED))


def bundle_path(checkpoint: Path, options: BuildOptions) -> Path:
    """Returns where the bundle goes.

    Raises:
        CompileError: Something is there already that must not be replaced, or the
            checkpoint's path names no file.
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
    return out


def _note_repeated(
    source: SubnetSource, configurations: tuple[Configuration, ...], note: Progress
) -> None:
    """Tells of configurations that differ in units that lie within a skipped one only."""
    if not isinstance(source, PrunedSubnets):
        return
    units = source.search.units
    counter = Counter(source.supernet.model, units)
    first: dict[frozenset[int], str] = {}
    for configuration in configurations:
        run = counter.count(tuple(unit in configuration.units for unit in units)).run
        same = first.setdefault(run, configuration.name)
        if same != configuration.name:
            note(
                f"{same!r} and {configuration.name!r} are the same network: they differ in"
                " units that lie within a skipped one. Remove one of them from the front."
            )


def _write_bundle(
    folder: Path,
    out: Path,
    source: SubnetSource,
    configurations: tuple[Configuration, ...],
    checkpoint: Path,
    options: BuildOptions,
    caster: PrecisionCaster,
    progress: Progress,
) -> None:
    graph = source.supernet
    inputs = cases(graph.inputs, graph.batch, whole_number_bounds(graph.model), options.data)
    tolerance = options.tolerance
    if tolerance is None:
        tolerance = default_tolerance(graph.outputs, options.precision)
    subnets: list[WrittenConfiguration] = []
    with WeightStoreWriter(folder / WEIGHTS_FILE) as store:
        for number, configuration in enumerate(configurations, start=1):
            place = f"({number} of {len(configurations)})"
            progress(f"pruning and verifying {configuration.name} {place}")
            subnet = caster.subnet(source.subnet(configuration))
            written = write_graph(subnet, configuration.name, store, folder)
            reference = source.reference(configuration, folder)
            verified = verify_subnet(
                written.file, configuration, reference, inputs, tolerance, options.precision
            )
            write_golden(folder / golden_outputs_file(configuration.name), verified.expected)
            subnets.append(
                WrittenConfiguration(
                    configuration.name,
                    (_part(configuration),),
                    written,
                    verified.verification,
                    configuration.metrics,
                )
            )
    write_golden(folder / GOLDEN_INPUTS_FILE, inputs)
    progress("hashing")
    name = out.name.removesuffix(BUNDLE_SUFFIX) or out.name
    provenance = _provenance(checkpoint, source, options.precision)
    recipe = options.recipe
    if options.profile is not None:
        recipe = replace(recipe, profile=options.profile.name)
        write_whole(folder / options.profile.name, options.profile.read_bytes())
    options_of_skip = tuple(
        OptionEntry(unit.name, unit.parameters, unit.macs) for unit in source.search.units
    )
    networks = (NetworkEntry("", (AxisEntry("skip", options_of_skip),)),)
    write_manifest(folder, name, provenance, recipe, graph, networks, subnets, store)


def _part(configuration: Configuration) -> PartEntry:
    skipped = tuple(unit.name for unit in configuration.units)
    return PartEntry("", (ChoiceEntry("skip", skipped, f"{len(skipped)} skipped"),))


def _provenance(
    checkpoint: Path, source: SubnetSource, precision: Precision | None
) -> Provenance:
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
        checkpoint_sha256=sha256_of(checkpoint),
        model=source.supernet.description,
        norm=source.norm,
        precision=precision.value if precision else graph_precision(source.supernet.model),
        versions=versions,
    )

"""The search problem: a network, its units, data, and what scores configurations on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from skipc.compiler import axes
from skipc.compiler.axes.axis import first_names
from skipc.compiler.axes.precision import PrecisionAxis
from skipc.compiler.axes.resolution import ResolutionAxis
from skipc.compiler.axes.skip import SkipAxis, units_of
from skipc.compiler.axes.width import WidthAxis, widths_of
from skipc.compiler.bundle.files import checkpoint_sha256
from skipc.compiler.calibration import Calibration, calibration_cases
from skipc.compiler.errors import SelectError, SupernetError
from skipc.compiler.family import Family, open_family
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.graph.index import is_inside
from skipc.compiler.graph.passes.scale_norms import check_homogeneous
from skipc.compiler.heads import read_heads
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.residual_scale import Scaling
from skipc.compiler.select.batched import evaluated_family
from skipc.compiler.select.data import Data, read_data
from skipc.compiler.select.evaluation_cache import EvaluationKey
from skipc.compiler.select.evaluator import EvaluationSettings
from skipc.compiler.select.groups import Groups
from skipc.compiler.select.metrics import Metric, check_outputs, find_metric
from skipc.compiler.select.space import Space
from skipc.compiler.targets import builder_for
from skipc.profiles import load_profile
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.network import Network
    from skipc.compiler.norms.statistics import FamilyNorms
    from skipc.compiler.read import Supernet
    from skipc.compiler.select.options import SelectOptions
    from skipc.compiler.select.samples import Samples


class Notes(Protocol):
    """Where the selection tells what it does."""

    def __call__(self, text: str) -> None:
        """Begins a step."""
        ...

    def note(self, text: str) -> None:
        """Tells something that stays on the screen."""
        ...

    def advance(self, done: int, total: int, text: str = "") -> None:
        """Tells how much of the step is done."""
        ...


@dataclass(frozen=True)
class Problem:
    """What a search is about.

    Attributes:
        family: The network, and what its axes offer.
        space: What may be chosen.
        data: The labelled data.
        metric: What is maximised.
        mode: How norms adapt.
        groups: Evaluates configurations in this process.
        key: What the scores depend on, for the cache.
        evaluated: The family that is evaluated with: of the same network, in batches.
        rows: Samples per forward, where the batch is dynamic.
        scores: Yields the score of each configuration of a batch, in an order of its own.
    """

    family: Family
    space: Space
    data: Data
    metric: Metric
    mode: NormMode
    groups: Groups
    key: EvaluationKey
    evaluated: Family
    rows: int
    scores: Callable[[Sequence[Genes], Samples], Iterator[tuple[Genes, float]]]

    def norms(self, configurations: Mapping[str, Genes]) -> FamilyNorms:
        """Returns the norm statistics that the scores were reached with, by name."""
        return self.groups.norms(
            {name: self.family.decoded(genes) for name, genes in configurations.items()}
        )


def open_problem(
    supernet: Supernet,
    checkpoint: Path,
    options: SelectOptions,
    notes: Notes,
    name: str = "",
    data: Data | None = None,
) -> Problem:
    """Returns the search problem.

    Args:
        supernet: The network.
        checkpoint: Its file, which heads may lie beside.
        options: How to select.
        notes: Told what is being done.
        name: The network's, where there are several.
        data: The data, where it is read already.

    Raises:
        SelectError: The data, the metric or ``--keep`` do not fit the network, or it is the
            only one and has nothing to skip.
        HeadsError: Its heads are damaged, or another checkpoint's.
        SupernetError: The network cannot be exported, or not with this ``--norm``.
    """
    scaling = options.scaling or Scaling()
    scaling.check(supernet)
    if data is None:
        notes("reading the data")
        data = read_data(options.data, supernet.inputs, notes.note, supernet.dimensions)
    metric = find_metric(options.metric, data.parts.selection)
    notes("exporting the network")
    heads = read_heads(checkpoint) if options.exits else ()
    searched = frozenset({SkipAxis.key, *options.axes})
    calibration = None
    if PrecisionAxis.key in options.axes:
        profile = load_profile(options.target)
        samples = dict(data.parts.reestimate.inputs)
        cases = calibration_cases(samples, supernet.inputs, supernet.dimensions)
        calibration = Calibration(cases, builder_for(profile).int8_form(profile))
    family = open_family(supernet, scaling, heads, name, calibration=calibration)
    family = replace(family, searched=searched)
    network = family.network
    space = searched_space(family, options, notes.note)
    if not name:
        _check_choices(family, space)
    check_outputs(metric, data, network.outputs)
    mode = _mode(network, options, notes)
    settings = EvaluationSettings(mode, options.rows, options.threads, options.memory_bytes)
    notes("preparing the evaluation")
    evaluated = evaluated_family(supernet, family, settings.rows, scaling, notes.note)
    groups = Groups(evaluated, data.parts.reestimate, settings)
    scale = scaling.of(supernet).value
    survival = ",".join(f"{unit}={p:g}" for unit, p in sorted(scaling.survival.items()))
    key = EvaluationKey(
        checkpoint_sha256=checkpoint_sha256(checkpoint),
        data_sha256=data.sha256,
        norm=mode.value,
        metric=metric.name,
        residual_scale=f"{scale} {survival}".strip(),
        genes=space.genes,
    )

    def scores(batch: Sequence[Genes], samples: Samples) -> Iterator[tuple[Genes, float]]:
        for genes, outputs in groups.outputs(batch, samples):
            yield genes, metric.score(outputs, samples.targets)

    return Problem(
        *(family, space, data, metric, mode, groups, key),
        *(evaluated, settings.rows, scores),
    )


def searched_space(
    family: Family, options: SelectOptions, note: Callable[[str], None]
) -> Space:
    """Returns what may be chosen: not what is kept, nor the details of units but those named.

    Raises:
        SelectError: An option names no unit, or an axis of which nothing may be decided.
    """
    _check_axes(family, options)
    units, constraints = units_of(family), options.constraints
    names, skips = units.names, SkipAxis.key in options.axes
    kept = _named("--keep", constraints.keep, names) if skips else set(names)
    details = units.details - _named("--also", constraints.also, sorted(units.details))
    for alike in widths_of(family).alike if WidthAxis.key in options.axes else ():
        note(f"width: {alike.text}")
    for gene in family.genes:
        if gene.axis == ResolutionAxis.key:
            note(f"resolution: {gene.name}")
    if details and skips:
        note(
            f"left alone: {len(details)} units that are details of others"
            f" ({first_names(sorted(details))}); --also UNIT tries one"
        )
    genes = family.genes
    free = tuple(
        place
        for place, gene in enumerate(genes)
        if gene.axis != SkipAxis.key or gene.name not in kept | details
    )
    space = Space(genes, free)
    if family.network.switching is None:
        return space
    return replace(space, stages=tuple((unit,) for unit in space.units if unit in free))


def _check_axes(family: Family, options: SelectOptions) -> None:
    """Raises ``SelectError`` where nothing of an axis that is named may be decided."""
    for axis in axes.AXES:
        offer = family.offers[axis.key]
        if axis.key in options.axes and axis.key != SkipAxis.key and not axis.genes(offer):
            raise SelectError(
                f"--axes {','.join(options.axes)}: this network offers nothing to decide for"
                f" {axis.key!r} ({offer.nothing}). Leave it out."
            )


def _check_choices(family: Family, space: Space) -> None:
    """Raises ``SelectError`` where nothing may be chosen of the only network."""
    if not space.free:
        names = units_of(family).names
        why = "all are kept with --keep" if names else "`skipc units --all` says why"
        raise SelectError(f"there is no unit that may be skipped ({why}): nothing to select.")


def _named(option: str, paths: tuple[str, ...], names: Sequence[str]) -> set[str]:
    """Returns the names that an option's paths are, or that lie inside of them."""
    found: set[str] = set()
    for path in paths:
        inside = {name for name in names if path and is_inside(name, path)}
        if not inside:
            modules = {name.rpartition(".")[0] for name in names} - {""}
            raise SelectError(
                f"{option} {path!r}: no such unit. {choices_text(path, {*names, *modules})}"
            )
        found |= inside
    return found


def _mode(network: Network, options: SelectOptions, notes: Notes) -> NormMode:
    """Returns the norm mode: what was asked for, else what suits the network."""
    if network.switching is not None:
        if options.norm not in (None, NormMode.SHARED):
            raise SupernetError(
                f"--norm {options.norm.value}: the network switches its norms with what it"
                " skips, so nothing is estimated anew. Leave --norm out."
            )
        return NormMode.SHARED
    model = network.model
    norms = find_norms(model)
    if options.norm is NormMode.SCALAR:
        check_homogeneous(model)
    if not norms:
        if options.norm not in (None, NormMode.SHARED):
            notes.note(
                f"--norm {options.norm.value}: the network has no batch norm (in an ONNX file"
                " it may have been folded), so there is nothing to estimate."
            )
        return NormMode.SHARED
    if options.norm is not None:
        return options.norm
    try:
        check_homogeneous(model)
    except SupernetError as cause:
        notes.note(f"norms: full, since scalar does not fit this network. {cause}")
        return NormMode.FULL
    notes.note(f"norms: scalar, {len(norms)} batch norms are re-estimated (see --norm)")
    return NormMode.SCALAR

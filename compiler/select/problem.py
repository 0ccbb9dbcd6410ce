"""The search problem: a network, its units, data, and what scores configurations on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from skipc.compiler.axes.axis import Gene
from skipc.compiler.axes.skip import units_of
from skipc.compiler.axes.units import find_units
from skipc.compiler.bundle.files import sha256_of
from skipc.compiler.errors import SelectError, SupernetError
from skipc.compiler.family import Family, open_family
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.graph.index import is_inside
from skipc.compiler.graph.passes.scale_norms import check_homogeneous
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.read.export import export_supernet
from skipc.compiler.residual_scale import ResidualScale, Scaling, scaled
from skipc.compiler.select.batched import batched_graph
from skipc.compiler.select.data import Data, read_data
from skipc.compiler.select.evaluation_cache import EvaluationKey
from skipc.compiler.select.evaluator import EvaluationSettings, Evaluator
from skipc.compiler.select.metrics import Metric, find_metric
from skipc.compiler.select.scoring import EvaluatorScorer, Scorer, TracedScorer
from skipc.compiler.select.space import KEY, Space
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.axes.units import Unit
    from skipc.compiler.network import Network
    from skipc.compiler.read import Supernet
    from skipc.compiler.select.options import SelectOptions


class Notes(Protocol):
    """Where the selection tells what it does."""

    def step(self, text: str) -> None:
        """Begins a step."""
        ...

    def note(self, text: str) -> None:
        """Tells something that stays on the screen."""
        ...

    def evaluated(self, done: int, budget: int, hypervolume: float) -> None:
        """Tells that a configuration was evaluated."""
        ...


@dataclass(frozen=True)
class Problem:
    """What a search is about.

    Attributes:
        family: The network, and what its axes offer.
        space: What may be skipped.
        data: The labelled data.
        metric: What is maximised.
        mode: How norms adapt.
        scorer: Scores configurations.
        key: What the scores depend on, for the cache.
    """

    family: Family
    space: Space
    data: Data
    metric: Metric
    mode: NormMode
    scorer: Scorer
    key: EvaluationKey

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units in network order."""
        return units_of(self.family).units

    def skipped(self, genes: Genes) -> tuple[Unit, ...]:
        """Returns the units that a configuration skips."""
        return tuple(unit for unit, value in zip(self.units, genes, strict=True) if value)


def open_problem(
    supernet: Supernet, checkpoint: Path, options: SelectOptions, notes: Notes
) -> Problem:
    """Returns the search problem.

    Raises:
        SelectError: The data, the metric or ``--keep`` do not fit the network, or it has
            nothing to skip.
        SupernetError: The network cannot be exported, or not with this ``--norm``.
    """
    notes.step("exporting the network")
    scaling = Scaling(options.residual_scale, options.survival)
    family = open_family(supernet, scaling)
    network = family.network
    units = units_of(family).units
    space = _space(units, options.constraints.keep, network.switching is not None)
    notes.step("reading the data")
    data = read_data(options.data, network.inputs)
    metric = find_metric(options.metric, data.parts.selection, network.outputs)
    mode = _mode(network, options, notes)
    settings = EvaluationSettings(mode, options.rows, options.threads, options.memory_bytes)
    notes.step("preparing the evaluation")
    scorer = _scorer(supernet, network, data, metric, settings, scaling, notes)
    scale = scaling.of(supernet).value
    survival = ",".join(f"{unit}={p:g}" for unit, p in sorted(options.survival.items()))
    key = EvaluationKey(
        checkpoint_sha256=sha256_of(checkpoint),
        data_sha256=data.sha256,
        norm=mode.value,
        metric=metric.name,
        residual_scale=f"{scale} {survival}".strip(),
        genes=space.genes,
    )
    return Problem(family, space, data, metric, mode, scorer, key)


def _space(units: tuple[Unit, ...], keep: tuple[str, ...], own_stages: bool) -> Space:
    kept: set[int] = set()
    names = tuple(unit.name for unit in units)
    for path in keep:
        found = {i for i, unit in enumerate(units) if is_inside(unit.name, path)}
        if not path or not found:
            modules = {name.rpartition(".")[0] for name in names} - {""}
            raise SelectError(
                f"--keep {path!r}: no such unit. {choices_text(path, {*names, *modules})}"
            )
        kept |= found
    free = tuple(index for index in range(len(units)) if index not in kept)
    if not free:
        why = "all are kept with --keep" if units else "`skipc units --all` says why"
        raise SelectError(f"there is no unit that may be skipped ({why}): nothing to select.")
    genes = tuple(Gene(KEY, name, 2) for name in names)
    return Space(genes, free, tuple((index,) for index in free) if own_stages else ())


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


def _scorer(
    supernet: Supernet,
    network: Network,
    data: Data,
    metric: Metric,
    settings: EvaluationSettings,
    scaling: Scaling,
    notes: Notes,
) -> Scorer:
    original = scaling.of(supernet) is ResidualScale.ORIGINAL
    plain = export_supernet(supernet) if original else network
    graph = batched_graph(supernet, plain, settings.rows, notes.note)
    if graph.switching is not None:
        return TracedScorer(graph.switching, settings, metric)
    if graph is not network:
        graph = scaled(graph, supernet, scaling)
    units = find_units(graph.model).units
    evaluator = Evaluator(graph, units, data.parts.reestimate, settings)
    return EvaluatorScorer(evaluator, settings.mode, metric)

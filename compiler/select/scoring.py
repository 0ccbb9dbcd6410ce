"""Scores of configurations: those that differ in units alone are evaluated together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from skipc.compiler import axes
from skipc.compiler.axes.skip import SkipAxis, units_of
from skipc.compiler.norms.statistics import FamilyNorms, NormMode
from skipc.compiler.select.batched import evaluated_family
from skipc.compiler.select.data import DataOptions, read_data
from skipc.compiler.select.evaluator import EvaluationSettings, Evaluator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.family import Family
    from skipc.compiler.front import Configuration
    from skipc.compiler.read import Supernet
    from skipc.compiler.residual_scale import Scaling
    from skipc.compiler.select.evaluation_cache import EvaluationCache
    from skipc.compiler.select.metrics import Metric
    from skipc.compiler.select.samples import Samples
    from skipc.runtime.bundle.tensors import TensorSpec

    Choices = Mapping[str, object]
    Scores = Iterator[tuple[Genes, float]]

_Key = tuple[tuple[str, ...], ...]


class Scorer(Protocol):
    """Scores configurations on data."""

    def scores(self, batch: Sequence[Genes], samples: Samples) -> Scores:
        """Yields each configuration of ``batch`` with its score, in an order of its own."""
        ...

    def norms(self, configurations: Mapping[str, Genes]) -> FamilyNorms:
        """Returns the norm statistics that the scores were reached with, by name."""
        ...


class Groups:
    """Groups configurations by every choice but what they skip: a group is one network.

    A network that switches more than its units holds one configuration, and nothing is
    shared: then what is skipped tells groups apart, too.

    Args:
        family: The network to evaluate with.
        reestimate: What norm statistics are estimated on.
        settings: How to evaluate.
    """

    def __init__(
        self, family: Family, reestimate: Samples, settings: EvaluationSettings
    ) -> None:
        self._family = family
        self._reestimate = reestimate
        self._settings = settings
        self._units = () if family.network.switching is not None else units_of(family).units
        self._known: dict[_Key, Evaluator] = {}

    def split(self, choices: Choices) -> tuple[_Key, Genes]:
        """Returns the group of a configuration, and which of its units it skips."""
        taken = {
            axis.key: axis.taken(choices[axis.key])
            for axis in axes.AXES
            if axis.key in choices
        }
        skipped = set(taken.pop(SkipAxis.key, ())) if self._units else set()
        key = tuple((axis, *names) for axis, names in taken.items() if names)
        return key, tuple(int(unit.name in skipped) for unit in self._units)

    def evaluator(self, choices: Choices) -> Evaluator:
        """Returns the evaluator of a configuration's group."""
        key, _ = self.split(choices)
        if key in self._known:
            return self._known[key]
        others = {a: c for a, c in choices.items() if a != SkipAxis.key or not self._units}
        network = self._family.structure(others)
        base = self.evaluator({}).base_statistics() if key and self._units else None
        found = Evaluator(network, self._units, self._reestimate, self._settings, base)
        # Of what is evaluated once and holds no statistics nothing is kept.
        if self._units:
            self._known[key] = found
        return found

    def norms(self, configurations: Mapping[str, Choices]) -> FamilyNorms:
        """Returns the re-estimated statistics of configurations, by their names.

        Scalars are relative to the full network in every group, so that all share kernels.
        """
        mode = self._settings.mode
        if mode is NormMode.SHARED:
            return FamilyNorms(mode)
        found = {
            name: self.evaluator(choices).statistics(self.split(choices)[1])
            for name, choices in configurations.items()
        }
        return FamilyNorms(mode, self.evaluator({}).base_statistics(), found)


class EvaluatorScorer:
    """Scores in this process."""

    def __init__(self, family: Family, groups: Groups, metric: Metric) -> None:
        self._family = family
        self._groups = groups
        self._metric = metric

    def scores(self, batch: Sequence[Genes], samples: Samples) -> Scores:
        """Yields the scores group by group, in the order of the walk."""
        groups: dict[_Key, dict[Genes, Genes]] = {}
        for genes in batch:
            key, skipped = self._groups.split(self._family.decoded(genes))
            groups.setdefault(key, {})[skipped] = genes
        for members in groups.values():
            some = next(iter(members.values()))
            evaluator = self._groups.evaluator(self._family.decoded(some))
            for skipped, outputs in evaluator.outputs(list(members), samples):
                yield members[skipped], self._metric.score(outputs, samples.targets)

    def answers(self, samples: Samples) -> Mapping[str, NDArray[Any]]:
        """Returns the full network's outputs, a row per sample."""
        _, full = self._groups.split({})
        ((_, outputs),) = self._groups.evaluator({}).outputs([full], samples)
        return outputs

    def norms(self, configurations: Mapping[str, Genes]) -> FamilyNorms:
        """Returns the re-estimated statistics."""
        return self._groups.norms(
            {name: self._family.decoded(genes) for name, genes in configurations.items()}
        )


def reestimation_samples(data: str, inputs: tuple[TensorSpec, ...]) -> Samples:
    """Returns the samples that ``skipc select`` estimates on, given the same data.

    Args:
        data: What ``--data`` of ``skipc select`` takes; its targets are not used.
        inputs: The network's inputs.

    Raises:
        SelectError: The data cannot be read or does not fit the network.
    """
    return read_data(DataOptions(data), inputs).parts.reestimate


def reestimated_norms(
    supernet: Supernet,
    family: Family,
    configurations: Sequence[Configuration],
    settings: EvaluationSettings,
    samples: Samples,
    scaling: Scaling,
    note: Callable[[str], None],
) -> FamilyNorms:
    """Returns the statistics of a front's configurations, for ``skipc build --reestimate``.

    Args:
        supernet: The network.
        family: What was exported of it.
        configurations: The configurations.
        settings: How to evaluate, and how norms adapt.
        samples: What to estimate on; see ``reestimation_samples``.
        scaling: How kept branches are scaled.
        note: Told in one line what makes the estimation slow.
    """
    evaluated = evaluated_family(supernet, family, settings.rows, scaling, note)
    groups = Groups(evaluated, samples, settings)
    return groups.norms({one.name: one.parts[0].choices for one in configurations})


def cached_scores(
    scorer: Scorer, cache: EvaluationCache, samples: Samples
) -> Callable[[Sequence[Genes]], Scores]:
    """Returns a function that scores through the cache, what is known first."""

    def scores(batch: Sequence[Genes]) -> Scores:
        new = [genes for genes in batch if genes not in cache.scores]
        yield from ((genes, cache.scores[genes]) for genes in batch if genes in cache.scores)
        for genes, score in scorer.scores(new, samples) if new else ():
            cache.add(genes, score)
            yield genes, score

    return scores

"""Scores of configurations: by the evaluator, or of a network that is traced for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from skipc.compiler.norms.mode import NormMode
from skipc.compiler.norms.statistics import FamilyNorms
from skipc.compiler.select.evaluator import EvaluationSettings, Evaluator
from skipc.compiler.select.family_norms import family_norms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from skipc.compiler.read.traced import TracedSubnets
    from skipc.compiler.select.candidates import Bits
    from skipc.compiler.select.evaluation_cache import EvaluationCache
    from skipc.compiler.select.metrics import Metric
    from skipc.compiler.select.samples import Samples

    Scores = Iterator[tuple[Bits, float]]


class Scorer(Protocol):
    """Scores configurations on data."""

    def scores(self, batch: Sequence[Bits], samples: Samples) -> Scores:
        """Yields each configuration of ``batch`` with its score, in an order of its own."""
        ...

    def norms(self, configurations: Mapping[str, Bits]) -> FamilyNorms:
        """Returns the norm statistics that the scores were reached with, by name."""
        ...


class EvaluatorScorer:
    """Scores through an ``Evaluator``."""

    def __init__(self, evaluator: Evaluator, mode: NormMode, metric: Metric) -> None:
        self._evaluator = evaluator
        self._mode = mode
        self._metric = metric

    def scores(self, batch: Sequence[Bits], samples: Samples) -> Scores:
        """Yields the scores in the order of the walk."""
        for bits, outputs in self._evaluator.outputs(batch, samples):
            yield bits, self._metric.score(outputs, samples.targets)

    def norms(self, configurations: Mapping[str, Bits]) -> FamilyNorms:
        """Returns the re-estimated statistics."""
        return family_norms(self._evaluator, self._mode, configurations)


class TracedScorer:
    """Scores a network that is traced once per configuration; nothing is shared."""

    def __init__(
        self,
        subnets: TracedSubnets,
        settings: EvaluationSettings,
        metric: Metric,
    ) -> None:
        self._subnets = subnets
        self._settings = settings
        self._metric = metric
        self._names = tuple(unit.name for unit in subnets.search.units)

    def scores(self, batch: Sequence[Bits], samples: Samples) -> Scores:
        """Yields the scores in the order of ``batch``."""
        for bits in batch:
            skipped = (name for name, bit in zip(self._names, bits, strict=True) if bit)
            graph = self._subnets.graph(frozenset(skipped))
            evaluator = Evaluator(graph, (), samples, self._settings)
            for _, outputs in evaluator.outputs([()], samples):
                yield bits, self._metric.score(outputs, samples.targets)

    def norms(self, configurations: Mapping[str, Bits]) -> FamilyNorms:
        """Returns none: the network switches its norms itself."""
        return FamilyNorms(NormMode.SHARED)


def cached_scores(
    scorer: Scorer, cache: EvaluationCache, samples: Samples
) -> Callable[[Sequence[Bits]], Scores]:
    """Returns a function that scores through the cache, what is known first."""

    def scores(batch: Sequence[Bits]) -> Scores:
        new = [bits for bits in batch if bits not in cache.scores]
        yield from ((bits, cache.scores[bits]) for bits in batch if bits in cache.scores)
        for bits, score in scorer.scores(new, samples) if new else ():
            cache.add(bits, score)
            yield bits, score

    return scores

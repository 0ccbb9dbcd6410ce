"""Scores of configurations: by the evaluator, or of a network that is traced for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from skipc.compiler.norms.statistics import FamilyNorms, NormMode
from skipc.compiler.select.evaluator import EvaluationSettings, Evaluator
from skipc.compiler.select.family_norms import family_norms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.network import Switching
    from skipc.compiler.select.evaluation_cache import EvaluationCache
    from skipc.compiler.select.metrics import Metric
    from skipc.compiler.select.samples import Samples

    Scores = Iterator[tuple[Genes, float]]


class Scorer(Protocol):
    """Scores configurations on data."""

    def scores(self, batch: Sequence[Genes], samples: Samples) -> Scores:
        """Yields each configuration of ``batch`` with its score, in an order of its own."""
        ...

    def norms(self, configurations: Mapping[str, Genes]) -> FamilyNorms:
        """Returns the norm statistics that the scores were reached with, by name."""
        ...


class EvaluatorScorer:
    """Scores through an ``Evaluator``."""

    def __init__(self, evaluator: Evaluator, mode: NormMode, metric: Metric) -> None:
        self._evaluator = evaluator
        self._mode = mode
        self._metric = metric

    def scores(self, batch: Sequence[Genes], samples: Samples) -> Scores:
        """Yields the scores in the order of the walk."""
        for genes, outputs in self._evaluator.outputs(batch, samples):
            yield genes, self._metric.score(outputs, samples.targets)

    def norms(self, configurations: Mapping[str, Genes]) -> FamilyNorms:
        """Returns the re-estimated statistics."""
        return family_norms(self._evaluator, self._mode, configurations)


class TracedScorer:
    """Scores a network that is traced once per configuration; nothing is shared."""

    def __init__(
        self,
        switching: Switching,
        settings: EvaluationSettings,
        metric: Metric,
    ) -> None:
        self._switching = switching
        self._settings = settings
        self._metric = metric
        self._names = switching.names

    def scores(self, batch: Sequence[Genes], samples: Samples) -> Scores:
        """Yields the scores in the order of ``batch``."""
        for genes in batch:
            skipped = (name for name, value in zip(self._names, genes, strict=True) if value)
            network = self._switching.without(frozenset(skipped))
            evaluator = Evaluator(network, (), samples, self._settings)
            for _, outputs in evaluator.outputs([()], samples):
                yield genes, self._metric.score(outputs, samples.targets)

    def norms(self, configurations: Mapping[str, Genes]) -> FamilyNorms:
        """Returns none: the network switches its norms itself."""
        return FamilyNorms(NormMode.SHARED)


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

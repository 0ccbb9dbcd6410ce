"""``skipc select`` as a whole: a network and data in, a front out."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.select.archive import Archive, EvaluationsSpentError
from skipc.compiler.select.choosing import choose, names_of
from skipc.compiler.select.evaluation_cache import EvaluationCache
from skipc.compiler.select.exits import with_early
from skipc.compiler.select.labels import warn_of_labels
from skipc.compiler.select.pareto import ReferencePoint, front_of, hypervolume
from skipc.compiler.select.pricing import Prices, price
from skipc.compiler.select.problem import Notes, Problem, open_problem
from skipc.compiler.select.searches import find_search
from skipc.compiler.select.searches.stepwise import greedy_evaluations
from skipc.compiler.select.space import MAX_CONFIGURATIONS, Candidate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.norms.statistics import FamilyNorms
    from skipc.compiler.read import ModelOptions, Supernet
    from skipc.compiler.select.archive import Score
    from skipc.compiler.select.exits import Early
    from skipc.compiler.select.options import CostKind, SelectOptions
    from skipc.compiler.select.searches import Search
    from skipc.compiler.select.space import Space

_COMPARING_S = 30.0
"""The rest is evaluated for that share if it takes no longer at the search's pace.

It takes a fraction of that: all configurations together share more than a search's rounds.
"""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One configuration of the front.

    Attributes:
        name: Its name.
        genes: What it is.
        score: Its metric on the report part.
        selection_score: ... and on the part that it was selected on.
        macs: Multiply-accumulate operations, batch 1.
        parameters: Trained parameters.
        predicted_ms: Latency from per-unit costs; None where nothing is known of the target.
        measured_ms: Latency measured; None where the target does not run here.
    """

    name: str
    genes: Genes
    score: float
    selection_score: float
    macs: int
    parameters: int
    predicted_ms: float | None
    measured_ms: float | None


@dataclass(frozen=True)
class Selection:
    """What was found.

    Attributes:
        problem: The search problem.
        chosen: The front, the full network first.
        early: What answers before its network's end.
        candidates: Everything evaluated.
        norms: The chosen configurations' norm statistics.
        cost: What was minimised.
        budget: How many configurations could be evaluated.
        hypervolume: Share of the box that the front of all evaluated covers.
        exhaustive_share: That over the exhaustive front's, where it is known.
        interrupted: Whether the search was ended by Ctrl-C.
    """

    problem: Problem
    chosen: tuple[Chosen, ...]
    early: tuple[Early, ...]
    candidates: tuple[Candidate, ...]
    norms: FamilyNorms
    cost: CostKind
    budget: int
    hypervolume: float
    exhaustive_share: float | None
    interrupted: bool


def select(
    supernet: Supernet,
    checkpoint: Path,
    model: ModelOptions,
    options: SelectOptions,
    notes: Notes,
) -> Selection:
    """Returns the near-Pareto configurations of a network, read from ``checkpoint``.

    Ctrl-C during the search ends the search alone: what it found so far is returned. The
    workers of a Ray cluster read the checkpoint again, as ``model`` says.

    Raises:
        SelectError: The data, the options or the constraints do not fit the network.
        SupernetError: The network cannot be exported.
        ExtraMissingError: Ray is asked for and not installed.
    """
    search = find_search(options.search)
    if options.ray is not None:
        from skipc.compiler.select.ray_scoring import check_cluster, on_ray

        check_cluster(options.ray)
    problem = open_problem(supernet, checkpoint, options, notes)
    warn_of_labels(problem, checkpoint, notes)
    if options.ray is None:
        return _searched(problem, search, options, notes)
    notes("starting the workers")
    with on_ray(problem, checkpoint, model, options) as spread:
        return _searched(spread, search, options, notes)


def _searched(
    problem: Problem, search: Search, options: SelectOptions, notes: Notes
) -> Selection:
    prices = price(problem, options, notes)
    space = problem.space
    budget = options.evaluations or default_evaluations(options.search, space)
    interrupted = False
    with _scores(problem, options, notes) as (score, known):
        reference = _reference(problem, prices, score)

        def evaluated(done: int, budget: int, hypervolume: float) -> None:
            notes.advance(done, budget, f"hypervolume {hypervolume:.4f}")

        archive = Archive(score, prices.cost, reference, budget, evaluated)
        notes(f"searching ({options.search}, at most {budget} configurations)")
        before, start_s = set(known), time.monotonic()
        try:
            archive([space.full])
            search(space, archive, options.data.seed)
        except EvaluationsSpentError:
            pass
        except KeyboardInterrupt:
            if space.full not in archive.candidates:
                raise
            interrupted = True
        new = sum(genes not in before for genes in archive.candidates)
        each_s = (time.monotonic() - start_s) / new if new else 0.0
        scores = {**known, **{f.genes: f.score for f in archive.candidates.values()}}
        everything = space.everything() if space.size <= MAX_CONFIGURATIONS else []
        rest = [genes for genes in everything if genes not in scores]
        if rest and not interrupted and len(rest) * each_s <= _COMPARING_S:
            notes("comparing with the exhaustive front")
            with suppress(KeyboardInterrupt):
                scores.update(score(rest))
    notes("choosing the front")
    reading = {g: c for g, c in archive.candidates.items() if prices.counted(g).reads}
    picked = choose(reading, space, options.constraints, prices.predicted_ms, reference)
    chosen, norms = _reported(problem, prices, picked, options, notes)
    early: tuple[Early, ...] = ()
    if options.exits:
        full = archive.candidates[space.full].score
        chosen, early, norms = with_early(
            problem, prices, chosen, norms, full, reference, options, notes
        )
    return Selection(
        problem=problem,
        chosen=chosen,
        early=early,
        candidates=tuple(archive.candidates.values()),
        norms=norms,
        cost=prices.kind,
        budget=budget,
        hypervolume=archive.hypervolume,
        exhaustive_share=_exhaustive_share(everything, prices, scores, archive),
        interrupted=interrupted,
    )


def _reference(problem: Problem, prices: Prices, score: Score) -> ReferencePoint:
    """Returns what bounds the hypervolume.

    Of a metric of the user's own nothing is known: the box is then between the scores of the
    full network and of the one with everything skipped.
    """
    space = problem.space
    cost = prices.cost(space.full)
    if problem.metric.floor is not None:
        return ReferencePoint(cost, problem.metric.floor)
    ends = dict(score([space.full, space.taking(space.steps)]))
    return ReferencePoint(cost, min(ends.values()), max(ends.values()))


def default_evaluations(search: str, space: Space) -> int:
    """Returns how many configurations a search evaluates where nothing is said."""
    if search in ("exhaustive", "stages"):
        return min(space.size, MAX_CONFIGURATIONS)
    if search in ("beam", "greedy"):
        return 1 + (1 if search == "greedy" else 2) * greedy_evaluations(space)
    return max(60, 3 * len(space.steps))


@contextmanager
def _scores(
    problem: Problem, options: SelectOptions, notes: Notes
) -> Iterator[tuple[Score, Mapping[Genes, float]]]:
    """Yields what scores configurations, and the scores that are known already."""
    samples = problem.data.parts.selection
    if options.cache is None:
        yield lambda batch: problem.scores(batch, samples), {}
        return
    cache = EvaluationCache(options.cache, problem.key, notes.note)
    if cache.scores:
        notes.note(f"{len(cache.scores)} configurations are known from {cache.path}")

    def scores(batch: Sequence[Genes]) -> Iterator[tuple[Genes, float]]:
        new = [genes for genes in batch if genes not in cache.scores]
        yield from ((genes, cache.scores[genes]) for genes in batch if genes in cache.scores)
        for genes, score in problem.scores(new, samples) if new else ():
            cache.add(genes, score)
            yield genes, score

    try:
        yield scores, cache.scores
    finally:
        cache.close()


def _reported(
    problem: Problem,
    prices: Prices,
    picked: Sequence[Candidate],
    options: SelectOptions,
    notes: Notes,
) -> tuple[tuple[Chosen, ...], FamilyNorms]:
    """Returns the picked configurations with report scores and measured latencies."""
    by_stage = options.search == "stages"
    names = names_of([found.genes for found in picked], problem.space, by_stage)
    notes("evaluating the front on the report part")
    report = problem.data.parts.report
    scores = dict(problem.scores(list(names.values()), report))
    norms = problem.norms(names)
    measured: dict[str, float] = {}
    if prices.measures:
        notes("measuring the front")
        measured = prices.measured_ms(names)
    chosen = tuple(
        Chosen(
            name=name,
            genes=genes,
            score=scores[genes],
            selection_score=found.score,
            macs=prices.counted(genes).macs,
            parameters=prices.counted(genes).parameters,
            predicted_ms=prices.predicted_ms(genes),
            measured_ms=measured.get(name),
        )
        for (name, genes), found in zip(names.items(), picked, strict=True)
    )
    return chosen, norms


def _exhaustive_share(
    everything: Sequence[Genes],
    prices: Prices,
    scores: Mapping[Genes, float],
    archive: Archive,
) -> float | None:
    """Returns the front's hypervolume over the exhaustive one's, if all scores are known."""
    if not everything or any(genes not in scores for genes in everything):
        return None
    candidates = [Candidate(genes, scores[genes], prices.cost(genes)) for genes in everything]
    best = hypervolume(front_of(candidates), archive.reference)
    return archive.hypervolume / best if best > 0 else None

"""``skipc select`` as a whole: networks and data in, a front out."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from skipc.compiler.axes.resolution import SHARES, ResolutionAxis
from skipc.compiler.cluster import check_cluster
from skipc.compiler.errors import SelectError
from skipc.compiler.heads import read_heads
from skipc.compiler.policy.solving import LEAST_PER_EXIT
from skipc.compiler.read.several import check_answers, fed_alike
from skipc.compiler.select.archive import Archive, EvaluationsSpentError
from skipc.compiler.select.choosing import choose, names_of
from skipc.compiler.select.composing import composed
from skipc.compiler.select.data import read_data
from skipc.compiler.select.evaluation_cache import EvaluationCache
from skipc.compiler.select.labels import warn_of_labels
from skipc.compiler.select.options import CostKind
from skipc.compiler.select.pareto import ReferencePoint, front_of, hypervolume
from skipc.compiler.select.pricing import Prices, Yardstick, price
from skipc.compiler.select.problem import Notes, Problem, open_problem
from skipc.compiler.select.searches import find_search
from skipc.compiler.select.searches.stepwise import greedy_evaluations
from skipc.compiler.select.space import MAX_CONFIGURATIONS, Candidate
from skipc.profiles import load_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.norms.statistics import FamilyNorms
    from skipc.compiler.read import ModelOptions, Supernet
    from skipc.compiler.select.archive import Score
    from skipc.compiler.select.composing import Early
    from skipc.compiler.select.data import Data
    from skipc.compiler.select.options import SelectOptions
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


class Given(NamedTuple):
    """A network that is selected from: what was read, its file, and how it was read."""

    supernet: Supernet
    checkpoint: Path
    model: ModelOptions


@dataclass(frozen=True)
class Searched:
    """What was found of one network.

    Attributes:
        problem: The search problem.
        prices: What configurations cost.
        full: The full network.
        chosen: Its part of the front, the most expensive first.
        candidates: Everything evaluated.
        norms: The chosen configurations' norm statistics.
        reference: Bounds the hypervolume.
        budget: How many configurations could be evaluated.
        hypervolume: Share of the box that the front of all evaluated covers.
        exhaustive_share: That over the exhaustive front's, where it is known.
        interrupted: Whether the search was ended by Ctrl-C.
    """

    problem: Problem
    prices: Prices
    full: Candidate
    chosen: tuple[Chosen, ...]
    candidates: tuple[Candidate, ...]
    norms: FamilyNorms
    reference: ReferencePoint
    budget: int
    hypervolume: float
    exhaustive_share: float | None
    interrupted: bool


@dataclass(frozen=True)
class Selection:
    """What was found.

    Attributes:
        networks: By name, what was found of each network; "" of the only one.
        early: What answers before its last network's end.
    """

    networks: Mapping[str, Searched]
    early: tuple[Early, ...]

    @property
    def largest(self) -> Searched:
        """The network that costs most: what others are compared with."""
        return max(self.networks.values(), key=lambda one: one.full.cost)

    @property
    def interrupted(self) -> bool:
        """Whether a search was ended by Ctrl-C."""
        return any(one.interrupted for one in self.networks.values())


def select(given: Mapping[str, Given], options: SelectOptions, notes: Notes) -> Selection:
    """Returns the near-Pareto configurations of networks, and routes through several.

    Ctrl-C during a search ends that search alone: what it found so far is returned. The
    workers of a Ray cluster read the checkpoints again.

    Args:
        given: The networks by name; "" of the only one.
        options: How to select.
        notes: Told what is being done.

    Raises:
        SelectError: The data, the options or the constraints do not fit the networks.
        SupernetError: A network cannot be exported, or they do not fit each other.
        ClusterError: There is no cluster where Ray is asked for.
        ExtraMissingError: Ray is asked for and not installed.
    """
    search = find_search(options.search)
    if options.ray is not None:
        check_cluster(options.ray)
    routes = options.exits or len(given) > 1 or ResolutionAxis.key in options.axes
    exits = _checked_exits(given, options) if routes else 0
    supernets = fed_alike({name: one.supernet for name, one in given.items()})
    widest = next(iter(supernets.values()))
    notes("reading the data")
    data = read_data(options.data, widest.inputs, notes.note, widest.dimensions)
    if routes:
        _check_counts(data, exits, options)
    told, asked, problems = {}, {}, {}
    for name, one in given.items():
        told[name] = _Named(notes, name) if name else notes
        constraints = options.constraints.of(name, given)
        asked[name] = replace(options, constraints=constraints)
        problems[name] = open_problem(
            *(supernets[name], one.checkpoint, asked[name], told[name], name, data)
        )
    check_answers({name: one.family.network for name, one in problems.items()})
    yardstick = None
    if len(given) > 1:
        first = next(iter(problems.values())).family
        yardstick = Yardstick(first.subnet({}, "").network.model)
    found = {}
    for name, one in given.items():
        warn_of_labels(problems[name], one.checkpoint, told[name])
        with _spread(problems[name], one, asked[name], told[name]) as problem:
            found[name] = _searched(problem, search, asked[name], told[name], yardstick)
    if not routes:
        return Selection(found, ())
    front = composed(found, options.constraints, notes)
    kept = {name: replace(one, chosen=front.chosen[name]) for name, one in found.items()}
    return Selection(kept, front.early)


def _checked_exits(given: Mapping[str, Given], options: SelectOptions) -> int:
    """Returns how often the networks answer together; checks what can be before the work.

    Raises:
        SelectError: Routes cannot be solved so.
        HeadsError: Heads are damaged, or another checkpoint's.
    """
    resolutions = ResolutionAxis.key in options.axes
    what = "--exits" if options.exits else "several networks"
    if resolutions and len(given) == 1:
        what = f"--axes {','.join(options.axes)}"
    if options.metric != "top1":
        raise SelectError(
            f"{what} with --metric {options.metric}: tests are solved for right answers."
            " Leave --metric out."
        )
    if options.cost is CostKind.PARAMETERS:
        raise SelectError(
            f"{what} with --cost parameters: a route holds all that its networks hold. Use"
            " --cost latency or macs."
        )
    profile = load_profile(options.target)
    if len(given) > 1 and profile.latency is not None:
        raise SelectError(
            f"--target {options.target}: its [latency] table is of the units of one network."
            " For several networks name a target without one, e.g. with --cost macs."
        )
    checkpoints = [one.checkpoint for one in given.values()]
    heads = [head for path in checkpoints if options.exits for head in read_heads(path)]
    own = [exit_ for one in given.values() for exit_ in one.supernet.exit_outputs]
    if options.exits and not heads and not own:
        raise SelectError(
            f"--exits: no heads lie beside {' or '.join(map(str, checkpoints))}. Train them"
            " with `skipc heads`."
        )
    several = 1 + len(SHARES) if resolutions else 1
    return several * len(given) + len(heads) + (len(own) if options.exits else 0)


def _check_counts(data: Data, exits: int, options: SelectOptions) -> None:
    """Refuses parts with too few samples for the exits, before anything is searched."""
    parts = data.parts
    fewest = min(len(each) for each in (parts.fitting, parts.selection, parts.report))
    if fewest < LEAST_PER_EXIT * exits:
        fewer = ", or train fewer heads" if options.exits else ""
        raise SelectError(
            f"{exits} exits, but a part of --data has {fewest} samples: each needs"
            f" {LEAST_PER_EXIT} for each exit, {LEAST_PER_EXIT * exits}. Give more"
            f" data{fewer}."
        )


@dataclass(frozen=True, slots=True)
class _Named:
    """Tells what is done for one of several networks."""

    notes: Notes
    name: str

    def __call__(self, text: str) -> None:
        self.notes(f"{self.name}: {text}")

    def note(self, text: str) -> None:
        self.notes.note(f"{self.name}: {text}")

    def advance(self, done: int, total: int, text: str = "") -> None:
        self.notes.advance(done, total, text)


@contextmanager
def _spread(
    problem: Problem, given: Given, options: SelectOptions, notes: Notes
) -> Iterator[Problem]:
    """Yields the problem, scored on the Ray cluster where one is asked for."""
    if options.ray is None:
        yield problem
        return
    from skipc.compiler.select.ray_scoring import on_ray

    notes("starting the workers")
    with on_ray(problem, given.checkpoint, given.model, options) as spread:
        yield spread


def _searched(
    problem: Problem,
    search: Search,
    options: SelectOptions,
    notes: Notes,
    yardstick: Yardstick | None,
) -> Searched:
    prices = price(problem, options, notes, yardstick)
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
            if space.free:
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
    return Searched(
        problem=problem,
        prices=prices,
        full=archive.candidates[space.full],
        chosen=chosen,
        candidates=tuple(archive.candidates.values()),
        norms=norms,
        reference=reference,
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
    network = problem.family.network.name
    if network:  # a dot, which no network's name holds
        names = {f"{network}.{name}": genes for name, genes in names.items()}
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

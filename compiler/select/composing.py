"""From what was chosen of each network to a front of all of them, with routes through them.

A configuration that ends at a head, or a cheaper network, is one more point of the front. A
route is worth it on average, but slower than its last network at worst: so it replaces
nothing, and is added where nothing is better on average.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby, islice, pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.front import ExitTest
from skipc.compiler.policy.answers import Answers
from skipc.compiler.policy.choosing import BestRoute, Chain, best_routes
from skipc.compiler.policy.policies import LOSSES, Gates, outcome_of
from skipc.compiler.select.answering import Answering, answering
from skipc.compiler.select.choosing import thinned
from skipc.compiler.select.hand_over import hand_over_ms
from skipc.compiler.select.options import CostKind
from skipc.compiler.select.pareto import front_of
from skipc.compiler.select.space import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.options import Constraints
    from skipc.compiler.select.problem import Notes
    from skipc.compiler.select.selecting import Chosen, Searched
    from skipc.runtime.bundle.route import Test

DROPS = (0.003, 0.01, 0.03)
"""Routes lose at most so much accuracy against the full network."""
MOST_OF_NETWORK = 4
"""So many of a network's configurations stand in cascades, at most."""
MOST_CHAINS = 200
"""So many cascades are tried, at most."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class EarlyPart:
    """A network of a route.

    Attributes:
        network: Its name; "" of the only one.
        base: The chosen configuration that it is, whose norm statistics it has.
        genes: What that is.
        exits: Where it answers; the last is ``end`` where it may go to the network's.
    """

    network: str
    base: str
    genes: Genes
    exits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Early:
    """A configuration that may answer before the end of its last network.

    Attributes:
        name: Its name.
        parts: The networks that it runs, in order.
        tests: When it answers, at each exit but the last.
        stops: The share of samples that each exit answers, on the report part.
        score: Accuracy on the report part.
        selection_score: ... on the selection part.
        cost: What was minimised, on average over the selection part.
        macs: Operations, on average over the report part; so is ``measured_ms``.
        parameters: Trained parameters.
        measured_ms: Latency; None where the target does not run here.
        why: How it was found, a sentence.
    """

    name: str
    parts: tuple[EarlyPart, ...]
    tests: tuple[ExitTest, ...]
    stops: tuple[float, ...]
    score: float
    selection_score: float
    cost: float
    macs: float
    parameters: int
    measured_ms: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Composed:
    """The front of all networks.

    Attributes:
        chosen: By network, what stays of what was chosen.
        early: What answers early.
    """

    chosen: Mapping[str, tuple[Chosen, ...]]
    early: tuple[Early, ...]


def composed(
    searched: Mapping[str, Searched], constraints: Constraints, notes: Notes
) -> Composed:
    """Returns the front of all networks, from what was chosen of each.

    Args:
        searched: The networks, by name.
        constraints: What configurations have to keep.
        notes: Told what is being done.
    """
    largest = max(searched.values(), key=lambda one: one.full.cost)
    names = sorted(searched, key=lambda name: searched[name].full.cost)
    asked = {name: _asked(searched[name], largest) for name in names}
    found = answering(searched, asked, notes)
    notes("solving when they answer")
    kept, static = _statics(found, searched, names, largest, constraints)
    routes = _routes(found, largest, constraints)
    points = [(one.cost, one.score) for one in kept.values()]
    points += [(one.cost, one.selection_score) for one in static]
    early = list(static)
    for route in routes:
        if all(cost > route.cost or score < route.selection_score for cost, score in points):
            points.append((route.cost, route.selection_score))
            early.append(route)
    if not routes:
        notes.note(
            "routes: none is faster than the full network with a drop of at most"
            f" {100 * max(_drops(constraints)):g}."
        )
    stays = {
        name: tuple(one for one in searched[name].chosen if (name, one.name) in kept)
        for name in searched
    }
    return Composed(stays, tuple(early))


def _asked(searched: Searched, largest: Searched) -> list[Chosen]:
    """Returns what of a network is to answer: what may stand in cascades, or has heads.

    Those of one resolution stand together, the coarsest first.
    """
    space = searched.problem.space
    groups: dict[Genes, list[Chosen]] = {}
    for one in searched.chosen:
        groups.setdefault(space.whole(one.genes), []).append(one)
    asked = []
    for whole in sorted(groups, reverse=True):
        points = [_point(searched, one, ()) for one in groups[whole]]
        kept = thinned(front_of(points), None, MOST_OF_NETWORK, largest.reference)
        genes = {point.genes for point in kept}
        heads = searched.problem.family.network.heads
        asked += [one for one in groups[whole] if heads or one.genes in genes]
    return asked


def _point(searched: Searched, one: Chosen, before: Genes, behind: Genes = ()) -> Candidate:
    """Returns a chosen network to its end, by what search and choice have compared."""
    cost = searched.prices.cost(one.genes)
    return Candidate((*before, *one.genes, *behind), one.selection_score, cost)


def _statics(
    found: Sequence[Answering],
    searched: Mapping[str, Searched],
    names: Sequence[str],
    largest: Searched,
    constraints: Constraints,
) -> tuple[dict[tuple[str, str], Candidate], list[Early]]:
    """Returns what runs one graph: chosen networks to their end, and ending at a head.

    Those that none of them beats, at most as many as may be chosen, and the largest network.
    The former by network and name.
    """
    rank = {name: len(names) - 1 - place for place, name in enumerate(names)}
    ends: dict[Genes, tuple[str, Chosen, Candidate]] = {}
    for name in names:
        for chosen in searched[name].chosen:
            point = _point(searched[name], chosen, (rank[name],), (0,))
            ends[point.genes] = name, chosen, point
    heads: dict[Genes, tuple[Answering, int]] = {}
    candidates = [point for _, _, point in ends.values()]
    for one in found:
        scores = 1 - one.answers[1].wrong.mean(1)
        last = len(one.exits) - 1
        for number in range(last):
            genes = (rank[one.network], *one.base.genes, last - number)
            heads[genes] = one, number
            cost = float(one.answers[1].upto_ms[number])
            candidates.append(Candidate(genes, float(scores[number]), cost))
    limit = 1.0 if constraints.max_drop is None else constraints.max_drop / 100
    good = [c for c in candidates if largest.full.score - c.score <= limit + _ROUNDING]
    full = next((c for c in good if not any(c.genes)), None)
    kept, static = {}, []
    for each in thinned(front_of(good), full, constraints.size, largest.reference):
        if each.genes in heads:
            static.append(_ending(*heads[each.genes], each))
        else:
            name, chosen, point = ends[each.genes]
            kept[name, chosen.name] = point
    return kept, static


def _ending(one: Answering, number: int, found: Candidate) -> Early:
    """Returns a configuration that ends at a head."""
    name = one.exits[number]
    return Early(
        name=f"{one.base.name}-ends{number + 1}",
        parts=(_part(one.at([number])),),
        tests=(),
        stops=(),
        score=1 - float(one.answers[2].wrong[number].mean()),
        selection_score=found.score,
        cost=found.cost,
        macs=float(one.macs[number]),
        parameters=one.parameters[number],
        measured_ms=None if one.ms is None else float(one.ms[number]),
        why=f"{one.base.name} ends at {name}",
    )


def _part(one: Answering) -> EarlyPart:
    return EarlyPart(one.network, one.base.name, one.base.genes, one.exits)


def _drops(constraints: Constraints) -> tuple[float, ...]:
    most = constraints.max_drop
    if most is None:
        return DROPS
    return (*(drop for drop in DROPS if 100 * drop < most), most / 100)


def _routes(
    found: Sequence[Answering], largest: Searched, constraints: Constraints
) -> list[Early]:
    """Returns the fastest routes at each wanted drop, no two the same."""
    chains: list[tuple[Answering, ...]] = [(one,) for one in found if len(one.exits) > 1]
    chains += [
        chain for chain in _cascades(found, largest) if _is_fast_enough(chain, constraints)
    ]
    by_name = {str(number): chain for number, chain in enumerate(chains)}
    stage = _stage_cost(found, largest)
    best = best_routes(
        [Chain(name, *_joined(chain, stage)) for name, chain in by_name.items()],
        largest.full.score,
        _drops(constraints),
    )
    seen: list[tuple[str, Gates]] = []
    routes = []
    for route in best:
        same = (route.chain.name, route.gates) in seen
        seen.append((route.chain.name, route.gates))
        early = None if same else _routed(by_name[route.chain.name], route, largest, stage)
        if early is not None:
            routes.append(early)
    return routes


def _stage_cost(found: Sequence[Answering], largest: Searched) -> float:
    """Returns what going on to a next stage costs, beside what the networks cost."""
    prices = largest.prices
    if prices.kind is not CostKind.LATENCY or not prices.measures:
        return 0.0
    return hand_over_ms(found[0].answers[0].logits.shape[-1])


def _joined(chain: Sequence[Answering], stage: float) -> Iterator[Answers]:
    """Returns what the exits of networks answer, asked one after the other, on each part.

    ``stage`` is what going on costs each time.
    """
    for part in zip(*(one.answers for one in chain), strict=True):
        joined = Answers.joined(part)
        yield replace(joined, upto_ms=_with_stages(joined.upto_ms, stage))


def _with_stages(upto: NDArray[np.float64], stage: float) -> NDArray[np.float64]:
    return upto + stage * np.arange(len(upto))


def _cascades(found: Sequence[Answering], largest: Searched) -> list[tuple[Answering, ...]]:
    """Returns chains of several networks, each of which costs more than the one before it.

    One network at several resolutions is several, too. Of each those that none other of it
    beats, at its heads or to its end, and so many that there are no more than
    ``MOST_CHAINS``.
    """
    networks = groupby(found, key=lambda one: (one.network, one.whole))
    groups = [list(group) for _, group in networks]
    most = MOST_OF_NETWORK
    while most > 1 and (most + 1) ** len(groups) - 1 - most * len(groups) > MOST_CHAINS:
        most -= 1
    members = [_members(group, most, largest) for group in groups]
    chains = (
        tuple(one for one in chain if one is not None)
        for chain in product(*([None, *several] for several in members))
    )
    rising = (
        chain
        for chain in chains
        if len(chain) > 1 and all(a.cost < b.cost for a, b in pairwise(chain))
    )
    return list(islice(rising, MOST_CHAINS))


def _members(group: Sequence[Answering], most: int, largest: Searched) -> list[Answering]:
    """Returns those of one network that may stand in a cascade."""
    ways = [(one, number) for one in group for number in range(len(one.exits))]
    points = [
        Candidate(
            (place,),
            1 - float(one.answers[1].wrong[number].mean()),
            float(one.answers[1].upto_ms[number]),
        )
        for place, (one, number) in enumerate(ways)
    ]
    kept = thinned(front_of(points), None, most, largest.reference)
    return [
        one if number == len(one.exits) - 1 else one.at([number])
        for one, number in (ways[point.genes[0]] for point in kept)
    ]


def _is_fast_enough(chain: Sequence[Answering], constraints: Constraints) -> bool:
    """Tells whether a chain keeps the limit of latency where it goes to its end."""
    longest_ms = constraints.max_latency_ms
    predicted_ms = [one.base.predicted_ms or 0.0 for one in chain]
    return longest_ms is None or sum(predicted_ms) <= longest_ms


def _routed(
    chain: Sequence[Answering], route: BestRoute, largest: Searched, stage: float
) -> Early | None:
    """Returns a configuration of those exits that answer something; None if only one does.

    ``stage`` is what going on to a next one costs.
    """
    used = [number for number, share in enumerate(route.selection.shares) if share > 0]
    if len(used) < 2:
        return None
    parts, begin = [], 0
    for one in chain:
        own = [number - begin for number in used if 0 <= number - begin < len(one.exits)]
        parts += [one.at(own)] if own else []
        begin += len(one.exits)
    gates, loss = Gates(renumbered(route.gates.tests, used)), LOSSES["max-error"]
    _, chosen, reported = _joined(parts, stage)
    selection, report = (outcome_of(gates, each, loss) for each in (chosen, reported))
    ms = [one.ms for one in parts]

    def mean(upto: Sequence[NDArray[np.float64] | None], stage: float = 0.0) -> float | None:
        """Returns what a sample takes of something that is known up to each exit."""
        known = [each for each in upto if each is not None]
        if len(known) < len(upto):
            return None
        before = np.cumsum([0.0, *(each[-1] for each in known[:-1])])
        taken = np.concatenate([b + e for b, e in zip(before, known, strict=True)])
        taken = _with_stages(taken, stage)
        return outcome_of(gates, replace(reported, upto_ms=taken), loss).mean_ms

    points = 100 * route.drop
    several = len(parts) > 1
    # A network with exits is compared with itself, a cascade with the largest network.
    whole, what = parts[-1].base.name, "it takes to its end"
    cost = next(one.cost for one in chain if one.base is parts[-1].base)
    if several:
        full = largest.problem.family.network.name or "the full network"
        cost, what = largest.full.cost, f"{full} takes"
    simple = route.one_threshold
    beaten = (
        "no single threshold drops so little"
        if simple is None
        else f"the best single threshold takes {simple / cost:.2f}"
    )
    whole = " > ".join(one.base.name for one in parts)
    macs = mean([one.macs for one in parts])
    assert macs is not None
    return Early(
        name=f"{'cascade' if several else 'early'}-{points:g}",
        parts=tuple(map(_part, parts)),
        tests=tuple(
            ExitTest(t.threshold, t.scores, t.temperature, t.jump) for t in gates.tests
        ),
        stops=report.shares,
        score=report.accuracy,
        selection_score=selection.accuracy,
        cost=selection.mean_ms,
        macs=macs,
        parameters=sum(one.parameters[-1] for one in parts),
        measured_ms=mean(ms, stage),
        why=f"{route.policy} of {whole}, the fastest with a drop of at most {points:g}:"
        f" {selection.mean_ms / cost:.2f} of what {what}"
        + ("" if route.policy == "uniform threshold" else f"; {beaten}"),
    )


def renumbered(tests: Sequence[Test], used: Sequence[int]) -> tuple[Test, ...]:
    """Returns the tests of those exits that stay, with jumps to where these now stand.

    A jump to what is gone leads to what comes after it, which begins a network, too.
    """
    found = []
    for here, number in enumerate(used[:-1]):
        test, jump = tests[number], tests[number].jump
        if jump is not None:
            later = (new for new, old in enumerate(used) if old >= jump.stage)
            stage = next(later, 0)
            test = replace(test, jump=replace(jump, stage=stage) if stage > here + 1 else None)
        found.append(test)
    return tuple(found)

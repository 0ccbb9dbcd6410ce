"""The routes worth building: of several chains of exits, the fastest that lose little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from skipc.compiler.policy.policies import (
    LOSSES,
    SOLVERS,
    Gates,
    Outcome,
    is_faster,
    outcome_of,
    safest_first,
    to_the_end,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.policy.answers import Answers
    from skipc.compiler.policy.policies import Followed, Seen

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Chain:
    """What the exits of a chain answer, on disjoint parts of the data.

    Attributes:
        name: Of what it is.
        fitting: Policies are made of it. Nothing else may have been trained on it.
        selection: They are compared on it.
        report: What is told of the one that is taken comes from it.
    """

    name: str
    fitting: Answers
    selection: Answers
    report: Answers


@dataclass(frozen=True, slots=True)
class BestRoute:
    """The fastest policy that loses no more than was allowed.

    Attributes:
        chain: Whose exits answer.
        policy: Its kind, of ``SOLVERS``.
        gates: Its tests.
        drop: The accuracy that could be lost, a fraction.
        selection: What it comes to on the selection part.
        report: ... and on the report part.
        one_threshold: What a sample takes with the best single threshold, on the selection
            part; None where no threshold loses so little.
    """

    chain: Chain
    policy: str
    gates: Gates
    drop: float
    selection: Outcome
    report: Outcome
    one_threshold: float | None


class _Found(NamedTuple):
    """A policy of a kind, for a chain."""

    kind: str
    chain: Chain
    seen: Seen


def _mean_ms(found: _Found) -> float:
    return found.seen.outcome.mean_ms


def _followed(found: _Found) -> Followed:
    return found.seen.policy.followed(found.chain.selection)


def best_routes(
    chains: Sequence[Chain], full_accuracy: float, drops: Sequence[float]
) -> list[BestRoute]:
    """Returns for each drop the fastest route of all chains that keeps it, if one stops early.

    A budget's or a learnt policy is taken only where it beats one threshold for all exits by
    more than chance explains.

    Args:
        chains: The chains; times of all of them are in the same unit.
        full_accuracy: What the drops are below, on the selection part.
        drops: What accuracy may fall by, as fractions.
    """
    loss = LOSSES["max-error"]
    seen: list[_Found] = [
        _Found(kind, chain, each)
        for kind, solver in SOLVERS.items()
        for chain in chains
        for each in safest_first(
            [to_the_end(chain.fitting), *solver(chain.fitting, loss)], chain.selection, loss
        )
    ]
    (plain, *_) = SOLVERS
    found = []
    for drop in drops:
        least = full_accuracy - drop - _ROUNDING
        kept = [one for one in seen if one.seen.outcome.accuracy >= least]
        if not kept:
            continue
        taken = min(kept, key=_mean_ms)
        simple = min((one for one in kept if one.kind == plain), key=_mean_ms, default=None)
        if simple is not None and not is_faster(_followed(taken), _followed(simple)):
            taken = simple
        kind, chain, best = taken
        gates = best.policy
        assert isinstance(gates, Gates)
        found.append(
            BestRoute(
                *(chain, kind, gates, drop, best.outcome),
                report=outcome_of(gates, chain.report, loss),
                one_threshold=None if simple is None else _mean_ms(simple),
            )
        )
    return found

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
_TRIED = 8
"""On so many chains all policies are tried, for each drop: those best with one threshold."""


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
    more than chance explains. Of many chains those that do not come near with one threshold
    are tried with no other policy.

    Args:
        chains: The chains, no two of a name; times of all of them are in the same unit.
        full_accuracy: What the drops are below, on the selection part.
        drops: What accuracy may fall by, as fractions.
    """
    loss = LOSSES["max-error"]
    (plain, *others) = SOLVERS

    def solved(kind: str, tried: Sequence[Chain]) -> list[_Found]:
        return [
            _Found(kind, chain, each)
            for chain in tried
            for each in safest_first(
                [to_the_end(chain.fitting), *SOLVERS[kind](chain.fitting, loss)],
                *(chain.selection, loss),
            )
        ]

    seen = solved(plain, chains)
    tried = _promising(seen, chains, [full_accuracy - drop for drop in drops])
    for kind in others:
        seen += solved(kind, tried)
    found = []
    for drop in drops:
        kept = _fastest_first(seen, full_accuracy - drop)
        if not kept:
            continue
        taken, simple = kept[0], next((one for one in kept if one.kind == plain), None)
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


def _promising(
    seen: Sequence[_Found], chains: Sequence[Chain], accuracies: Sequence[float]
) -> list[Chain]:
    """Returns the chains that all policies are tried on."""
    if len(chains) <= _TRIED:
        return list(chains)
    names: set[str] = set()
    for accuracy in accuracies:
        found = dict.fromkeys(one.chain.name for one in _fastest_first(seen, accuracy))
        names |= {*list(found)[:_TRIED]}
    return [chain for chain in chains if chain.name in names]


def _fastest_first(seen: Sequence[_Found], accuracy: float) -> list[_Found]:
    """Returns what is as accurate as that, the fastest first; equals stay as they were."""
    kept = [one for one in seen if one.seen.outcome.accuracy >= accuracy - _ROUNDING]
    return sorted(kept, key=_mean_ms)

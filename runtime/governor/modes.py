"""Which power mode of the device is to be in force, as a pure function beside ``decide``.

Of all pairs of configuration and mode that are predicted to keep the budget, the most accurate
is wanted; of equally accurate ones the cheapest in energy, from the start of a call to that of
the next; where none keeps it, the mode that keeps most calls. What is wanted is compared, mode
by mode, by what ``decide`` would run there (``Worth``). Averages count as they come out in the
long run, for what was saved lately is spent within a few calls.

A change takes time, and calls run at the slower of both speeds meanwhile. So a mode is left

- at once where calls would be late, for a mode that keeps more of them;
- for a faster one that is more accurate, once it has been that for as long as a change takes,
  and half a second at least;
- for a slower one, once it has been better for a dwell, and for so long that what was missed
  is what a change there and back costs. Nobody knows how long it will stay better; who waits
  until waiting has cost as much as changing never pays more than twice what would have been
  best (Karlin et al., 1988, of a rented and a bought pair of skis).

The dwell doubles each time that a slower mode had to be left again soon. Another mode must fit
the budget with a margin, and save some percent, or it is not better.

What was learnt in a mode is kept while another one is in force: residuals, scatter, tail and
energies are the mode's own. Its slow-down moves along with that of the mode in force, since
what slows a device is mostly there in each mode: a warm room, another process. Where that is
wrong, as when only the fastest mode throttles, predictions are too cautious. So a mode that
would be better if it ran as its table says is tried from time to time, with the calls in it
still predicted cautiously; each time in vain doubles the wait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .account import Pace
from .averages import BUSY, long_run
from .decide import AS_MANY, decide
from .decision import SHORTEST_DWELL_S, SOON_DWELLS, Ceiling
from .latency import predict_logs, typical_ms
from .mean_latency import best_on_average
from .transitions import State, first_state

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from .budget import Budget
    from .energy import EnergyEstimate
    from .latency import LatencyEstimate
    from .operating_point import OperatingPoint

MODE_MARGIN = 0.02
"""Logarithm of how far below the budget a prediction in another mode must be."""
LEAST_SAVING = 0.03
"""The share of the energy that a change must save."""
SAME_RANK = 0.01
"""Mean ranks closer than this share of the family's are equal, where averages are limited."""
SHORTEST_MODE_DWELL_S = 2.0
LONGEST_MODE_DWELL_S = 120.0
TRIAL_DWELLS = 8.0
"""How many dwells a mode must seem better by its table alone before it is tried."""
USUAL_CHANGE_S = 0.5
"""What a change takes that nobody measured."""
BASE_CALLS = 5
"""After how many calls in a mode its slow-down there is known."""
ARRIVAL_CALLS = 10
"""How many calls the slow-down that is expected of a mode stands for, once it is there."""
_MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class Mode:
    """A power mode, as it was measured.

    Attributes:
        name: What the device calls it.
        points: The configurations in it, in the order of the other modes'.
        change_ms: What a change into it takes, by the mode before; until calls run at its
            speed.
    """

    name: str
    points: tuple[OperatingPoint, ...]
    change_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def log_speed(self) -> float:
        """Orders the modes: the lower, the faster."""
        return sum(point.log_p50 for point in self.points)


class Worth(NamedTuple):
    """What calls come to in a mode: see ``better``.

    Attributes:
        feasible: Whether the budget is expected to be kept.
        late: Whether it is the latency that is not.
        kept: The share of the calls that are expected to be in time.
        rank: The mean rank of what runs.
        energy_mj: From the start of a call to that of the next; 0 where it is not known.
    """

    feasible: bool
    late: bool
    kept: float
    rank: float
    energy_mj: float


class Learnt(NamedTuple):
    """What was learnt in a mode that is not in force.

    Attributes:
        latency: With the slow-down that it has where the mode in force is at ``base``.
        energy: What calls take.
        ran: Whether any call ran in it; the noise is that of the mode in force else.
    """

    latency: LatencyEstimate
    energy: EnergyEstimate
    ran: bool = False


class ModesState(NamedTuple):
    """Which mode is in force, and what was learnt in the others.

    Attributes:
        mode: The one in force.
        others: What was learnt in each other.
        since_s: When it came into force.
        base: The logarithm of its slow-down when it did; None until that was seen.
        observed: How many calls the latencies were learnt from then.
        slower: Whether it is slower than the one before.
        dwell_s: How long a slower mode must be better.
        better_s: Since when which other mode has been better, or would be by its table.
        change_s: What the last change into a mode took.
        budget: Under which all this was so.
    """

    mode: str
    others: Mapping[str, Learnt]
    since_s: float = 0.0
    base: float | None = 0.0
    observed: int = 0
    slower: bool = False
    dwell_s: float = SHORTEST_MODE_DWELL_S
    better_s: Mapping[str, float] = {}  # never changed
    change_s: Mapping[str, float] = {}
    budget: Budget | None = None


class Choice(NamedTuple):
    """What ``choose_mode`` returns: the state from now on, and the mode to change into.

    ``to`` is the one in force where there is nothing to change.
    """

    state: ModesState
    to: str


def first_modes(
    modes: Sequence[Mode], in_force: str, metered: bool, idle_w: float | None
) -> ModesState:
    """Returns the state while ``in_force`` is the first mode that any call runs in.

    ``metered`` and ``idle_w`` are as for ``first_state``.
    """
    others = {}
    for mode in modes:
        if mode.name != in_force:
            state = first_state(mode.points, None, metered, idle_w)
            others[mode.name] = Learnt(state.latency, state.energy)
    return ModesState(in_force, others)


def choose_mode(
    modes: Sequence[Mode],
    known: ModesState,
    state: State,
    budget: Budget,
    now_s: float,
    period_ms: float = 0.0,
    usable: Collection[str] | None = None,
) -> Choice:
    """Returns which mode is to be in force: see the module.

    Args:
        modes: Those that may be, the one in force among them.
        known: What was learnt until now.
        state: What was learnt in the mode in force; knows each point.
        budget: What calls may take.
        now_s: The time.
        period_ms: From the start of a call to that of the next; 0 where nobody knows.
        usable: The configurations that may run; None for all.
    """
    if budget is not known.budget:
        dwell_s = SHORTEST_MODE_DWELL_S
        known = known._replace(budget=budget, dwell_s=dwell_s, better_s={}, slower=False)
    latency, account = state.latency, state.account
    if known.base is None and latency.observed - known.observed >= BASE_CALLS:
        known = known._replace(base=latency.log_slowdown)
    if budget.has_average and (account is None or not account.is_of(budget)):
        return Choice(known, known.mode)  # until a call came
    named = {mode.name: mode for mode in modes}
    own = _usable(named[known.mode].points, usable)
    busy = _is_busy(own, state, period_ms)
    here = worth(own, budget, state, period_ms, busy)
    better_s, due = {}, []
    for mode in modes:
        if mode.name == known.mode:
            continue
        points = _usable(mode.points, usable)
        there = state_in(known, mode.name, state)
        wait_s = math.inf
        expected = worth(points, budget, there, period_ms, busy, MODE_MARGIN)
        faster = mode.log_speed < named[known.mode].log_speed
        change_s = change_s_of(known, mode)
        if better(expected, here, points, budget):
            wait_s = _wait_s(expected, here, known, faster, change_s)
        elif expected.feasible:
            hoped = _as_tabled(there)
            tried = worth(points, budget, hoped, period_ms, busy, MODE_MARGIN)
            if hoped is not there and better(tried, here, points, budget):
                wait_s = TRIAL_DWELLS * max(known.dwell_s, change_s)
                expected = tried
        if wait_s < math.inf:
            since_s = better_s[mode.name] = known.better_s.get(mode.name, now_s)
            waited_s = now_s - max(since_s, known.since_s)
            if not wait_s or (known.base is not None and waited_s >= wait_s):
                due.append((_order(expected), mode.name))
    known = known._replace(better_s=better_s)
    return Choice(known, max(due)[1] if due else known.mode)


def worth(
    points: Sequence[OperatingPoint],
    budget: Budget,
    state: State,
    period_ms: float = 0.0,
    busy: bool = True,
    margin: float = 0.0,
) -> Worth:
    """Returns what calls of ``points`` come to in a state, apart from any dwell.

    Args:
        points: Those that may run.
        budget: What calls may take.
        state: What is expected of the mode.
        period_ms: From the start of a call to that of the next.
        busy: Whether the caller leaves no pause, and calls again at once. Any other must not
            fall behind: a mode in which its calls fill the period counts as late.
        margin: Logarithm of how far below the budget predictions must be.
    """
    free = state._replace(ceiling=Ceiling(), account=None)
    limit_ms = None if budget.latency_ms is None else budget.latency_ms * math.exp(-margin)
    decision = decide(points, budget, free, deadline_ms=limit_ms)
    feasible, late = decision.feasible, decision.binding == "latency"
    kept = 1.0 if feasible else decision.kept if late else 0.0
    named = {point.configuration: point for point in points}
    shares = {decision.configuration: 1.0}
    if feasible and state.account is not None:
        paced = _back_to_back(points, state) if busy else state
        shares, feasible = _mixed(points, budget, paced, limit_ms) or (shares, feasible)
    runs = [named[name] for name in shares]
    call_ms = typical_ms(runs, state.latency)
    energy = state.energy
    rank = spent_mj = mean_ms = 0.0
    for point, ms, share in zip(runs, call_ms, shares.values(), strict=True):
        rank, mean_ms = rank + share * point.rank, mean_ms + share * ms
        spent_mj += share * energy.call_mj.get(point.configuration, 0.0)
    if not busy and mean_ms > BUSY * period_ms:
        feasible, late, kept = False, True, min(kept, BUSY * period_ms / mean_ms)
    idle_ms = 0.0 if busy else max(period_ms - mean_ms, 0.0)
    spent_mj = spent_mj + idle_ms * energy.idle_w if energy.scaled else 0.0
    return Worth(feasible, late and not feasible, kept, rank, spent_mj)


def better(
    there: Worth, here: Worth, points: Sequence[OperatingPoint], budget: Budget
) -> bool:
    """Tells whether another mode is worth more than the one in force."""
    if there.feasible != here.feasible:
        return there.feasible
    if not there.feasible and abs(there.kept - here.kept) > 1 - AS_MANY:
        return there.kept > here.kept
    ranks = [point.rank for point in points]
    same = SAME_RANK * (max(ranks) - min(ranks)) if budget.has_average else 0.0
    if abs(there.rank - here.rank) > same:
        return there.rank > here.rank
    return 0 < there.energy_mj < (1 - LEAST_SAVING) * here.energy_mj


def state_in(known: ModesState, name: str, state: State) -> State:
    """Returns what is expected of a mode that is not in force."""
    learnt, now = known.others[name], state.latency
    moved = 0.0 if known.base is None else now.next_phase.log_slowdown - known.base
    own = learnt.latency
    level, residuals = own.log_slowdown + moved, own.log_residuals
    own = own if learnt.ran else now._replace(log_residuals=residuals, phases=())
    latency = own._replace(
        log_slowdown=level,
        calls=min(own.calls, ARRIVAL_CALLS),
        configuration="",  # nothing is learnt from a first call but the slow-down
        row=(),
        held_ms=(),
        stalls=now.stalls,
        quicker=0.0,
    )
    return State(latency, learnt.energy, Ceiling(), state.account)


def after_change(
    modes: Sequence[Mode],
    known: ModesState,
    state: State,
    to: str,
    now_s: float,
    took_s: float = 0.0,
) -> tuple[ModesState, State]:
    """Returns both states once calls are predicted as in the mode ``to``.

    ``state`` is what was learnt in the mode before. A change that took no time was not
    measured.
    """
    named, before = {mode.name: mode for mode in modes}, known.mode
    moved = 0.0 if known.base is None else state.latency.log_slowdown - known.base
    others = {
        name: learnt._replace(
            latency=learnt.latency._replace(log_slowdown=learnt.latency.log_slowdown + moved)
        )
        for name, learnt in known.others.items()
        if name != to
    }
    others[before] = Learnt(state.latency, state.energy, ran=True)
    after = state_in(known, to, state)
    slower = named[to].log_speed > named[before].log_speed
    dwell_s = known.dwell_s
    if known.slower and not slower:
        soon = now_s - known.since_s < SOON_DWELLS * dwell_s
        dwell_s = min(2 * dwell_s, LONGEST_MODE_DWELL_S) if soon else SHORTEST_MODE_DWELL_S
    change_s = {**known.change_s, to: took_s} if took_s else known.change_s
    observed = after.latency.observed
    changed = ModesState(
        *(to, others, now_s, None, observed, slower, dwell_s, {}, change_s, known.budget)
    )
    return changed, after


def change_s_of(known: ModesState, mode: Mode) -> float:
    """Returns what a change into ``mode`` is expected to take."""
    tabled_ms = mode.change_ms.get(known.mode, USUAL_CHANGE_S * _MS_PER_S)
    return known.change_s.get(mode.name, tabled_ms / _MS_PER_S)


def _wait_s(
    there: Worth, here: Worth, known: ModesState, faster: bool, change_s: float
) -> float:
    """Returns how long a mode must have been better before it is changed into."""
    if faster and here.late and there.kept > here.kept:
        return 0.0
    if faster and there.rank > here.rank:
        return max(SHORTEST_DWELL_S, change_s)
    saving = 1 - there.energy_mj / here.energy_mj if here.energy_mj > 0 else 1.0
    pays_s = 2 * change_s / saving if saving > LEAST_SAVING else 0.0
    return max(known.dwell_s, pays_s)


def _order(found: Worth) -> tuple[bool, float, float, float]:
    return found.feasible, round(found.kept, 2), found.rank, -found.energy_mj


def _usable(
    points: Sequence[OperatingPoint], usable: Collection[str] | None
) -> Sequence[OperatingPoint]:
    if usable is None:
        return points
    return [point for point in points if point.configuration in usable] or points


def _is_busy(points: Sequence[OperatingPoint], state: State, period_ms: float) -> bool:
    """Tells whether the caller leaves no pause, as far as that is known."""
    last = state.latency.configuration
    ran = [point for point in points if point.configuration == last]
    if not ran or period_ms <= 0:
        return True
    return typical_ms(ran, state.latency)[0] >= BUSY * period_ms


def _back_to_back(points: Sequence[OperatingPoint], state: State) -> State:
    """Returns the state of a caller who leaves no pause, whatever a call takes there."""
    account, first = state.account, points[0]
    if account is None or account.period_s <= 0:
        return state
    latency = state.latency._replace(configuration=first.configuration)
    pace = Pace(1.0, typical_ms([first], latency)[0] / _MS_PER_S, account.pace.started_s)
    return state._replace(latency=latency, account=account._replace(pace=pace))


def _as_tabled(state: State) -> State:
    """Returns the state without its slow-down; the same where there is none."""
    latency = state.latency
    if latency.log_slowdown <= 0:
        return state
    return state._replace(latency=latency._replace(log_slowdown=0.0))


def _mixed(
    points: Sequence[OperatingPoint], budget: Budget, state: State, limit_ms: float | None
) -> tuple[dict[str, float], bool] | None:
    """Returns which share of the calls runs what under average budgets, and whether they hold.

    None where they limit nothing.
    """
    floor = -math.inf if budget.min_accuracy is None else budget.min_accuracy
    log_limit = math.inf if limit_ms is None else math.log(limit_ms)
    logs = predict_logs(points, state.latency, budget.deviations)
    fitting = [
        point
        for point, log in zip(points, logs, strict=True)
        if log <= log_limit and point.rank >= floor
    ]
    if not fitting or state.account is None:
        return None
    account = state.account._replace(latency_ms=0.0)
    best = best_on_average(fitting, state._replace(account=account))
    if best is not None:
        return {fitting[best.chosen].configuration: 1.0}, best.feasible
    found = long_run(fitting, state)
    if found is None:
        return None
    mix, feasible = found
    low, high = fitting[mix.low].configuration, fitting[mix.high].configuration
    shares = {low: 1.0 - mix.share}
    shares[high] = shares.get(high, 0.0) + mix.share
    return shares, feasible

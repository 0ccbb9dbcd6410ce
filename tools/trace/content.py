"""What both pictures show, in their units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipc.tools.console import plural, short
from skipc.tools.trace.columns import Line, columns_of, steps, thinned
from skipc.tools.trace.energy import energy_panel
from skipc.tools.web.palette import LIGHT, PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime.call.trace import Trace
    from skipc.tools.trace.columns import Columns, Flags, Floats, Indices
    from skipc.tools.trace.energy import EnergyPanel


_ALL_SHOWN = 12
_LOG_FROM = 30.0
_IN_VIEW = 3.0
_PAUSE_SHARE = 0.015
_LONGEST_TITLE = 60
# A pause shorter than this many usual intervals between calls does not show.
_BRIDGED = 5.0
# So many calls make a share that can be read; more moments than this cannot be told apart.
_CALLS_A_MOMENT, _MOMENTS = 25, 80
_MOST_MODES = 40
# A stay in a mode shorter than this share of the time has no room for its name.
_MODE_SHARE = 0.04


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What both pictures show.

    Attributes:
        rows: Which configurations have a row: indices into ``columns.configurations``.
        drawn: The calls that are drawn as points.
        strip: What ran when; None without calls.
        exits: Where calls were answered when; None where all ran to their end.
        energy: The energy panel; None where nothing is known.
        logarithmic: Whether the latency axis is.
        scale: What seconds are multiplied with on the time axis.
        unit: What they are in, then.
        notes: What else the reader has to know.
        modes: When calls began to be made in which power mode, which has no name where there
            is no room for it; empty where there are none, or too many to be told apart.
    """

    title: str
    columns: Columns
    rows: tuple[int, ...]
    drawn: Indices
    prediction: Line
    limit: Line
    strip: Strip | None
    exits: ExitShares | None
    energy: EnergyPanel | None
    range_ms: tuple[float, float]
    logarithmic: bool
    range_s: tuple[float, float]
    scale: float
    unit: str
    notes: tuple[str, ...]
    modes: tuple[tuple[float, str], ...]

    def drawn_of(self, row: int, failed: bool) -> Indices:
        """Returns the calls of a configuration that are drawn."""
        chosen, ended = self.columns.chosen[self.drawn], self.columns.failed[self.drawn]
        own: Indices = self.drawn[(chosen == row) & (ended == failed)]
        return own

    @property
    def infeasible_spans_s(self) -> list[tuple[float, float]]:
        """Beginning and end of each stretch of calls whose budget nothing could meet."""
        return [] if self.strip is None else self.strip.infeasible_spans_s


def content_of(trace: Trace, points: int, moments: int) -> Content:
    """Returns what to show of a trace: so many points at most, and columns of the strip."""
    columns = columns_of(trace)
    name = short(trace.engine, _LONGEST_TITLE) or "An engine without a name"
    first_s, last_s = columns.extent_s
    strip = strip_of(columns, moments) if last_s > first_s else None
    if strip is None:  # no calls, or calls that took no time
        first_s, last_s = first_s - 0.0005, first_s + 0.0005
    margin_s = 0.01 * (last_s - first_s)
    range_s = first_s - margin_s, last_s + margin_s
    units = ((3 * 3600, 3600, "h"), (600, 60, "min"), (0, 1, "s"))
    unit_s, unit = next(each[1:] for each in units if max(map(abs, range_s)) >= each[0])
    low_ms, high_ms, logarithmic = _range_ms(columns)
    limit_ms = np.where(np.isnan(columns.limit_ms), 0.0, columns.limit_ms)
    excess = columns.latency_ms - limit_ms
    groups = 2 * columns.chosen + columns.failed
    bound_ms = np.minimum(columns.limit_ms, 10 * high_ms)
    drawn = thinned(columns.end_s, groups, (columns.latency_ms, excess), points)
    rows = _rows(columns)
    return Content(
        title=f"{name}: {plural(len(columns), 'call')}",
        columns=columns,
        rows=rows,
        drawn=drawn,
        prediction=_prediction(columns, points, last_s - first_s, high_ms),
        limit=Line("limit", *steps(columns.start_s, bound_ms, last_s, points), True),
        strip=strip,
        exits=None if strip is None else exit_shares(columns),
        energy=energy_panel(columns),
        range_ms=(low_ms, high_ms),
        logarithmic=logarithmic,
        range_s=range_s,
        scale=1 / unit_s,
        unit=unit,
        notes=_notes(columns, len(drawn), len(rows), high_ms, trace.cut_short),
        modes=_modes(columns),
    )


def _modes(columns: Columns) -> tuple[tuple[float, str], ...]:
    found: list[tuple[float, str]] = []
    for start_s, call in zip(columns.start_s.tolist(), columns.calls, strict=True):
        if call.mode and (not found or found[-1][1] != call.mode):
            found.append((start_s, call.mode))
    if not 0 < len(found) <= _MOST_MODES:
        return ()
    first_s, last_s = columns.extent_s
    ends_s = [*(at_s for at_s, _ in found[1:]), last_s]
    room_s = _MODE_SHARE * (last_s - first_s)
    return tuple(
        (at_s, mode if end_s - at_s >= room_s else "")
        for (at_s, mode), end_s in zip(found, ends_s, strict=True)
    )


def _rows(columns: Columns) -> tuple[int, ...]:
    everything = tuple(range(len(columns.configurations)))
    if len(everything) <= _ALL_SHOWN or not len(columns):
        return everything[:_ALL_SHOWN]
    return tuple(int(index) for index in np.unique(columns.chosen))


def _range_ms(columns: Columns) -> tuple[float, float, bool]:
    """Returns where the latency axis begins and ends, and whether it is logarithmic.

    Every latency is inside; limits and predictions far above them are not.
    """
    if not len(columns):
        return 0.0, 1.0, False
    lowest, highest = float(columns.latency_ms.min()), float(columns.latency_ms.max())
    bounds = np.concatenate((columns.limit_ms, columns.predicted_ms))
    near = bounds[(bounds <= _IN_VIEW * highest) & (bounds > 0)]
    top = float(max(highest, near.max() if len(near) else 0.0))
    if lowest > 0 and highest > _LOG_FROM * lowest:
        low = min(lowest, float(near.min()) if len(near) else lowest)
        return max(low, lowest / 10) / 1.3, 1.3 * top, True
    return min(0.0, 1.1 * lowest), 1.1 * top or 1.0, False


def _prediction(columns: Columns, points: int, span_s: float, high_ms: float) -> Line:
    """Returns one line per configuration, joined: they alternate where budgets are mixed."""
    kept = thinned(columns.end_s, columns.chosen, (columns.predicted_ms,), points)
    xs, ys = [np.empty(0)], [np.empty(0)]
    for row in range(len(columns.configurations)):
        own = kept[columns.chosen[kept] == row]
        x, y = columns.end_s[own], np.minimum(columns.predicted_ms[own], 10 * high_ms)
        pauses = np.flatnonzero(np.diff(x) > _PAUSE_SHARE * span_s) + 1
        ends = np.append(pauses, len(x))
        xs.append(np.insert(x, ends, np.nan))
        ys.append(np.insert(y, ends, np.nan))
    return Line("prediction", np.concatenate(xs), np.concatenate(ys), False)


def _notes(
    columns: Columns, drawn: int, rows: int, high_ms: float, cut_short: bool
) -> tuple[str, ...]:
    notes = []
    count, configurations = len(columns), len(columns.configurations)
    if not count:
        notes.append("The trace holds no calls.")
    if drawn < count:
        notes.append(
            f"Thinned: {drawn} of {count} calls are drawn, the fastest and the slowest of"
            " each moment among them."
        )
    if rows < configurations:
        notes.append(f"{configurations - rows} configurations that never ran are left out.")
    if (columns.limit_ms > high_ms).any():
        notes.append("Some limits are above the latency axis.")
    if cut_short:
        notes.append("The file ends within a line: the last call is missing.")
    return tuple(notes)


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Time in columns of one width.

    Attributes:
        edges_s: Where the columns begin and end.
        shares: Of each configuration in each column, between 0 and 1; NaN where none ran.
        infeasible: Whether a call in the column had a budget that nothing could meet.
    """

    edges_s: Floats
    shares: Floats
    infeasible: Flags

    @property
    def infeasible_spans_s(self) -> list[tuple[float, float]]:
        """Beginning and end of each stretch of infeasible calls."""
        padded = np.concatenate(([False], self.infeasible, [False]))
        turns = self.edges_s[np.flatnonzero(np.diff(padded))]
        return [(float(a), float(b)) for a, b in zip(turns[::2], turns[1::2], strict=True)]


def strip_of(columns: Columns, count: int) -> Strip:
    """Returns ``count`` columns; there must be a call, and time must pass."""
    first_s, last_s = columns.extent_s
    edges_s = np.linspace(first_s, last_s, count + 1)
    # An interval lasts until the next call begins, unless that is a pause.
    next_s = np.append(columns.start_s[1:], columns.end_s[-1])
    usual_s = float(np.median(np.diff(columns.end_s))) if len(columns) > 1 else 0.0
    bridged = next_s - columns.end_s <= _BRIDGED * usual_s
    end_s = np.where(bridged, np.maximum(next_s, columns.end_s), columns.end_s)
    end_s = np.maximum(end_s, columns.start_s + (last_s - first_s) / count)
    start_s, end_s = columns.start_s - first_s, end_s - first_s
    covered = np.stack(
        [
            _covered(start_s[own], end_s[own], edges_s - first_s)
            for own in (columns.chosen == i for i in range(len(columns.configurations)))
        ]
    )
    least = 1e-6 * (last_s - first_s) / count
    covered[covered < least] = 0.0  # what rounding leaves of nothing
    total = covered.sum(0)
    none = np.full_like(covered, np.nan)
    shares = np.divide(covered, total, out=none, where=total > 0)
    bad = ~columns.feasible
    infeasible = _covered(start_s[bad], end_s[bad], edges_s - first_s) > least
    return Strip(edges_s, shares, infeasible)


@dataclass(frozen=True, slots=True, eq=False)
class ExitShares:
    """Where calls were answered, over time.

    Attributes:
        edges_s: Where the moments begin and end.
        shares: Of each of ``Columns.exits`` at each moment, between 0 and 1; 0 without calls.
    """

    edges_s: Floats
    shares: Floats


def exit_colours(names: Sequence[str]) -> list[str]:
    """Returns the colour of each of ``Columns.exits`` on a light ground."""
    own = {"end": LIGHT.muted, "deadline": LIGHT.alarm}
    return [own.get(name, PARTS[at % len(PARTS)]) for at, name in enumerate(names)]


def exit_shares(columns: Columns) -> ExitShares | None:
    """Returns where calls were answered; None where all ran to their end."""
    if set(columns.exits) <= {"end"}:
        return None
    moments = max(min(len(columns) // _CALLS_A_MOMENT, _MOMENTS), 1)
    edges_s = np.linspace(*columns.extent_s, moments + 1)
    counts = np.stack(
        [
            np.histogram(columns.end_s[columns.answered == at], edges_s)[0]
            for at in range(len(columns.exits))
        ]
    )
    return ExitShares(edges_s, counts / np.maximum(counts.sum(0), 1))


def _covered(start_s: Floats, end_s: Floats, edges_s: Floats) -> Floats:
    """Returns how much of each column the intervals cover, overlaps counted each time."""
    until = _ramps(start_s, edges_s) - _ramps(end_s, edges_s)
    return np.maximum(np.diff(until), 0.0)


def _ramps(from_s: Floats, at_s: Floats) -> Floats:
    """Returns the sum of max(0, at - from) over all ``from_s``."""
    ordered = np.sort(from_s)
    sums = np.concatenate(([0.0], np.cumsum(ordered)))
    begun = np.searchsorted(ordered, at_s)
    return begun * at_s - sums[begun]

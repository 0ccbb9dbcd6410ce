"""What both pictures show, in their units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipc.tools.console import plural
from skipc.tools.printable import short
from skipc.tools.trace.columns import columns_of
from skipc.tools.trace.energy_panel import energy_panel
from skipc.tools.trace.strip import strip_of
from skipc.tools.trace.thinning import thinned

if TYPE_CHECKING:
    from skipc.runtime.call.trace import Trace
    from skipc.tools.trace.columns import Columns, Floats, Indices
    from skipc.tools.trace.energy_panel import EnergyPanel
    from skipc.tools.trace.strip import Strip

_ALL_SHOWN = 12
_LOG_FROM = 30.0
_IN_VIEW = 3.0
_PAUSE_SHARE = 0.015
_LONGEST_TITLE = 60


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What both pictures show.

    Attributes:
        title: What was traced, and how many calls.
        columns: Every call.
        rows: Which configurations have a row: indices into ``columns.configurations``.
        drawn: The calls that are drawn as points.
        predictions: x in seconds and y of the prediction's line; NaN where it breaks.
        limit: Likewise of the limit; a value holds until the next one.
        strip: What ran when; None without calls.
        energy: The energy panel; None where nothing is known.
        range_ms: The latency axis.
        logarithmic: Whether it is logarithmic.
        range_s: The time axis.
        notes: What else the reader has to know.
    """

    title: str
    columns: Columns
    rows: tuple[int, ...]
    drawn: Indices
    predictions: tuple[Floats, Floats]
    limit: tuple[Floats, Floats]
    strip: Strip | None
    energy: EnergyPanel | None
    range_ms: tuple[float, float]
    logarithmic: bool
    range_s: tuple[float, float]
    notes: tuple[str, ...]

    def drawn_of(self, row: int, failed: bool) -> Indices:
        """Returns the calls of a configuration that are drawn."""
        chosen, ended = self.columns.chosen[self.drawn], self.columns.failed[self.drawn]
        own: Indices = self.drawn[(chosen == row) & (ended == failed)]
        return own


def content_of(trace: Trace, points: int, moments: int) -> Content:
    """Returns what to show of a trace.

    Args:
        trace: The calls.
        points: Most calls that may be drawn.
        moments: Columns of the strip.
    """
    columns = columns_of(trace)
    name = short(trace.engine, _LONGEST_TITLE) or "An engine without a name"
    first_s, last_s = columns.extent_s
    if last_s <= first_s:  # no calls, or calls that took no time
        first_s, last_s = first_s - 0.0005, first_s + 0.0005
    margin_s = 0.01 * (last_s - first_s)
    low_ms, high_ms, logarithmic = _range_ms(columns)
    limit_ms = np.where(np.isnan(columns.limit_ms), 0.0, columns.limit_ms)
    excess = columns.latency_ms - limit_ms
    groups = 2 * columns.chosen + columns.failed
    drawn = thinned(columns.end_s, groups, (columns.latency_ms, excess), points)
    rows = _rows(columns)
    extent_s = columns.extent_s
    return Content(
        title=f"{name}: {plural(len(columns), 'call')}",
        columns=columns,
        rows=rows,
        drawn=drawn,
        predictions=_predictions(columns, points, last_s - first_s, high_ms),
        limit=_limit(columns, points, last_s, high_ms),
        strip=strip_of(columns, moments) if extent_s[1] > extent_s[0] else None,
        energy=energy_panel(columns),
        range_ms=(low_ms, high_ms),
        logarithmic=logarithmic,
        range_s=(first_s - margin_s, last_s + margin_s),
        notes=_notes(columns, len(drawn), len(rows), high_ms, trace.cut_short),
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


def _predictions(
    columns: Columns, points: int, span_s: float, high_ms: float
) -> tuple[Floats, Floats]:
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
    return np.concatenate(xs), np.concatenate(ys)


def _limit(
    columns: Columns, points: int, last_s: float, high_ms: float
) -> tuple[Floats, Floats]:
    if not len(columns):
        return np.empty(0), np.empty(0)
    order = np.argsort(columns.start_s, kind="stable")
    limit_ms = columns.limit_ms[order]
    before = np.concatenate(([np.inf], limit_ms[:-1]))
    same = (limit_ms == before) | (np.isnan(limit_ms) & np.isnan(before))
    changes = np.flatnonzero(~same)
    x, y = columns.start_s[order][changes], np.minimum(limit_ms[changes], 10 * high_ms)
    kept = thinned(x, np.zeros(len(x), np.intp), (np.nan_to_num(y, nan=-1.0),), points)
    x, y = x[kept], y[kept]
    return np.append(x, last_s), np.append(y, y[-1])


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

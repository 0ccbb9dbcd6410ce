"""Numbers and names as the report shows them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from skipc.tools.console import short

if TYPE_CHECKING:
    from skipc.runtime.bundle.manifest import ChoiceEntry, ConfigurationEntry
    from skipc.tools.trtbench.latency import RatioInterval

_MOST_NAMED = 12
NOTHING = "-"


def number(value: float, digits: int = 3) -> str:
    """Returns a number with so many significant digits, never in scientific notation."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(digits - 1 - math.floor(math.log10(abs(rounded))), 0)
    return f"{rounded:,.{decimals}f}".replace(",", "\u202f")


def exact(value: float) -> float:
    """Returns a number with as many digits as a chart can show, so that the page is small."""
    return float(f"{value:.6g}")


def milliseconds(value: float | None) -> str:
    """Returns a latency."""
    return NOTHING if value is None else f"{number(value)} ms"


def percent(share: float | None) -> str:
    """Returns an accuracy; what is not all of it is not rounded to all."""
    if share is None:
        return NOTHING
    shown = min(100 * share, 99.99) if 0 < share < 1 else 100 * share
    return f"{shown:.2f} %"


def ratio(interval: RatioInterval | None) -> str:
    """Returns a ratio with its interval of 95 %."""
    if interval is None:
        return NOTHING
    if interval.low is None or interval.high is None:
        return f"{interval.ratio:.3f} (too few runs for an interval)"
    width = max(interval.high - interval.low, 1e-6)
    # As many decimals as tell the ends apart.
    decimals = min(max(1 - math.floor(math.log10(width)), 2), 4)
    ends = f"{interval.low:.{decimals}f} to {interval.high:.{decimals}f}"
    return f"{interval.ratio:.{decimals}f} ({ends})"


def chosen(entry: ConfigurationEntry) -> str:
    """Returns a configuration's choices with what each takes, cut where that is much."""
    return "; ".join(_choice(choice) for part in entry.parts for choice in part.choices)


def _choice(choice: ChoiceEntry) -> str:
    listed = ", ".join(short(name, 40) for name in choice.taken[:_MOST_NAMED])
    left = len(choice.taken) - _MOST_NAMED
    more = f" and {left} more" if left > 0 else ""
    text = short(choice.text, 60)
    return text if listed in ("", text) else f"{text}: {listed}{more}"

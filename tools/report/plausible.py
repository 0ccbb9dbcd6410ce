"""Refuses numbers that no device gave: arithmetic on them would overflow.

The readers of the formats take any finite number. A page of a file that somebody made up is to
end in an error, not in a traceback.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from skipc.tools.report import ReportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MOST = 1e18
# A picosecond and 30 years, in milliseconds: a float holds every interval of their ratios.
_LEAST_COST, _MOST_COST = 1e-9, 1e12
_COSTS = ("_ms", "_mj")
_NAMES = ("name", "configuration", "graph")


def check_numbers(parts: Iterable[Any], where: str) -> None:
    """Checks every number in parts of a document.

    Args:
        parts: Dataclasses, such as a manifest's graphs.
        where: The document, for the message.

    Raises:
        ReportError: A number is too large, or a latency or an energy too small.
    """
    for part in parts:
        for who, is_cost, value in _numbers(asdict(part), type(part).__name__.lower(), False):
            costs = is_cost and value != 0
            least, most = (_LEAST_COST, _MOST_COST) if costs else (0.0, _MOST)
            if not least <= abs(value) <= most:
                told = f"{value:g}" if isinstance(value, float) else f"{str(value)[:30]} ..."
                raise ReportError(
                    f"{where}: {who}: {told} is no number that was measured: expected"
                    f" {least:g} to {most:g}. The file was altered; make it anew."
                )


def _numbers(value: object, who: str, is_cost: bool) -> Iterator[tuple[str, bool, float]]:
    """Yields whose each number is, and whether it is of milliseconds or millijoules."""
    if isinstance(value, (int, float)):
        yield who, is_cost, value
    elif isinstance(value, dict):
        named = [value[key] for key in _NAMES if isinstance(value.get(key), str)]
        for key, inner in value.items():
            spent = is_cost or (key.endswith(_COSTS) and key != "spread_mj")
            yield from _numbers(inner, repr(named[0]) if named else who, spent)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _numbers(inner, who, is_cost)

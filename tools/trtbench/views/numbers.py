"""How figures are written in the tables."""

from __future__ import annotations


def ms_text(value_ms: float) -> str:
    """Returns milliseconds with four digits, e.g. ``0.03214`` or ``12.35``."""
    return f"{value_ms:.0f}" if value_ms >= 1000 else f"{value_ms:.4g}"


def range_text(low: float | None, high: float | None) -> str:
    """Returns an interval of ratios, or ``-`` where there is none."""
    return "-" if low is None or high is None else f"{low:.3f} .. {high:.3f}"

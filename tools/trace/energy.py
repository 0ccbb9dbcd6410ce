"""Energy over time, metered or else expected: the curves, and the panel that shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skipc.tools.trace.columns import Line, or_nan, steps

if TYPE_CHECKING:
    from skipc.tools.trace.columns import Columns, Floats


_MOMENTS = 400
_WINDOWS = 40
_LEAST_CALLS = 10
_LEAST_STEPS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Something that adds up over time: straight between its knots, flat beyond them.

    Attributes:
        time_s: The knots; never going back.
        total: What had come together until then.
    """

    time_s: Floats
    total: Floats

    @property
    def span_s(self) -> float:
        """From the first knot to the last."""
        return float(self.time_s[-1] - self.time_s[0])

    def added(self, from_s: Floats, to_s: Floats) -> Floats:
        """Returns what was added in each interval."""
        until, before = (np.interp(at, self.time_s, self.total) for at in (to_s, from_s))
        return np.asarray(until - before, float)


def metered_curve(columns: Columns) -> Curve | None:
    """Returns the joules that the meter counted; None without one, or if it never moved on.

    A meter moves in steps, and calls between two steps all note the same value. The knots are
    where it moved; what came before the first step cannot be dated, so it is left out.
    """
    known = ~np.isnan(columns.metered_mj)
    time_s, total_j = columns.end_s[known], columns.metered_mj[known] / 1000
    steps = np.diff(total_j)
    if not (steps > 0).any() or (steps < 0).any():
        return None
    moved = np.flatnonzero(steps) + 1
    if len(moved) == 1:
        moved = np.array([0, len(total_j) - 1])
    curve = Curve(time_s[moved], total_j[moved])
    return curve if curve.span_s > 0 else None


def expected_curve(columns: Columns) -> Curve | None:
    """Returns the joules that calls were expected to take, without what is taken between them.

    None without calls, or where the energy of some was not known.
    """
    if not len(columns) or not (columns.energy_mj > 0).all():
        return None
    return _per_call(columns, columns.energy_mj / 1000)


def _per_call(columns: Columns, added: Floats) -> Curve | None:
    """Returns the curve that each call raises while it runs."""
    before_s = np.concatenate(([-np.inf], columns.end_s[:-1]))
    start_s = np.clip(columns.start_s, before_s, columns.end_s)
    total = np.cumsum(added)
    curve = Curve(
        np.stack([start_s, columns.end_s], 1).ravel(),
        np.stack([total - added, total], 1).ravel(),
    )
    return curve if curve.span_s > 0 else None


def mean_power_w(columns: Columns) -> tuple[float | None, str | None]:
    """Returns the mean power and its source; None where nothing is known.

    The source is ``metered``, ``assumed`` by a meter that measures nothing, or what the calls
    were ``expected`` to take, without what is taken between them.
    """
    for curve, source in (
        (metered_curve(columns), "assumed" if columns.assumed else "metered"),
        (expected_curve(columns), "expected"),
    ):
        if curve is not None:
            return float(curve.total[-1] - curve.total[0]) / curve.span_s, source
    return None, None


@dataclass(frozen=True, slots=True, eq=False)
class EnergyPanel:
    """The energy panel.

    Attributes:
        axis: What the vertical axis is, with its unit.
        lines: What was taken first, then what was granted; none far above the axis.
        window: Over what was averaged, as text.
        top: Where the vertical axis ends.
    """

    axis: str
    lines: tuple[Line, ...]
    top: float


def energy_panel(columns: Columns) -> EnergyPanel | None:
    """Returns the panel; None where nothing is known of the energy.

    Energy per call where budgets grant that and nothing else, so that the two can be
    compared; power otherwise.
    """
    metered, expected = metered_curve(columns), expected_curve(columns)
    budgets = [call.budget for call in columns.calls]
    each_mj = or_nan([budget.energy_mj for budget in budgets])
    grants_w = (
        or_nan([budget.power_w for budget in budgets]),
        or_nan([
            None if b.energy_j is None or b.horizon_s is None else b.energy_j / b.horizon_s
            for b in budgets
        ]),
    )  # fmt: skip
    averaged = any(not np.isnan(grant_w).all() for grant_w in grants_w)
    per_call = not averaged and not np.isnan(each_mj).all()
    main = (expected if per_call else None) or metered or expected
    calls = _per_call(columns, np.ones(len(columns))) if len(columns) else None
    if main is None or calls is None:
        return None
    window_s = _window_s(columns, main)
    at_s = np.linspace(main.time_s[0], main.time_s[-1], _MOMENTS)
    from_s = np.clip(at_s - window_s / 2, at_s[0], None)
    to_s = np.clip(at_s + window_s / 2, None, at_s[-1])
    made = calls.added(from_s, to_s)
    divisor = made / 1000 if per_call else to_s - from_s
    meter = "assumed" if columns.assumed else "metered"
    if per_call:
        meter += ", with what is taken between calls"
    taken = [
        Line(f"{label}, mean of {_time_text(window_s)}", at_s,
             _over(curve.added(from_s, to_s), divisor), False)
        for label, curve in (
            (meter, metered),
            ("expected of the calls (estimate)", expected),
        )
        if curve is main or (curve is not None and per_call)
    ]  # fmt: skip
    last_s = columns.extent_s[1]
    over = " and ".join(map(_time_text, _said_s(columns)[:2]))
    limits = [
        Line(label, *steps(columns.start_s, values, last_s), True)
        for label, values in zip(
            (f"granted on average over {over}", "battery: energy over horizon"),
            grants_w,
            strict=True,
        )
        if not np.isnan(values).all()
    ]
    if per_call:
        corners = steps(columns.start_s, each_mj, last_s)
        limits.append(Line("granted per call", *corners, True))
    elif not np.isnan(each_mj).all():
        last = np.clip(np.searchsorted(columns.start_s, at_s, "right") - 1, 0, None)
        power_w = each_mj[last] / 1000 * _over(made, to_s - from_s)
        limits.append(Line("granted per call, times calls", at_s, power_w, True))
    # Limits far above what was taken are left outside.
    top = float(np.nanmax(np.concatenate([line.values for line in taken])))
    near = np.concatenate([line.values for line in (*taken, *limits)])
    top = 1.12 * float(near[near <= 2 * top].max()) or 1.0
    lines = (replace(line, values=np.minimum(line.values, 10 * top)) for line in limits)
    axis = "energy (mJ per call)" if per_call else "power (W)"
    return EnergyPanel(axis, (*taken, *lines), top)


def _window_s(columns: Columns, curve: Curve) -> float:
    """Returns over what to average: what a budget says, else enough calls and steps."""
    span_s = curve.span_s
    fitting = [said_s for said_s in _said_s(columns) if said_s <= span_s / 2]
    if fitting:
        return max(fitting)
    least_s = max(
        span_s / _WINDOWS,
        span_s * _LEAST_CALLS / len(columns),
        span_s * _LEAST_STEPS / len(curve.time_s),
    )
    return min(_round_up(least_s), span_s)


def _said_s(columns: Columns) -> list[float]:
    """Returns over what budgets say that power is averaged."""
    said = {call.budget.window_s for call in columns.calls}
    return sorted(window_s for window_s in said if window_s is not None)


def _round_up(value: float) -> float:
    """Returns the next of 1, 2, 5, 10, 20 ..."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def _over(values: Floats, divisor: Floats) -> Floats:
    none = np.full_like(values, np.nan)
    return np.divide(values, divisor, out=none, where=divisor > 1e-12)


def _time_text(window_s: float) -> str:
    return f"{window_s:.3g} s" if window_s >= 1 else f"{window_s * 1000:.3g} ms"

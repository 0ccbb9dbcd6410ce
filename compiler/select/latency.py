"""Predicted latency: what each unit adds, measured once on a few configurations."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import SelectError
from skipc.compiler.extras import require
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.axes.units import Unit
    from skipc.profiles import Profile

_MIXED = 4
"""Configurations with a random half of the units, which units measured alone are fitted to."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What is left of the operations of a network's parts, each a fraction.

    Attributes:
        around: Outside of units.
        units: Of each unit; empty where all are whole.
    """

    around: float
    units: tuple[float, ...] = ()


FULL = Shares(1.0)


@dataclass(frozen=True, slots=True)
class Run:
    """What a configuration runs.

    Attributes:
        units: The units.
        scaled: How many of them have a scaled branch.
        shares: How wide it is.
    """

    units: frozenset[int]
    scaled: int = 0
    shares: Shares = FULL


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """A sum: what is always run, each unit that is, and each branch that is scaled.

    Attributes:
        base_ms: With all units skipped.
        unit_ms: What each unit adds, in network order.
        scale_ms: What the scalar of a norm adds to a branch.
        following: How much of a part's time is in proportion to its operations, a fraction;
            the rest is not saved by fewer channels.
    """

    base_ms: float
    unit_ms: tuple[float, ...]
    scale_ms: float = 0.0
    following: float = 1.0

    def predict_ms(self, run: Run) -> float:
        """Returns the latency in milliseconds."""
        narrow_ms = self._gone_ms(run) * self.following
        units_ms = sum(self.unit_ms[unit] for unit in run.units)
        return self.base_ms + units_ms + self.scale_ms * run.scaled - narrow_ms

    def times(self, factor: float) -> LatencyModel:
        """Returns the model of a network that takes ``factor`` times as long."""
        unit_ms = tuple(factor * cost_ms for cost_ms in self.unit_ms)
        return LatencyModel(
            factor * self.base_ms, unit_ms, factor * self.scale_ms, self.following
        )

    def following_widths(
        self, narrow: Mapping[str, Run], measured_ms: Mapping[str, float]
    ) -> LatencyModel:
        """Returns the model that is nearest to narrow networks that were measured.

        Args:
            narrow: Configurations with fewer channels, by name.
            measured_ms: Their latencies.
        """
        whole = replace(self, following=0.0)
        gone = np.array([self._gone_ms(run) for run in narrow.values()])
        saved = np.array(
            [whole.predict_ms(run) - measured_ms[name] for name, run in narrow.items()]
        )
        if not gone.any():
            return self
        return replace(self, following=float(np.clip(gone @ saved / (gone @ gone), 0, 1)))

    def _gone_ms(self, run: Run) -> float:
        """Returns what is saved at most: in proportion to the operations that go."""
        around_ms = self.base_ms * (1 - run.shares.around)
        if not run.shares.units:
            return around_ms
        shares = run.shares.units
        return around_ms + sum(self.unit_ms[u] * (1 - shares[u]) for u in run.units)


def fit_latency(
    units: tuple[Unit, ...],
    free: Sequence[int],
    design: Mapping[str, Run],
    measured_ms: Mapping[str, float],
) -> LatencyModel:
    """Returns what each unit adds, from a few measured configurations.

    Units with the same MACs and parameters are taken to cost the same; the costs are the
    non-negative least squares of the relative error.

    Args:
        units: The units.
        free: Indices of those that may be skipped.
        design: What the configurations of ``designed`` run, by their names.
        measured_ms: Their latencies.
    """
    kinds = _kinds(units, free)
    weights = _weights(units, kinds)
    rows, values = [], []
    for name, run in design.items():
        shares = run.shares.units or (1.0,) * len(units)
        work = (sum(shares[u] * weights[u] for u in run.units.intersection(k)) for k in kinds)
        row = [run.shares.around, float(run.scaled), *work]
        rows.append(np.array(row) / measured_ms[name])
        values.append(1.0)
    solve = require("scipy.optimize", "select").nnls
    solution: NDArray[Any] = solve(np.array(rows), np.array(values))[0]
    unit_ms = [0.0] * len(units)
    for kind, cost_ms in zip(kinds, solution[2:], strict=True):
        for unit in kind:
            unit_ms[unit] = float(cost_ms) * weights[unit]
    # Units that are always kept are part of the base.
    return LatencyModel(float(solution[0]), tuple(unit_ms), float(solution[1]))


def designed(units: tuple[Unit, ...], free: Sequence[int]) -> dict[str, Genes]:
    """Returns the configurations of units to measure, the full network first.

    It, all free units skipped, each kind skipped, and some random halves.
    """

    def skipping(skipped: Sequence[int]) -> Genes:
        return tuple(int(unit in skipped) for unit in range(len(units)))

    found: dict[Genes, str] = {skipping(()): "full"}
    found.setdefault(skipping(free), "none")
    for number, kind in enumerate(_kinds(units, free)):
        found.setdefault(skipping(kind), f"kind{number}")
        found.setdefault(skipping(kind[: (len(kind) + 1) // 2]), f"half{number}")
    rng = random.Random(0)
    for number in range(_MIXED):
        half = rng.sample(free, len(free) // 2)
        found.setdefault(skipping(half), f"mixed{number}")
    return {name: genes for genes, name in found.items()}


def _kinds(units: tuple[Unit, ...], free: Sequence[int]) -> list[list[int]]:
    """Returns the free units in groups that are taken to cost the same."""
    alike: dict[tuple[int, int], list[int]] = {}
    for index in free:
        alike.setdefault((units[index].macs, units[index].parameters), []).append(index)
    return list(alike.values())


def _weights(units: tuple[Unit, ...], kinds: Sequence[Sequence[int]]) -> list[float]:
    """Returns each unit's own work over the mean of its kind.

    Dense layers cost the same where one reads more and is read by fewer than another.
    """
    weights = [1.0] * len(units)
    for kind in kinds:
        own = [units[unit].macs - units[unit].reading_macs for unit in kind]
        for unit, macs in zip(kind, own, strict=True):
            weights[unit] = macs * len(kind) / sum(own) if sum(own) else 1.0
    return weights


def latency_of_profile(profile: Profile, units: tuple[str, ...]) -> LatencyModel:
    """Returns the latencies that a profile's table gives.

    Raises:
        SelectError: The profile has no table, or it is another network's.
    """
    table = profile.latency
    if table is None:
        raise SelectError(
            f"the profile {profile.name!r} has no [latency] table. Measure on the device and"
            " write base_ms and unit_ms into a profile of your own, or use --cost macs."
        )
    missing = [unit for unit in units if unit not in table.unit_ms]
    if missing:
        raise SelectError(
            f"the profile {profile.name!r} gives no latency of the unit {missing[0]!r}."
            f" {choices_text(missing[0], table.unit_ms)}"
        )
    return LatencyModel(table.base_ms, tuple(table.unit_ms[unit] for unit in units))

"""Predicted latency: what each unit adds, measured once on a few configurations."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import SelectError
from skipc.compiler.extras import require
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.axes.units import Unit
    from skipc.profiles import Profile

    Run = Callable[[Genes], frozenset[int]]
    Scaled = Callable[[Genes], int]

_MIXED = 4
"""Configurations with a random half of the units, which units measured alone are fitted to."""


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """A sum: what is always run, each unit that is, and each branch that is scaled.

    Attributes:
        base_ms: With all units skipped.
        unit_ms: What each unit adds, in network order.
        scale_ms: What the scalar of a norm adds to a branch.
    """

    base_ms: float
    unit_ms: tuple[float, ...]
    scale_ms: float = 0.0

    def predict_ms(self, run: frozenset[int], scaled: int) -> float:
        """Returns the latency in milliseconds.

        Args:
            run: The units that are run.
            scaled: How many of them have a scaled branch.
        """
        units_ms = sum(self.unit_ms[unit] for unit in run)
        return self.base_ms + units_ms + self.scale_ms * scaled

    def times(self, factor: float) -> LatencyModel:
        """Returns the model of a network that takes ``factor`` times as long."""
        unit_ms = tuple(factor * cost_ms for cost_ms in self.unit_ms)
        return LatencyModel(factor * self.base_ms, unit_ms, factor * self.scale_ms)


def fit_latency(
    units: tuple[Unit, ...],
    free: Sequence[int],
    run: Run,
    scaled: Scaled,
    measured: Callable[[Mapping[str, Genes]], Mapping[str, float]],
) -> LatencyModel:
    """Returns what each unit adds, from a few measured configurations.

    Units with the same MACs and parameters are taken to cost the same. Measured are the full
    network, all free units skipped, each kind skipped, and some random halves; the costs are
    the non-negative least squares of the relative error.

    Args:
        units: The units.
        free: Indices of those that may be skipped.
        run: Which units' branches a configuration runs.
        scaled: How many of these branches a norm's scalar multiplies.
        measured: Returns the latencies of configurations in milliseconds.
    """
    alike: dict[tuple[int, int], list[int]] = {}
    for index in free:
        alike.setdefault((units[index].macs, units[index].parameters), []).append(index)
    kinds = list(alike.values())
    configurations = design(len(units), free, kinds)
    found = measured(configurations)
    rows, values = [], []
    for name, genes in configurations.items():
        alive = run(genes)
        counts = (len(alive.intersection(kind)) for kind in kinds)
        row = [1.0, float(scaled(genes)), *map(float, counts)]
        rows.append(np.array(row) / found[name])
        values.append(1.0)
    solve = require("scipy.optimize", "select").nnls
    solution: NDArray[Any] = solve(np.array(rows), np.array(values))[0]
    unit_ms = [0.0] * len(units)
    for kind, cost_ms in zip(kinds, solution[2:], strict=True):
        for unit in kind:
            unit_ms[unit] = float(cost_ms)
    # Units that are always kept are part of the base.
    return LatencyModel(float(solution[0]), tuple(unit_ms), float(solution[1]))


def design(
    count: int, free: Sequence[int], kinds: Sequence[Sequence[int]]
) -> dict[str, Genes]:
    """Returns the configurations of ``count`` units to measure, the full network first."""

    def skipping(units: Sequence[int]) -> Genes:
        return tuple(int(unit in units) for unit in range(count))

    found: dict[Genes, str] = {skipping(()): "full"}
    found.setdefault(skipping(free), "none")
    for number, kind in enumerate(kinds):
        found.setdefault(skipping(kind), f"kind{number}")
        found.setdefault(skipping(kind[: (len(kind) + 1) // 2]), f"half{number}")
    rng = random.Random(0)
    for number in range(_MIXED):
        half = rng.sample(free, len(free) // 2)
        found.setdefault(skipping(half), f"mixed{number}")
    return {name: genes for genes, name in found.items()}


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

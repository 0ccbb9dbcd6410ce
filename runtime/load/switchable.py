"""Configurations that an engine for all runs, of the bundle's or of nobody's choice yet."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from ..bundle.route import Stage
from ..errors import ChoiceError, choices_text, shown
from ..governor import OperatingPoint
from ..options import finite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ..bundle.engines import EngineSet, Switches
    from ..bundle.manifest import Manifest

    Mask = tuple[bool, ...]

_LEAST_SHARE = 1e-3
"""Of the fastest configuration: less than that nothing is predicted to take."""


@dataclass(frozen=True, slots=True)
class Switchable:
    """What an engine for all switches.

    Attributes:
        switches: The engine's switches.
        macs: What each unit computes.
        masks: The setting of each configuration.
    """

    switches: Switches
    macs: tuple[int, ...]
    masks: Mapping[str, Mask]

    @classmethod
    def of(cls, manifest: Manifest, engines: EngineSet | None) -> Switchable | None:
        """Returns it of a bundle's engines; None where each graph has its own."""
        if engines is None or engines.switches is None:
            return None
        switches = engines.switches
        macs = {option.name: option.macs for option in manifest.options("skip")}
        masks = {}
        for entry in manifest.configurations:
            values = engines.engine(entry.route[0].graph).settings[switches.input]
            masks[entry.name] = tuple(map(bool, values))
        return cls(switches, tuple(macs.get(unit, 0) for unit in switches.units), masks)

    def mask(self, skip: object) -> Mask:
        """Returns the setting that skips the units of these names, or inside these modules.

        Raises:
            ChoiceError: A name is none.
        """
        if isinstance(skip, str) or not isinstance(skip, (list, tuple, set, frozenset)):
            raise ChoiceError(f"skip={shown(skip)}: expected a list of names of units.")
        units = self.switches.units
        skipped: set[str] = set()
        for each in skip:
            found = {unit for unit in units if f"{unit}.".startswith(f"{each}.")}
            if not found:
                raise ChoiceError(
                    f"{each!r} is no unit that this engine can skip."
                    f" {choices_text(str(each), units)}"
                )
            skipped |= found
        return tuple(unit not in skipped for unit in units)

    def stage(self, mask: Mask) -> Stage:
        """Returns the route of a setting: the engine's whole graph, so set."""
        return Stage(self.switches.graph, settings={self.switches.input: mask})

    def point(
        self,
        name: str,
        mask: Mask,
        points: Mapping[str, OperatingPoint],
        ranked_by: str,
        accuracy: float | None,
    ) -> OperatingPoint:
        """Returns what is expected of a setting, by what is known of the configurations.

        Its latency is a sum over the units that run; see ``unit_times_ms``. Without
        accuracies, its rank is its MACs.

        Raises:
            ChoiceError: Configurations are ranked by accuracy, and none is given.
        """
        known = [points[other] for other in self.masks]
        masks = np.array([*self.masks.values()], np.float64)
        fixed_ms, unit_ms = unit_times_ms(
            masks, np.array([point.p50_ms for point in known]), np.array(self.macs)
        )
        least_ms = _LEAST_SHARE * min(point.p50_ms for point in known)
        p50_ms = max(fixed_ms + float(np.array(mask) @ unit_ms), least_ms)
        p95 = median(p.p95_ms / p.p50_ms for p in known)
        p99 = median((p.p99_ms or p.p95_ms) / p.p50_ms for p in known)
        if accuracy is not None:
            rank = finite(accuracy)
        elif ranked_by == "accuracy":
            raise ChoiceError(
                f"configuration {name!r}: the others are ranked by their accuracy. Say this"
                " one's: accuracy=…"
            )
        else:
            gone = sum(m for m, runs in zip(self.macs, mask, strict=True) if not runs)
            rank = max(point.rank for point in known) - gone
        whole = points[next(n for n, its in self.masks.items() if all(its))]
        return OperatingPoint(
            configuration=name,
            rank=rank,
            p50_ms=p50_ms,
            p95_ms=p50_ms * p95,
            p99_ms=p50_ms * p99,
            source="fitted",
            weights_bytes=whole.weights_bytes,
        )


def unit_times_ms(
    masks: NDArray[np.float64], times_ms: NDArray[np.float64], macs: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    """Returns what a network takes without its units, and what each unit adds, in ms.

    Units are first taken to be as fast as their MACs say. What is left of the times is then
    spread over them with the smallest relative changes (least squares of smallest norm): the
    sums are the times, as far as sums can be.

    Args:
        masks: A row for each network that was measured: by unit, 1 where it runs.
        times_ms: What each of them took.
        macs: What each unit computes.
    """
    work = masks @ macs
    if work.max() > work.min():
        slope, fixed_ms = np.polyfit(work, times_ms, 1)
    else:
        slope, fixed_ms = float(times_ms.mean() / max(work.mean(), 1)), 0.0
    guess_ms = np.maximum(slope, 0.0) * macs
    left_ms = times_ms - fixed_ms - masks @ guess_ms
    columns = np.column_stack([np.full(len(masks), max(fixed_ms, 0.0)), masks * guess_ms])
    changes, *_ = np.linalg.lstsq(columns, left_ms, rcond=1e-6)
    fixed_ms += max(fixed_ms, 0.0) * changes[0]
    return float(fixed_ms), np.maximum(guess_ms * (1 + changes[1:]), 0.0)

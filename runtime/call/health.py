"""Which engines may be trusted with a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ..governor import OperatingPoint


@final
class Health:
    """Which engines failed; not for several threads at once.

    An engine is *bad* if it failed where another one then ran on the same inputs: until it is
    restored, it runs no more. Where both fail, the inputs or the machine are more likely to
    be at fault, and neither is bad. The last good one is never left out.
    """

    def __init__(self, points: Sequence[OperatingPoint]) -> None:
        self._points = points
        self._names = [point.configuration for point in points]
        self.bad: Mapping[str, str] = {}
        """Why a configuration is left out, by its name."""

    def usable(self, hanging: Collection[str] = ()) -> Sequence[OperatingPoint]:
        """Returns the configurations that may run: those that do not hang, if there is one."""
        bad = self.bad
        if not bad and not hanging:
            return self._points
        good = [point for point in self._points if point.configuration not in bad]
        return [point for point in good if point.configuration not in hanging] or good

    def stand_in(
        self,
        failed: OperatingPoint,
        hanging: Collection[str] = (),
        min_accuracy: float | None = None,
    ) -> OperatingPoint | None:
        """Returns what may run in place of a configuration that failed: the next cheaper.

        Where none is cheaper, that is the cheapest of the others; None if there is no other.
        Those that reach ``min_accuracy`` come first; where none does, the most accurate runs.
        """
        others = [point for point in self.usable(hanging) if point != failed]
        if min_accuracy is not None and others:
            reaching = [point for point in others if point.rank >= min_accuracy]
            others = reaching or [max(others, key=lambda point: point.rank)]
        cheaper = [point for point in others if point.p50_ms < failed.p50_ms]
        if cheaper:
            return max(cheaper, key=lambda point: point.p50_ms)
        return min(others, key=lambda point: point.p50_ms, default=None)

    def mark_bad(self, configuration: str, failure: str) -> bool:
        """Leaves a configuration out until it is restored; tells whether it is from now on.

        Not if it was before, nor if it is the last: two calls at the same time may each see
        the other's configuration run where their own failed; so this may be said of every one.
        """
        left = [name for name in self._names if name not in self.bad]
        if left == [configuration] or configuration not in left:
            return False
        self.bad = {**self.bad, configuration: failure}
        return True

    def measured(self, points: Sequence[OperatingPoint]) -> None:
        """Takes what else was measured of the same configurations."""
        self._points = points

    def add(self, point: OperatingPoint) -> None:
        """Takes one more configuration, which is trusted."""
        self._points = (*self._points, point)
        self._names = [*self._names, point.configuration]

    def restore(self, configuration: str) -> None:
        """Takes a configuration back that was left out."""
        self.bad = {name: why for name, why in self.bad.items() if name != configuration}

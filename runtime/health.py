"""Which engines may be trusted with a call."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .governor import OperatingPoint

_LOG = logging.getLogger(__name__)


@final
class Health:
    """Which engines failed or hang; not for several threads at once.

    An engine is *bad* if it failed where another one then ran on the same inputs: until it is
    restored, it runs no more. Where both fail, the inputs or the machine are more likely to
    be at fault, and neither is bad. While a call *hangs*, its configuration is avoided.

    Args:
        points: All configurations.
    """

    def __init__(self, points: Sequence[OperatingPoint]) -> None:
        self._points = points
        self.bad: Mapping[str, str] = {}
        """Why a configuration is left out, by its name."""
        self.hanging: Mapping[str, int] = {}
        """How many calls of a configuration hang, by its name."""

    def usable(self) -> Sequence[OperatingPoint]:
        """Returns the configurations that may run: at least one."""
        bad, hanging = self.bad, self.hanging
        if not bad and not hanging:
            return self._points
        good = [point for point in self._points if point.configuration not in bad]
        return [point for point in good if point.configuration not in hanging] or good

    def stand_in(self, failed: OperatingPoint) -> OperatingPoint | None:
        """Returns what may run in place of a configuration that failed: the next cheaper.

        Where none is cheaper, that is the cheapest of the others; None if there is no other.
        """
        others = [point for point in self.usable() if point != failed]
        cheaper = [point for point in others if point.p50_ms < failed.p50_ms]
        if cheaper:
            return max(cheaper, key=lambda point: point.p50_ms)
        return min(others, key=lambda point: point.p50_ms, default=None)

    def mark_bad(self, configuration: str, failure: str, instead: str) -> None:
        """Leaves a configuration out until it is restored."""
        if configuration in self.bad:
            return
        self.bad = {**self.bad, configuration: failure}
        _LOG.error(
            "configuration %r failed and is left out from now on; %r ran instead."
            " AdaptiveEngine.restore(%r) takes it back. %s",
            configuration, instead, configuration, failure,
        )  # fmt: skip

    def restore(self, configuration: str) -> None:
        """Takes a configuration back that was left out."""
        self.bad = {name: why for name, why in self.bad.items() if name != configuration}

    def set_hanging(self, configuration: str, calls: int) -> None:
        """Takes note of how many calls of a configuration hang now."""
        rest = {name: n for name, n in self.hanging.items() if name != configuration}
        self.hanging = {**rest, configuration: calls} if calls else rest

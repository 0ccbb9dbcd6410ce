"""When what an engine holds is freed, and by which process."""

from __future__ import annotations

import logging
import os
import weakref
from typing import TYPE_CHECKING, final

from ..errors import ClosedError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from .controller import Controller

_LOG = logging.getLogger(__name__)


@final
class Lifetime:
    """Frees what an engine holds once: when it is closed or collected, or at exit.

    A fork of the process that made it frees nothing.

    Args:
        owner: The engine; it is not kept alive.
        control: Knows of calls in flight.
        resources: What is freed.
    """

    def __init__(self, owner: object, control: Controller, resources: ExitStack) -> None:
        self._control = control
        self._process = os.getpid()
        self._free = weakref.finalize(owner, _free, control, resources, self._process)

    @property
    def is_here(self) -> bool:
        """Whether this is the process that made it, not a fork of it."""
        return os.getpid() == self._process

    def check(self) -> None:
        """Raises ``ClosedError`` in a fork of the process that made it."""
        if not self.is_here:
            raise ClosedError(
                "the process was forked after the engine was opened, which leaves the"
                " engine's threads behind. Open an engine in the child."
            )

    def check_open(self) -> None:
        """Raises ``ClosedError`` there, or if the engine was closed."""
        self.check()
        self._control.check_open()

    def close(self) -> None:
        """Waits for the calls in flight, then frees everything. May be called again."""
        if self.is_here:
            self._control.close()
            self._free()


def _free(control: Controller, resources: ExitStack, process: int) -> None:
    if os.getpid() != process:
        return
    if control.abandon():
        resources.close()
    else:
        # Only at exit, in a thread that exit does not wait for.
        _LOG.warning(
            "the process ends while a call runs on an engine that was never closed: what the"
            " engine holds is left to the system."
        )

"""What is at work now, told by the frames of the functions that do the work.

An exception may come between any two instructions: Ctrl-C, a signal's handler, another thread
(``PyThreadState_SetAsyncExc``). What was counted up may then never be counted down, even in a
``finally``. So nothing is counted: an entry holds as long as its frame is executing, which
Python knows, and what was left behind is dropped by whoever looks.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import RLock
    from types import FrameType

Entry = TypeVar("Entry")


class Executing(Generic[Entry]):
    """Entries of functions that execute now. For several threads at once, without a lock.

    A function enters its own frame, ``sys._getframe()``, and leaves in a ``finally``. A
    generator's will not do: one that is suspended does not count as executing.
    """

    def __init__(self) -> None:
        self._entries: dict[FrameType, Entry] = {}
        self.enter: Callable[[FrameType, Entry], None] = self._entries.__setitem__
        """Notes what a function is at work on."""

    def leave(self, frame: FrameType) -> None:
        """Notes that it no longer is. May be called again."""
        self._entries.pop(frame, None)

    def __iter__(self) -> Iterator[Entry]:
        """Yields what is at work now."""
        for frame, entry in self._entries.copy().items():
            try:
                frame.clear()  # is refused where it executes
            except RuntimeError:
                yield entry
            else:
                self._entries.pop(frame, None)

    def more_than(self, count: int) -> bool:
        """Tells whether more than so many are at work."""
        if len(self._entries) <= count:
            return False
        return any(number >= count for number, _ in enumerate(self))

    def has_caller_of(self, frame: FrameType) -> bool:
        """Tells whether a function called by one that is at work is the one of ``frame``."""
        caller = frame.f_back
        while caller is not None and caller not in self._entries:
            caller = caller.f_back
        return caller is not None


def let_go(lock: RLock) -> None:
    """Gives back a lock if this thread holds it, however often it took it.

    ``with`` gives it back by itself but for one case: an exception of a trace function, as
    debuggers have, between the block's end and that.
    """
    with suppress(RuntimeError):  # it is not held
        while True:
            lock.release()

"""Carrying out a plan over some rows of data, within a memory cap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.select.walk import NEVER, Finish, Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from skipc.compiler.select.walk import Plan

    Values = list[NDArray[Any]]
    """One array per chunk of rows."""

    Compute = Callable[[Key, tuple[Values, ...]], Values]


class Run:
    """Holds each value until its last use.

    Over the cap the value whose next use is furthest away is dropped, and computed again
    when it is wanted.

    Args:
        plan: What to do.
        given: The network's inputs by name.
        compute: Runs the segment of a key on what it reads.
        memory_bytes: How much to hold, beside what is being computed.

    Attributes:
        peak_bytes: The most that was held.
    """

    def __init__(
        self, plan: Plan, given: Mapping[str, Values], compute: Compute, memory_bytes: int
    ) -> None:
        self._plan = plan
        self._given = given
        self._compute = compute
        self._memory_bytes = memory_bytes
        self._held: dict[Key, Values] = {}
        self._held_bytes = 0
        self.peak_bytes = 0

    def finished(self) -> Iterator[Finish]:
        """Yields each configuration when what it wants can be read with ``value``."""
        for number, event in enumerate(self._plan.events):
            if isinstance(event, Finish):
                yield event
            else:
                self.value(event.key)
            for key in list(self._held):
                if self._plan.next_use(key, number + 1) == NEVER:
                    self._drop(key)
            self._keep_cap(number + 1)

    def value(self, key: Key) -> Values:
        """Returns a value, computed now if it is not held."""
        if key.name in self._given:
            return self._given[key.name]
        if key not in self._held:
            values = self._compute(key, tuple(self.value(k) for k in self._plan.inputs[key]))
            self._held[key] = values
            self._held_bytes += _size_bytes(values)
            self.peak_bytes = max(self.peak_bytes, self._held_bytes)
        return self._held[key]

    def _keep_cap(self, now: int) -> None:
        while self._held_bytes > self._memory_bytes and self._held:
            self._drop(max(self._held, key=lambda key: self._plan.next_use(key, now)))

    def _drop(self, key: Key) -> None:
        self._held_bytes -= _size_bytes(self._held.pop(key))


def _size_bytes(values: Values) -> int:
    return sum(array.nbytes for array in values)

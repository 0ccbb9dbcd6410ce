"""Carrying out a plan over some rows of data, within a memory cap."""

from __future__ import annotations

from collections import Counter
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
        self._size_bytes: dict[str, int] = {}
        self._pinned: Counter[Key] = Counter()
        self._now = 0
        self.peak_bytes = 0

    def finished(self) -> Iterator[Finish]:
        """Yields each configuration when what it wants can be read with ``value``."""
        for number, event in enumerate(self._plan.events):
            self._now = number
            if isinstance(event, Finish):
                yield event
            else:
                self.value(event.key)
            self._now = number + 1
            self._keep_cap()

    def value(self, key: Key) -> Values:
        """Returns a value, computed now if it is not held."""
        if key.name in self._given:
            return self._given[key.name]
        if key not in self._held:
            self._make(key)
        return self._held[key]

    def _make(self, key: Key) -> None:
        """Computes a value and what it needs that is not held, each once."""
        order = self._missing(key)
        self._pinned[key] += 1
        for one in order:
            self._pinned.update(self._plan.inputs[one])
        for one in order:
            self._keep_cap(self._size_bytes.get(one.name, 0))
            read = self._plan.inputs[one]
            values = self._compute(one, tuple(self.value(below) for below in read))
            self._pinned.subtract(read)
            self._hold(one, values)
        self._pinned[key] -= 1

    def _missing(self, key: Key) -> list[Key]:
        """Returns what is to be computed for ``key``, itself last."""
        order: dict[Key, None] = {}
        pending = [(key, False)]
        while pending:
            one, ready = pending.pop()
            if one in order or one in self._held or one.name in self._given:
                continue
            if ready:
                order[one] = None
            else:
                pending.append((one, True))
                pending += [(below, False) for below in self._plan.inputs[one]]
        return list(order)

    def _hold(self, key: Key, values: Values) -> None:
        self._held[key] = values
        self._size_bytes[key.name] = _size_bytes(values)
        self._held_bytes += _size_bytes(values)
        self.peak_bytes = max(self.peak_bytes, self._held_bytes)
        self._keep_cap()

    def _keep_cap(self, wanted_bytes: int = 0) -> None:
        """Drops what is not read again, and over the cap what is read last."""
        next_use = {
            key: self._plan.next_use(key, self._now)
            for key in self._held
            if not self._pinned[key]
        }
        for key in sorted(next_use, key=lambda key: -next_use[key]):
            over = self._held_bytes + wanted_bytes > self._memory_bytes
            if over or next_use[key] == NEVER:
                self._drop(key)

    def _drop(self, key: Key) -> None:
        self._held_bytes -= _size_bytes(self._held.pop(key))


def _size_bytes(values: Values) -> int:
    return sum(array.nbytes for array in values)

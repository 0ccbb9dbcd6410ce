"""How much fits on a device: the limit that was set, and what it turned out to hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..errors import ChoiceError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_FORGOTTEN_AFTER_LOADS = 16


class Room:
    """Says what fits beside what.

    Args:
        size_bytes: What each item takes, by name.
        limit_bytes: What all may take together; None for no limit.

    Raises:
        ChoiceError: An item is larger than the limit.
    """

    def __init__(self, size_bytes: Mapping[str, int], limit_bytes: int | None) -> None:
        largest = max(size_bytes, key=lambda name: size_bytes[name])
        if limit_bytes is not None and size_bytes[largest] > limit_bytes:
            raise ChoiceError(
                f"device_bytes={limit_bytes}: the engine of configuration {largest!r} alone"
                f" takes {size_bytes[largest]} bytes. Grant at least that."
            )
        self._size_bytes = dict(size_bytes)
        self._granted_bytes = math.inf if limit_bytes is None else limit_bytes
        self._learnt_bytes = math.inf
        self._learnt_at = 0

    def fits(self, name: str, held: Collection[str], loads: int) -> bool:
        """Tells whether ``name`` fits beside what is held; alone it is always tried.

        Args:
            name: What is to be loaded.
            held: What is loaded.
            loads: How many loads there were so far.
        """
        return not held or self._bytes(held) + self._size_bytes[name] <= self._limit(loads)

    def full(self, name: str, held: Collection[str], loads: int) -> None:
        """Notes that the device had no memory for ``name`` beside what is held."""
        if held:
            self._learnt_bytes = self._bytes(held) + self._size_bytes[name] - 1
            self._learnt_at = loads

    def staying(
        self, coming: Collection[str], last: str, others: Sequence[str], loads: int
    ) -> frozenset[str]:
        """Returns what can stay beside what is coming; nothing if ``last`` cannot.

        Args:
            coming: What is to be loaded, or is being loaded.
            last: What must stay.
            others: What else is loaded, the one that should stay first in front.
            loads: How many loads there were so far.
        """
        room_bytes = self._limit(loads) - self._bytes([*coming, last])
        if room_bytes < 0:
            return frozenset()
        staying = {last}
        for other in others:
            if self._size_bytes[other] <= room_bytes:
                room_bytes -= self._size_bytes[other]
                staying.add(other)
        return frozenset(staying)

    def _bytes(self, names: Collection[str]) -> int:
        return sum(self._size_bytes[name] for name in names)

    def _limit(self, loads: int) -> float:
        if loads - self._learnt_at > _FORGOTTEN_AFTER_LOADS:
            self._learnt_bytes = math.inf  # other programs may have gone
        return min(self._granted_bytes, self._learnt_bytes)

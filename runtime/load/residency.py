"""Which engines are loaded: as many as fit, the least recently used leave first.

One layer above all backends, keyed by graph. Where everything fits, it is out of the way:
a configuration then runs its engine itself (``runs``).
"""

from __future__ import annotations

import atexit
import logging
import math
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Condition, Thread
from typing import TYPE_CHECKING, Generic, TypeVar

from ..backends import Engine
from ..backends.cuda import DeviceMemoryError
from ..errors import BackendError, ChoiceError, ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ..backends import Arrays, Outputs, Run

Item = TypeVar("Item", bound=Engine)

_LOG = logging.getLogger(__name__)
_FORGOTTEN_AFTER_LOADS = 16


@dataclass(frozen=True, slots=True)
class ResidencyCounts:
    """What happened so far.

    Attributes:
        loads: Engines loaded, in the background or not.
        evictions: Engines that had to leave for another.
        waits: Uses that had to wait until an engine was loaded.
    """

    loads: int = 0
    evictions: int = 0
    waits: int = 0


class Residency(Generic[Item]):
    """Loads engines by graph and keeps them within a limit of bytes.

    An engine in use is never freed. One is loaded at a time; others may be used meanwhile.
    All methods may be called from any thread. Where the device turns out to be full
    (``DeviceMemoryError``), the least recently used engine leaves and it is tried again, until
    none is left to leave.

    Args:
        load: Loads a graph's engine; called without any lock held.
        size_bytes: The device memory that each engine takes, by graph.
        limit_bytes: What all loaded ones may take together; None for no limit.
        keep: The graph that leaves last: one that must be at hand at once.

    Raises:
        ChoiceError: An engine is larger than the limit.
    """

    def __init__(
        self,
        load: Callable[[str], Item],
        size_bytes: Mapping[str, int],
        limit_bytes: int | None = None,
        keep: str | None = None,
    ) -> None:
        self._load = load
        self._room = _Room(size_bytes, limit_bytes)
        self._keep = keep
        self._items: dict[str, Item] = {}  # the least recently used first
        self._leaving: list[tuple[str, Item]] = []  # gone for callers, not freed yet
        self._users: dict[str, int] = dict.fromkeys(size_bytes, 0)
        self._last: str | None = None
        self._loading: str | None = None
        self._wanted: str | None = None
        self._failed: set[str] = set()
        self._worker: Thread | None = None
        self._counts = ResidencyCounts()
        self._closed = False
        self._changed = Condition()

    @property
    def counts(self) -> ResidencyCounts:
        """What happened so far."""
        return self._counts

    @property
    def all_stay(self) -> bool:
        """Whether every engine is loaded, so that none has to leave for another."""
        return len(self._items) == len(self._users)

    @property
    def resident(self) -> tuple[str, ...]:
        """The graphs whose engines are loaded now, the least recently used first."""
        with self._changed:
            return tuple(self._items)

    def ready(self, graph: str) -> bool:
        """Tells whether ``use`` would not have to wait."""
        return graph in self._items

    def runs(self) -> dict[str, Run]:
        """Returns what runs each graph: its engine's own ``run`` where all of them stay."""
        with self._changed:
            if self.all_stay:
                return {graph: item.run for graph, item in self._items.items()}
        return {graph: partial(self.run, graph) for graph in self._users}

    def run(self, graph: str, inputs: Arrays) -> Outputs:
        """Returns the graph's outputs, its engine loaded first if it is not there."""
        with self.use(graph) as item:
            return item.run(inputs)

    def load(self, graph: str) -> None:
        """Loads an engine before anybody waits for it.

        Raises:
            BackendError: It cannot be loaded.
            ClosedError: ``close`` was called.
        """
        with self._changed:
            self._ensure(graph)

    @contextmanager
    def use(self, graph: str) -> Iterator[Item]:
        """Yields an engine, loaded first if it is not there; it stays until the block ends.

        Raises:
            BackendError: It cannot be loaded. What was in use is untouched.
            ClosedError: ``close`` was called.
        """
        with self._changed:
            if self._ensure(graph):
                self._counts = replace(self._counts, waits=self._counts.waits + 1)
            item = self._items[graph] = self._items.pop(graph)
            self._users[graph] += 1
            self._last = graph
        try:
            yield item
        finally:
            with self._changed:
                self._users[graph] -= 1
                self._changed.notify_all()

    def prepare(self, graph: str) -> frozenset[str]:
        """Begins to load an engine in the background.

        The one used last stays, since the next call may want it again, and of the others as
        many as there is room for.

        Returns:
            The graphs that stay at hand until it is there. Empty where there is no room beside
            the one used last, or the last try failed: then only ``use`` loads it, and waits.
        """
        with self._changed:
            if self._closed or graph in self._failed:
                return frozenset()
            if graph not in self._items and graph not in (self._loading, self._wanted):
                staying = self._staying_beside(graph)
                if not staying:
                    return frozenset()
                for other in [other for other in self._items if other not in staying]:
                    self._leaving.append((other, self._take_out(other)))
                self._wanted = graph
                if self._worker is None:
                    self._worker = Thread(target=self._work, name="skipc-prepare", daemon=True)
                    self._worker.start()
                    # A library must not be at work in a thread when the interpreter goes.
                    atexit.register(self._stop)
                self._changed.notify_all()
            return frozenset(self._items)

    def close(self) -> None:
        """Waits for what is in use or being loaded, then frees everything."""
        self._stop()
        atexit.unregister(self._stop)
        with self._changed:
            self._changed.wait_for(
                lambda: self._loading is None and not any(self._users.values())
            )
            left = [*self._leaving, *self._items.items()]
            self._leaving, self._items = [], {}
            self._changed.notify_all()
        with ExitStack() as stack:  # one that fails does not keep the others
            for _, item in left:
                stack.callback(item.close)

    def _stop(self) -> None:
        """Ends the background thread, without freeing anything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join()

    def _ensure(self, graph: str) -> bool:
        """Loads an engine if it is not there; tells whether it was not. The lock is held."""
        waited = False
        while graph not in self._items:
            waited = True
            self._check_open()
            if self._loading is None:
                self._load_here(graph)
            else:
                self._changed.wait()
        self._check_open()
        return waited

    def _load_here(self, graph: str) -> None:
        """Loads ``graph`` for a caller who waits; others leave for it."""
        self._loading = graph
        try:
            while graph not in self._items:
                while not self._has_room(graph):
                    if not self._evict():
                        self._changed.wait()  # until a use ends, or what is leaving is gone
                        self._check_open()
                full = self._try(graph)
                if full is None or self._leaving or self._idle():
                    continue
                if self._items:
                    raise BackendError(
                        f"graph {graph!r}: no device memory left for its engine beside those"
                        f" in use: {full} Make fewer calls at the same time."
                    )
                raise BackendError(
                    f"graph {graph!r}: no device memory left for its engine, even with every"
                    f" other one freed: {full} Close other programs on the device, or build"
                    " fewer or smaller configurations."
                )
        finally:
            self._loading = None
            self._changed.notify_all()

    def _work(self) -> None:
        """Loads what is wanted, in the background, for as long as it is open."""
        with self._changed:
            while not self._closed:
                if self._leaving:
                    self._free_one()
                elif self._wanted is None or self._loading is not None:
                    self._changed.wait()
                else:
                    self._load_wanted(self._wanted)

    def _free_one(self) -> None:
        graph, item = self._leaving[0]
        if self._users[graph]:
            self._changed.wait()
            return
        self._changed.release()
        try:
            _free(graph, item)
        finally:
            self._changed.acquire()
            self._leaving.pop(0)
            self._changed.notify_all()

    def _load_wanted(self, graph: str) -> None:
        self._wanted = None
        if graph in self._items or not self._has_room(graph):
            return  # a call that waits was faster, or took the room
        self._loading = graph
        try:
            self._try(graph)  # a full device has lowered the limit: the next prepare knows
        except Exception as cause:  # `use` tries again, and raises to its caller
            _LOG.warning("graph %r could not be loaded ahead: %s", graph, str(cause))
            self._failed.add(graph)
        finally:
            self._loading = None
            self._changed.notify_all()

    def _try(self, graph: str) -> str | None:
        """Loads ``graph`` with the lock released; returns what a full device said.

        Only the text: the exception's frames hold the engine that did not fit.
        """
        item: Item | None = None
        full: str | None = None
        self._changed.release()
        try:
            item = self._load(graph)
        except DeviceMemoryError as cause:
            full = str(cause)
        finally:
            self._changed.acquire()
        if item is None:
            self._room.full(graph, self._held(), self._counts.loads)
            return full
        self._items[graph] = item
        self._failed.discard(graph)
        self._counts = replace(self._counts, loads=self._counts.loads + 1)
        return None

    def _evict(self) -> bool:
        """Frees the least recently used item that nobody uses; tells whether there was one."""
        idle = self._idle()
        if not idle:
            return False
        first = next((other for other in idle if other != self._keep), idle[0])
        _free(first, self._take_out(first))
        return True

    def _take_out(self, graph: str) -> Item:
        self._counts = replace(self._counts, evictions=self._counts.evictions + 1)
        return self._items.pop(graph)

    def _idle(self) -> list[str]:
        return [graph for graph in self._items if not self._users[graph]]

    def _staying_beside(self, graph: str) -> frozenset[str]:
        """Returns what can stay while ``graph`` is loaded; nothing if the last used cannot."""
        if not self._items:
            return frozenset()
        last = self._last if self._last in self._items else next(reversed(self._items))
        others = [other for other in reversed(self._items) if other != last]
        others.sort(key=lambda other: other != self._keep)
        coming = {graph} if self._loading is None else {graph, self._loading}
        return self._room.staying(coming, last, others, self._counts.loads)

    def _has_room(self, graph: str) -> bool:
        return self._room.fits(graph, self._held(), self._counts.loads)

    def _held(self) -> list[str]:
        return [*self._items, *(graph for graph, _ in self._leaving)]

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine was closed while a call waited for a graph.")


class _Room:
    """What fits beside what: the limit that was set, and what the device turned out to hold.

    Args:
        size_bytes: What each engine takes, by graph.
        limit_bytes: What all may take together; None for no limit.

    Raises:
        ChoiceError: An engine is larger than the limit.
    """

    def __init__(self, size_bytes: Mapping[str, int], limit_bytes: int | None) -> None:
        largest = max(size_bytes, key=lambda graph: size_bytes[graph])
        if limit_bytes is not None and size_bytes[largest] > limit_bytes:
            raise ChoiceError(
                f"device_bytes={limit_bytes}: the engine of graph {largest!r} alone takes"
                f" {size_bytes[largest]} bytes. Grant at least that."
            )
        self._size_bytes = dict(size_bytes)
        self._granted_bytes = math.inf if limit_bytes is None else limit_bytes
        self._learnt_bytes = math.inf
        self._learnt_at = 0

    def fits(self, graph: str, held: Collection[str], loads: int) -> bool:
        """Tells whether ``graph`` fits beside what is held; alone it is always tried.

        Args:
            graph: What is to be loaded.
            held: What is loaded.
            loads: How many loads there were so far.
        """
        return not held or self._bytes([*held, graph]) <= self._limit(loads)

    def full(self, graph: str, held: Collection[str], loads: int) -> None:
        """Notes that the device had no memory for ``graph`` beside what is held."""
        if held:
            self._learnt_bytes = self._bytes([*held, graph]) - 1
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

    def _bytes(self, graphs: Collection[str]) -> int:
        return sum(self._size_bytes[graph] for graph in graphs)

    def _limit(self, loads: int) -> float:
        if loads - self._learnt_at > _FORGOTTEN_AFTER_LOADS:
            self._learnt_bytes = math.inf  # other programs may have gone
        return min(self._granted_bytes, self._learnt_bytes)


def _free(graph: str, item: Engine) -> None:
    """Frees an engine that leaves for another; whoever wants that one cannot mend it."""
    try:
        item.close()
    except Exception:
        _LOG.exception("the engine of graph %r could not be freed", graph)

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
from ..errors import BackendError, ChoiceError, ClosedError, sentence

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
    (``DeviceMemoryError``), the least recently used ones leave, as long as there is one.

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
        self._room = _Room(size_bytes, limit_bytes, keep)
        self._items: dict[str, Item] = {}  # the least recently used first
        self._leaving: list[tuple[str, Item]] = []  # gone for callers, not freed yet
        self._users: dict[str, int] = dict.fromkeys(size_bytes, 0)
        self._last: str | None = None
        self._loading: str | None = None
        self._wanted: str | None = None
        self._failed: set[str] = set()
        self._worker = _Worker()
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
                coming = {graph, self._loading or graph}
                staying = self._room.staying(coming, self._last, [*self._items])
                if not staying:
                    return frozenset()
                for other in [other for other in self._items if other not in staying]:
                    self._leaving.append((other, self._take_out(other)))
                self._wanted = graph
                self._worker.start(self._work, self._stop)
                self._changed.notify_all()
            return frozenset(self._items)

    def close(self) -> None:
        """Waits for what is in use or being loaded, then frees everything."""
        self._stop()
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
        self._worker.join()

    def _ensure(self, graph: str) -> bool:
        """Loads an engine if it is not there; tells whether it was not. The lock is held."""
        waited = graph not in self._items
        while graph not in self._items:
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
                while not self._room.fits(graph, self._held()):
                    if not self._evict():
                        self._changed.wait()  # until a use ends, or what is leaving is gone
                        self._check_open()
                full = self._try(graph)
                if full is not None and not self._leaving and not self._idle():
                    raise _full_error(graph, full, bool(self._items))
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
        try:
            with _unlocked(self._changed):
                _free(graph, item)
        finally:
            self._leaving.pop(0)
            self._changed.notify_all()

    def _load_wanted(self, graph: str) -> None:
        self._wanted = None
        if graph in self._items or not self._room.fits(graph, self._held()):
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
        try:
            with _unlocked(self._changed):
                item = self._load(graph)
        except DeviceMemoryError as cause:
            self._room.full(graph, self._held())
            return str(cause)
        self._items[graph] = item
        self._failed.discard(graph)
        self._counts = replace(self._counts, loads=self._counts.loads + 1)
        self._room.loaded()
        return None

    def _evict(self) -> bool:
        """Frees the least recently used item that nobody uses; tells whether there was one."""
        idle = self._idle()
        if idle:
            first = self._room.first_out(idle)
            _free(first, self._take_out(first))
        return bool(idle)

    def _take_out(self, graph: str) -> Item:
        self._counts = replace(self._counts, evictions=self._counts.evictions + 1)
        return self._items.pop(graph)

    def _idle(self) -> list[str]:
        return [graph for graph in self._items if not self._users[graph]]

    def _held(self) -> list[str]:
        return [*self._items, *(graph for graph, _ in self._leaving)]

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine was closed while a call waited for a graph.")


class _Worker:
    """A thread that begins when there is something to do, and has ended before Python has."""

    def __init__(self) -> None:
        self._thread: Thread | None = None

    def start(self, work: Callable[[], None], stop: Callable[[], None]) -> None:
        """Starts the thread, unless it runs.

        Args:
            work: What it does, until ``stop`` makes it return.
            stop: Called at exit: a library must not be at work in a thread when the
                interpreter goes.
        """
        if self._thread is None:
            self._thread = Thread(target=work, name="skipc-prepare", daemon=True)
            self._thread.start()
            self._stop = stop
            atexit.register(stop)

    def join(self) -> None:
        """Waits until the thread, which was told to stop, has ended."""
        if self._thread is not None:
            self._thread.join()
            atexit.unregister(self._stop)


class _Room:
    """What fits beside what: the limit that was set, and what the device turned out to hold.

    Args:
        size_bytes: What each engine takes, by graph.
        limit_bytes: What all may take together; None for no limit.
        keep: What leaves last.

    Raises:
        ChoiceError: An engine is larger than the limit.
    """

    def __init__(
        self, size_bytes: Mapping[str, int], limit_bytes: int | None, keep: str | None
    ) -> None:
        largest = max(size_bytes, key=lambda graph: size_bytes[graph])
        if limit_bytes is not None and size_bytes[largest] > limit_bytes:
            raise ChoiceError(
                f"device_bytes={limit_bytes}: the engine of graph {largest!r} alone takes"
                f" {size_bytes[largest]} bytes. Grant at least that."
            )
        self._size_bytes = dict(size_bytes)
        self._granted_bytes = math.inf if limit_bytes is None else limit_bytes
        self._learnt_bytes = math.inf
        self._loads_since = 0
        self._keep = keep

    def fits(self, graph: str, held: Collection[str]) -> bool:
        """Tells whether a graph fits beside what is held; alone it is always tried."""
        return not held or self._bytes([*held, graph]) <= self._limit_bytes()

    def loaded(self) -> None:
        """Notes that something was loaded."""
        self._loads_since += 1
        if self._loads_since > _FORGOTTEN_AFTER_LOADS:
            self._learnt_bytes = math.inf  # other programs may have gone

    def full(self, graph: str, held: Collection[str]) -> None:
        """Notes that the device had no memory for a graph beside what is held."""
        if held:
            self._learnt_bytes = self._bytes([*held, graph]) - 1
            self._loads_since = 0

    def first_out(self, idle: Sequence[str]) -> str:
        """Returns which leaves first of those that may, the least recently used in front."""
        return next((graph for graph in idle if graph != self._keep), idle[0])

    def staying(
        self, coming: Collection[str], last: str | None, loaded: Sequence[str]
    ) -> frozenset[str]:
        """Returns what can stay beside what is coming; nothing if the one used last cannot.

        Args:
            coming: What is to be loaded, or is being loaded.
            last: What was used last.
            loaded: Everything that is loaded, the least recently used in front.
        """
        if not loaded:
            return frozenset()
        last = loaded[-1] if last is None or last not in loaded else last
        room_bytes = self._limit_bytes() - self._bytes([*coming, last])
        if room_bytes < 0:
            return frozenset()
        staying = {last}
        others = [other for other in reversed(loaded) if other != last]
        for other in sorted(others, key=lambda other: other != self._keep):
            if self._size_bytes[other] <= room_bytes:
                room_bytes -= self._size_bytes[other]
                staying.add(other)
        return frozenset(staying)

    def _bytes(self, graphs: Collection[str]) -> int:
        return sum(self._size_bytes[graph] for graph in graphs)

    def _limit_bytes(self) -> float:
        return min(self._granted_bytes, self._learnt_bytes)


@contextmanager
def _unlocked(lock: Condition) -> Iterator[None]:
    """Has a lock, which is held, released until the block ends."""
    lock.release()
    try:
        yield
    finally:
        lock.acquire()


def _full_error(graph: str, full: str, beside: bool) -> BackendError:
    """Returns the error of a full device, which others are in use of (``beside``) or none."""
    text = f"graph {graph!r}: no device memory left for its engine"
    if beside:
        return BackendError(
            f"{text} beside those in use: {sentence(full)} Make fewer calls at the same time."
        )
    return BackendError(
        f"{text}, even with every other one freed: {sentence(full)} Close other programs"
        " on the device, or build fewer or smaller configurations."
    )


def _free(graph: str, item: Engine) -> None:
    """Frees an engine that leaves for another; whoever wants that one cannot mend it."""
    try:
        item.close()
    except Exception:
        _LOG.exception("the engine of graph %r could not be freed", graph)

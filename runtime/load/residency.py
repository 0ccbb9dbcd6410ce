"""Which engines are loaded: as many as fit, the least recently used leave first.

One layer above all backends, keyed by graph. Where everything fits, it is out of the way:
a configuration then runs its engine itself (``runs``).
"""

from __future__ import annotations

import atexit
import logging
import math
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from queue import SimpleQueue
from threading import RLock, Thread
from typing import TYPE_CHECKING, Generic, TypeVar

from ..backends import Engine
from ..backends.cuda import DeviceMemoryError
from ..errors import BackendError, ChoiceError, ClosedError, sentence
from ..executing import Executing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import FrameType

    from ..backends import Arrays, Outputs, Run

Item = TypeVar("Item", bound=Engine)

_LOG = logging.getLogger(__name__)
_FORGOTTEN_AFTER_LOADS = 16
_LOOK_S = 0.001


@dataclass(frozen=True, slots=True)
class ResidencyCounts:
    """Engines loaded, those that had to leave for another, and uses that had to wait."""

    loads: int = 0
    evictions: int = 0
    waits: int = 0


class Residency(Generic[Item]):
    """Loads engines by graph and keeps them within a limit of bytes.

    An engine in use is never freed. One is loaded at a time; others may be used meanwhile. All
    methods may be called from any thread. Where the device turns out to be full
    (``DeviceMemoryError``), the least recently used ones leave, as long as there is one.
    ``keep`` leaves last: it must be at hand at once.

    Attributes:
        counts: What happened so far.
        lock: Held for a moment, never while an engine is loaded or runs.

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
        self.counts, self.lock = ResidencyCounts(), RLock()
        self._load = load
        self._graphs = tuple(size_bytes)
        self._room = _Room(size_bytes, limit_bytes, keep)
        self._items: dict[str, Item] = {}
        self._used_at: dict[str, int] = {}
        self._turn = count()
        self._leaving: set[str] = set()  # gone for callers, not freed yet
        self._uses: Executing[str] = Executing()
        self._loads: Executing[str] = Executing()
        self._frees: Executing[str] = Executing()
        self._wanted: str | None = None
        self._failed: set[str] = set()
        self._worker = _Worker()
        self._closed = False

    @property
    def all_stay(self) -> bool:
        """Whether every engine is loaded, so that none has to leave for another."""
        return len(self._items) == len(self._graphs) and not self._leaving

    @property
    def resident(self) -> tuple[str, ...]:
        """The graphs whose engines are loaded now, the least recently used first."""
        with self.lock:
            loaded = [graph for graph in self._items if graph not in self._leaving]
            return tuple(sorted(loaded, key=self._used_at.__getitem__))

    def ready(self, graph: str) -> bool:
        """Tells whether ``run`` would not have to wait."""
        return graph in self._items and graph not in self._leaving

    def runs(self) -> dict[str, Run]:
        """Returns what runs each graph: its engine's own ``run`` where all of them stay."""
        with self.lock:
            if self.all_stay:
                return {graph: item.run for graph, item in self._items.items()}
        return {graph: partial(self.run, graph) for graph in self._graphs}

    def run(self, graph: str, inputs: Arrays) -> Outputs:
        """Returns the graph's outputs, its engine loaded first if it is not there.

        Where it cannot be loaded, what was in use is untouched.
        """
        try:
            return self._take(graph, sys._getframe()).run(inputs)
        finally:
            self._uses.leave(sys._getframe())

    def load(self, graph: str) -> None:
        """Loads an engine before anybody waits for it."""
        self._check_open()
        while not self.ready(graph):
            self._alone(self._load_now, graph)
            self._check_open()

    def prepare(self, graph: str) -> frozenset[str]:
        """Begins to load an engine in the background; returns the graphs that stay meanwhile.

        The one used last stays, since the next call may want it again, and of the others as
        many as there is room for. Empty where there is no room beside the one used last, or
        the last try failed: then only ``run`` loads it, and waits.
        """
        with self.lock:
            if self._closed or graph in self._failed:
                return frozenset()
            loading = next(iter(self._loads), None)
            if not self.ready(graph) and graph not in (loading, self._wanted):
                loaded = self.resident
                staying = self._room.staying({graph, loading or graph}, loaded)
                if not staying:
                    return frozenset()
                for other in loaded:
                    if other not in staying:
                        self._leave(other)
                self._wanted = graph
                self._worker.wake(self._work, self._stop)
            return frozenset(self.resident)

    def close(self) -> None:
        """Waits for what is in use or being loaded, then frees everything."""
        self._stop()
        while self._uses.more_than(0) or self._loads.more_than(0):
            time.sleep(_LOOK_S)
        with ExitStack() as stack:  # one that fails does not keep the others
            for item in self._items.values():
                stack.callback(item.close)
            self._items = {}

    def _stop(self) -> None:
        """Ends the background thread, without freeing anything."""
        self._closed = True
        self._worker.end(self._stop)

    def _take(self, graph: str, user: FrameType) -> Item:
        """Returns an engine, loaded if it is not there, which stays while ``user`` runs."""
        waited = False
        while True:
            with self.lock:
                self._check_open()
                if self.ready(graph):
                    self._uses.enter(user, graph)
                    self._used_at[graph] = next(self._turn)
                    if waited:
                        self.counts = replace(self.counts, waits=self.counts.waits + 1)
                    return self._items[graph]
            waited = True
            self._alone(self._load_now, graph)

    def _alone(self, load: Callable[[str], None], graph: str) -> None:
        """Loads by ``load``; or waits a moment for another that is being loaded."""
        try:
            with self.lock:
                may_load = not self._loads.more_than(0)
                if may_load:
                    self._loads.enter(sys._getframe(), graph)
            if may_load:
                load(graph)
            else:
                time.sleep(_LOOK_S)
        finally:
            self._loads.leave(sys._getframe())

    def _load_now(self, graph: str) -> None:
        """Loads ``graph`` for a caller who waits; others leave for it."""
        while not self.ready(graph):
            while graph in self._leaving or not self._room.fits(graph, [*self._items]):
                self._evict()
                self._check_open()
            full = self._try(graph)
            if full is not None and not self._leaving and not self._idle():
                raise _full_error(graph, full, bool(self._items))

    def _work(self) -> None:
        """Loads what is wanted, in the background, for as long as it is open."""
        while not self._closed:
            if self._leaving:
                self._free_one()
            elif self._wanted is None:
                self._worker.rest()
            else:
                self._alone(self._load_ahead, self._wanted)

    def _load_ahead(self, graph: str) -> None:
        self._wanted = None
        # A call that waits may have been faster, or have taken the room. A full device
        # lowers the limit: the next prepare knows.
        if self.ready(graph) or not self._room.fits(graph, [*self._items]):
            return
        try:
            self._try(graph)
        except Exception as cause:  # `run` tries again, and raises to its caller
            _LOG.warning("graph %r could not be loaded ahead: %s", graph, str(cause))
            self._failed.add(graph)

    def _try(self, graph: str) -> str | None:
        """Loads ``graph``; returns what a full device said.

        Only the text: the exception's frames hold the engine that did not fit.
        """
        try:
            item = self._load(graph)
        except DeviceMemoryError as cause:
            with self.lock:
                self._room.full(graph, [*self._items])
            return str(cause)
        with self.lock:
            self._used_at[graph] = next(self._turn)
            self._items[graph] = item
            self._failed.discard(graph)
            self.counts = replace(self.counts, loads=self.counts.loads + 1)
            self._room.loaded()
        return None

    def _evict(self) -> None:
        """Frees what leaves, or the least recently used; waits a moment if all are used."""
        with self.lock:
            idle = self._idle()
            if idle and not self._leaving:
                self._leave(self._room.first_out(idle))
        self._free_one()

    def _leave(self, graph: str) -> None:
        self._leaving.add(graph)
        self.counts = replace(self.counts, evictions=self.counts.evictions + 1)

    def _free_one(self) -> None:
        """Frees one of those that leave and that nobody uses; if none, waits a moment."""
        try:
            with self.lock:
                busy = {*self._uses, *self._frees}
                gone = next((graph for graph in self._leaving if graph not in busy), None)
                if gone is not None:
                    self._frees.enter(sys._getframe(), gone)
            if gone is None:
                time.sleep(_LOOK_S)
                return
            if gone in self._items:
                _free(gone, self._items[gone])
                del self._items[gone]
            self._leaving.discard(gone)
        finally:
            self._frees.leave(sys._getframe())

    def _idle(self) -> list[str]:
        used = set(self._uses)
        return [graph for graph in self.resident if graph not in used]

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine was closed while a call waited for a graph.")


class _Worker:
    """A thread that begins when there is something to do, and has ended before Python has."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._bell: SimpleQueue[None] = SimpleQueue()

    def wake(self, work: Callable[[], None], stop: Callable[[], None]) -> None:
        """Makes the thread look for something to do by ``work``; starts it if it does not run.

        ``stop`` makes ``work`` return. It is called at exit, too: a library must not be at
        work in a thread when the interpreter goes.
        """
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(target=work, name="skipc-prepare", daemon=True)
            self._thread.start()
            atexit.register(stop)
        self._bell.put(None)

    def rest(self) -> None:
        """Waits, in the thread, until it is woken."""
        self._bell.get()

    def end(self, stop: Callable[[], None]) -> None:
        """Waits until the thread, which was told to stop, has ended."""
        self._bell.put(None)
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
            atexit.unregister(stop)


class _Room:
    """What fits beside what: the limit that was set, and what the device proved to hold."""

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

    def staying(self, coming: Collection[str], loaded: Sequence[str]) -> frozenset[str]:
        """Returns what can stay beside what is coming; nothing if the one used last cannot.

        ``loaded`` is everything that is, the least recently used in front.
        """
        if not loaded:
            return frozenset()
        last = loaded[-1]
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

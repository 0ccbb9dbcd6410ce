"""Which engines are loaded: as many as fit, the least recently used leave first."""

from __future__ import annotations

import atexit
import logging
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Condition, Thread
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ..errors import BackendError, ClosedError
from .room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..errors import SkipcError


class Closeable(Protocol):
    """What residency holds."""

    def close(self) -> None:
        """Frees it."""
        ...


Item = TypeVar("Item", bound=Closeable)

_LOG = logging.getLogger(__name__)


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
    """Loads items by name and keeps them within a limit of bytes.

    An item in use is never freed. One item is loaded at a time; others may be used
    meanwhile. All methods may be called from any thread.

    Args:
        load: Loads an item; called without any lock held.
        size_bytes: What each item takes, by name.
        limit_bytes: What all loaded items may take together; None for no limit. Where the
            device turns out to hold less, the limit sinks to that for a while.
        keep: The item that leaves last: one that must be at hand at once.
        out_of_memory: What ``load`` raises where the device is full. The least recently
            used item then leaves and ``load`` is called again, until none is left to leave.

    Raises:
        ChoiceError: An item is larger than the limit.
    """

    def __init__(
        self,
        load: Callable[[str], Item],
        size_bytes: Mapping[str, int],
        limit_bytes: int | None,
        keep: str | None = None,
        out_of_memory: type[SkipcError] = BackendError,
    ) -> None:
        self._load = load
        self._room = Room(size_bytes, limit_bytes)
        self._keep = keep
        self._out_of_memory = out_of_memory
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

    def ready(self, name: str) -> bool:
        """Tells whether ``use`` would not have to wait."""
        return name in self._items

    @property
    def resident(self) -> tuple[str, ...]:
        """The items loaded now, the least recently used first."""
        with self._changed:
            return tuple(self._items)

    def load(self, name: str) -> None:
        """Loads an item before anybody waits for it.

        Raises:
            BackendError: It cannot be loaded.
            ClosedError: ``close`` was called.
        """
        with self._changed:
            self._ensure(name)

    @contextmanager
    def use(self, name: str) -> Iterator[Item]:
        """Yields an item, loaded first if it is not there; it stays until the block ends.

        Raises:
            BackendError: It cannot be loaded. What was in use is untouched.
            ClosedError: ``close`` was called.
        """
        with self._changed:
            if self._ensure(name):
                self._count(waits=1)
            item = self._items[name] = self._items.pop(name)
            self._users[name] += 1
            self._last = name
        try:
            yield item
        finally:
            with self._changed:
                self._users[name] -= 1
                self._changed.notify_all()

    def prepare(self, name: str) -> frozenset[str]:
        """Begins to load an item in the background.

        The item used last stays, since the next call may want it again, and of the others as
        many as there is room for.

        Returns:
            The items that stay at hand until it is there. Empty where there is no room
            beside the item used last, or its last try failed: then only ``use`` loads it,
            and waits.
        """
        with self._changed:
            if self._closed or name in self._failed:
                return frozenset()
            if name not in self._items and name not in (self._loading, self._wanted):
                staying = self._staying_beside(name)
                if not staying:
                    return frozenset()
                for other in [other for other in self._items if other not in staying]:
                    self._leaving.append((other, self._items.pop(other)))
                    self._count(evictions=1)
                self._wanted = name
                if self._worker is None:
                    self._worker = Thread(target=self._work, name="skipc-prepare", daemon=True)
                    self._worker.start()
                    # A library must not be at work in a thread when the interpreter goes.
                    atexit.register(self._stop)
                self._changed.notify_all()
            return frozenset(self._items)

    def close(self) -> None:
        """Waits for what is in use or being loaded, then frees everything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            worker = self._worker
        atexit.unregister(self._stop)
        if worker is not None:
            worker.join()
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

    def _ensure(self, name: str) -> bool:
        """Loads an item if it is not there; tells whether it was not. The lock is held."""
        waited = False
        while name not in self._items:
            waited = True
            self._check_open()
            if self._loading is None:
                self._load_here(name)
            else:
                self._changed.wait()
        self._check_open()
        return waited

    def _load_here(self, name: str) -> None:
        """Loads ``name`` for a caller who waits; others leave for it."""
        self._loading = name
        try:
            while name not in self._items:
                while not self._has_room(name):
                    if not self._evict():
                        self._changed.wait()  # until a use ends, or what is leaving is gone
                        self._check_open()
                full = self._try(name)
                if full is None or self._leaving or self._idle():
                    continue
                if self._items:
                    raise BackendError(
                        f"configuration {name!r}: no device memory left for its engine beside"
                        f" those in use: {full} Make fewer calls at the same time."
                    )
                raise BackendError(
                    f"configuration {name!r}: no device memory left for its engine, even with"
                    f" every other one freed: {full} Close other programs on the device, or"
                    " build fewer or smaller configurations."
                )
        finally:
            self._loading = None
            self._changed.notify_all()

    def _stop(self) -> None:
        """Ends the background thread, without freeing anything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join()

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
        name, item = self._leaving[0]
        if self._users[name]:
            self._changed.wait()
            return
        self._changed.release()
        try:
            _free(name, item)
        finally:
            self._changed.acquire()
            self._leaving.pop(0)
            self._changed.notify_all()

    def _load_wanted(self, name: str) -> None:
        self._wanted = None
        if name in self._items or not self._has_room(name):
            return  # a call that waits was faster, or took the room
        self._loading = name
        try:
            self._try(name)  # a full device has lowered the limit: the next prepare knows
        except Exception as cause:  # `use` tries again, and raises to its caller
            _LOG.warning("configuration %r could not be loaded ahead: %s", name, str(cause))
            self._failed.add(name)
        finally:
            self._loading = None
            self._changed.notify_all()

    def _try(self, name: str) -> str | None:
        """Loads ``name`` with the lock released; returns what a full device said.

        Only the text: the exception's frames hold the engine that did not fit.
        """
        item: Item | None = None
        full: str | None = None
        self._changed.release()
        try:
            item = self._load(name)
        except self._out_of_memory as cause:
            full = str(cause)
        finally:
            self._changed.acquire()
        if item is None:
            self._room.full(name, self._held(), self._counts.loads)
            return full
        self._items[name] = item
        self._failed.discard(name)
        self._count(loads=1)
        return None

    def _evict(self) -> bool:
        """Frees the least recently used item that nobody uses; tells whether there was one."""
        idle = self._idle()
        if not idle:
            return False
        first = next((other for other in idle if other != self._keep), idle[0])
        _free(first, self._items.pop(first))
        self._count(evictions=1)
        return True

    def _idle(self) -> list[str]:
        return [name for name in self._items if not self._users[name]]

    def _staying_beside(self, name: str) -> frozenset[str]:
        """Returns what can stay while ``name`` is loaded; nothing if the last used cannot."""
        if not self._items:
            return frozenset()
        last = self._last if self._last in self._items else next(reversed(self._items))
        others = [other for other in reversed(self._items) if other != last]
        others.sort(key=lambda other: other != self._keep)
        coming = {name} if self._loading is None else {name, self._loading}
        return self._room.staying(coming, last, others, self._counts.loads)

    def _has_room(self, name: str) -> bool:
        return self._room.fits(name, self._held(), self._counts.loads)

    def _held(self) -> list[str]:
        return [*self._items, *(name for name, _ in self._leaving)]

    def _count(self, *, loads: int = 0, evictions: int = 0, waits: int = 0) -> None:
        now = self._counts
        self._counts = ResidencyCounts(
            now.loads + loads, now.evictions + evictions, now.waits + waits
        )

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine was closed while a call waited for a configuration.")


def _free(name: str, item: Closeable) -> None:
    """Frees an item that leaves for another; whoever wants that one cannot mend it."""
    try:
        item.close()
    except Exception:
        _LOG.exception("configuration %r could not be freed", name)

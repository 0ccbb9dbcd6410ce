"""Which engines are loaded: as many as fit, the least recently used leave first."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Thread
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from .errors import BackendError, ChoiceError, ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .errors import SkipcError


class Closeable(Protocol):
    """What residency holds."""

    def close(self) -> None:
        """Frees it."""
        ...


Item = TypeVar("Item", bound=Closeable)


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
        limit_bytes: What all loaded items may take together; None for no limit.
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
        largest = max(size_bytes, key=lambda name: size_bytes[name])
        if limit_bytes is not None and size_bytes[largest] > limit_bytes:
            raise ChoiceError(
                f"device_bytes={limit_bytes}: the engine of configuration {largest!r} alone"
                f" takes {size_bytes[largest]} bytes. Grant at least that."
            )
        self._load = load
        self._size_bytes = dict(size_bytes)
        self._limit_bytes = limit_bytes
        self._keep = keep
        self._out_of_memory = out_of_memory
        self._items: dict[str, Item] = {}  # the least recently used first
        self._users: dict[str, int] = dict.fromkeys(size_bytes, 0)
        self._loading: str | None = None
        self._wanted: str | None = None
        self._failed: dict[str, SkipcError] = {}
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

    @contextmanager
    def use(self, name: str) -> Iterator[Item]:
        """Yields an item, loaded first if it is not there; it stays until the block ends.

        Raises:
            BackendError: It cannot be loaded. What was in use is untouched.
            ClosedError: ``close`` was called.
        """
        with self._changed:
            waited = False
            while name not in self._items:
                waited = True
                self._check_open()
                if self._loading is None:
                    self._load_here(name)
                else:
                    self._changed.wait()
            self._check_open()
            if waited:
                self._count(waits=1)
            item = self._items[name] = self._items.pop(name)
            self._users[name] += 1
        try:
            yield item
        finally:
            with self._changed:
                self._users[name] -= 1
                self._changed.notify_all()

    def prepare(self, name: str) -> bool:
        """Begins to load an item in the background.

        The item used last does not leave for it, since the next call may want that again.

        Returns:
            Whether it is there or on its way; False where there is no room for it beside
            the item used last, or its last try in the background failed. Then only ``use``
            loads it, and waits.
        """
        with self._changed:
            if name in self._items or self._loading == name:
                return True
            if self._closed or name in self._failed or not self._fits_beside_last(name):
                return False
            self._wanted = name
            if self._worker is None or not self._worker.is_alive():
                self._worker = Thread(target=self._work, name="skipc-prepare", daemon=True)
                self._worker.start()
            return True

    def close(self) -> None:
        """Waits for what is in use or being loaded, then frees everything."""
        with self._changed:
            self._closed = True
            self._wanted = None
            self._changed.wait_for(
                lambda: self._loading is None and not any(self._users.values())
            )
            items, self._items = self._items, {}
            self._changed.notify_all()
            worker = self._worker
        for item in items.values():
            item.close()
        if worker is not None:
            worker.join()

    def _work(self) -> None:
        """Loads what is wanted, in the background, until nothing is."""
        with self._changed:
            while self._wanted is not None and not self._closed:
                if self._loading is not None:
                    self._changed.wait()
                    continue
                name, self._wanted = self._wanted, None
                if name in self._items:
                    continue
                try:
                    self._load_here(name, spare_last=True)
                except BackendError as cause:
                    self._failed[name] = cause  # `use` tries again and raises to its caller
            self._worker = None

    def _load_here(self, name: str, *, spare_last: bool = False) -> None:
        """Loads ``name``; called with the lock held, which it gives back while loading."""
        self._loading = name
        try:
            while not self._has_room(name):
                if not self._evict(spare_last=spare_last):
                    if spare_last:
                        return
                    self._changed.wait()  # until a use ends
                    self._check_open()
            item = self._loaded(name, spare_last=spare_last)
            if item is not None:
                self._items[name] = item
                self._failed.pop(name, None)
                self._count(loads=1)
        finally:
            self._loading = None
            self._changed.notify_all()

    def _loaded(self, name: str, *, spare_last: bool) -> Item | None:
        while True:
            full: SkipcError
            self._changed.release()
            try:
                return self._load(name)
            except self._out_of_memory as cause:
                full = cause
            finally:
                self._changed.acquire()
            if not self._evict(spare_last=spare_last):
                raise BackendError(
                    f"configuration {name!r}: no device memory left for its engine, even"
                    f" with every engine freed that is not in use: {full} Close other"
                    " programs on the device, or build fewer or smaller configurations."
                ) from full

    def _evict(self, *, spare_last: bool) -> bool:
        """Frees the least recently used item that nobody uses; tells whether there was one."""
        idle = [name for name in self._items if not self._users[name]]
        if spare_last and self._items:
            last = next(reversed(self._items))
            idle = [name for name in idle if name != last]
        if not idle:
            return False
        first = next((name for name in idle if name != self._keep), idle[0])
        self._items.pop(first).close()
        self._count(evictions=1)
        return True

    def _has_room(self, name: str) -> bool:
        if self._limit_bytes is None:
            return True
        held = sum(self._size_bytes[item] for item in self._items)
        return held + self._size_bytes[name] <= self._limit_bytes

    def _fits_beside_last(self, name: str) -> bool:
        if self._limit_bytes is None or not self._items:
            return True
        last = next(reversed(self._items))
        return self._size_bytes[last] + self._size_bytes[name] <= self._limit_bytes

    def _count(self, *, loads: int = 0, evictions: int = 0, waits: int = 0) -> None:
        now = self._counts
        self._counts = ResidencyCounts(
            now.loads + loads, now.evictions + evictions, now.waits + waits
        )

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the engine was closed while a call waited for a configuration.")

"""What building a network from a checkpoint may take: memory, time, and no connection."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError
from skipc.runtime.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

BUILD_BYTES = 4 << 30
"""Beside four times the weights: what importing a library and drawing initial values take."""

BUILD_S = 600
"""A network of a billion parameters is built in a tenth of it."""

_CONNECTIONS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")

_offline: ContextVar[bool] = ContextVar("offline", default=False)


@contextlib.contextmanager
def bounded(weights_bytes: int) -> Iterator[None]:
    """Bounds memory and time inside of the block, for a network that has such weights.

    Memory is bounded where the system can (POSIX): PyTorch and Python raise. Time is bounded
    in the main thread, between two steps of Python, by a ``CheckpointError``: one call into a
    library that never returns is not ended.
    """
    with _memory(BUILD_BYTES + 4 * weights_bytes), _time(BUILD_S):
        yield


@contextlib.contextmanager
def _memory(more_bytes: int) -> Iterator[None]:
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            used_bytes = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # not Linux
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limits = [
        used_bytes + more_bytes,
        *(n for n in (soft, hard) if n != resource.RLIM_INFINITY),
    ]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _time(limit_s: int) -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise CheckpointError(
            f"the network that it describes is not built within {limit_s} s. Check its"
            " arguments."
        )

    main = threading.current_thread() is threading.main_thread()
    # A timer that somebody else has set is theirs.
    if (
        not main
        or not hasattr(signal, "setitimer")
        or any(signal.getitimer(signal.ITIMER_REAL))
    ):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Refuses every connection that Python code would open inside of the block."""
    _watch()
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


@functools.cache
def _watch() -> None:
    """Adds the hook, once: Python has no way to take one off."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event in _CONNECTIONS and _offline.get():
        address = arguments[event == "socket.connect"]
        raise CheckpointError(
            f"building the network would open a connection to {shown(address)}. Weights come"
            " from the checkpoint: check the arguments."
        )

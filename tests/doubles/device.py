"""A GPU that computes on the host, late, and notes every misuse of its memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_ADDRESS = 0x7F00_0000_0000
_ALIGNMENT = 256


class OutOfMemoryError(Exception):
    """The device has no room."""


class FailureError(Exception):
    """A failure that a test asked for."""


class Op:
    """Work on a stream: what it does when it runs, and the memory it touches."""

    def __init__(
        self, run: Callable[[], None], touches: tuple[int, ...], takes_time: bool = True
    ) -> None:
        self.run = run
        self.touches = touches
        self.takes_time = takes_time


class FakeGraph:
    """Recorded work. ``live`` until destroyed: its memory must not move until then."""

    def __init__(self, ops: list[Op]) -> None:
        self.ops = ops
        self.live = False


class FakeEvent:
    """A moment on a stream; ``at_ms`` once it has passed."""

    def __init__(self, timed: bool, blocking: bool) -> None:
        self.timed = timed
        self.blocking = blocking
        self.stream: int | None = None
        self.at_ms: float | None = None


class FakeDevice:
    """Memory, streams, events and graphs.

    Args:
        memory_bytes: What can be allocated.

    Attributes:
        op_ms: What each operation takes on the device.
        history: What was enqueued, recorded, launched and waited for, in order.
        violations: Misuses noted so far; a test expects none.
        fail_at: Counts down with every call that a test may let fail; at zero the call
            raises ``FailureError``. None: never.
    """

    def __init__(self, memory_bytes: int = 1 << 30) -> None:
        self.memory_bytes = memory_bytes
        self.violations: list[str] = []
        self.fail_at: int | None = None
        self.calls = 0
        self.drop_captured = False
        self.op_ms = 0.25
        self.now_ms = 0.0
        self.history: list[str] = []
        self._events: list[FakeEvent] = []
        self._device: dict[int, np.ndarray] = {}
        self._pinned: dict[int, np.ndarray] = {}
        self._engines: dict[int, int] = {}
        self._streams: dict[int, list[Op]] = {}
        self._capturing: dict[int, list[Op]] = {}
        self._graphs: list[FakeGraph] = []
        self._next = _FIRST_ADDRESS
        self._next_stream = 1000
        self._lock = threading.RLock()

    # memory

    @property
    def used_bytes(self) -> int:
        with self._lock:
            own = sum(array.size for array in self._device.values())
            return own + sum(self._engines.values())

    def malloc(self, size_bytes: int) -> int:
        with self._lock:
            self.step()
            if self.used_bytes + size_bytes > self.memory_bytes:
                raise OutOfMemoryError
            address = self._next
            self._next += -(-size_bytes // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT
            self._device[address] = np.full(size_bytes, 0xA5, np.uint8)
            return address

    def free(self, address: int) -> None:
        with self._lock:
            if address not in self._device:
                self.note(f"freed twice or never allocated: {address:#x}")
                return
            for graph in self._graphs:
                if graph.live and any(address in op.touches for op in graph.ops):
                    self.note(f"freed while a graph holds its address: {address:#x}")
            self._check_idle(address)
            del self._device[address]

    def malloc_host(self, size_bytes: int) -> int:
        with self._lock:
            self.step()
            memory = np.full(size_bytes, 0x5A, np.uint8)
            self._pinned[memory.ctypes.data] = memory
            return int(memory.ctypes.data)

    def free_host(self, address: int) -> None:
        with self._lock:
            if self._pinned.pop(address, None) is None:
                self.note(f"pinned memory freed twice: {address:#x}")

    def view(self, address: int, size_bytes: int) -> np.ndarray:
        """Returns device memory; a place that was freed is noted and reads as garbage."""
        with self._lock:
            for base, memory in self._device.items():
                if base <= address and address + size_bytes <= base + memory.size:
                    return memory[address - base :][:size_bytes]
            self.note(f"used {size_bytes} bytes at {address:#x}, which are not allocated")
            return np.full(size_bytes, 0xEE, np.uint8)

    def pinned(self, address: int, size_bytes: int) -> np.ndarray:
        """Returns pinned host memory."""
        with self._lock:
            for base, memory in self._pinned.items():
                if base <= address and address + size_bytes <= base + memory.size:
                    return memory[address - base :][:size_bytes]
            self.note(f"an asynchronous copy of host memory that is not pinned: {address:#x}")
            return np.full(size_bytes, 0xEE, np.uint8)

    def take(self, owner: int, size_bytes: int) -> None:
        """Accounts memory that an engine takes for itself."""
        with self._lock:
            if self.used_bytes + size_bytes > self.memory_bytes:
                raise OutOfMemoryError
            self._engines[owner] = size_bytes

    def give(self, owner: int) -> None:
        """Frees what an engine took."""
        with self._lock:
            self._engines.pop(owner, None)

    # streams and graphs

    def new_stream(self) -> int:
        with self._lock:
            self.step()
            self._next_stream += 1
            self._streams[self._next_stream] = []
            return self._next_stream

    def free_stream(self, stream: int) -> None:
        with self._lock:
            if self._streams.pop(stream, None) is None:
                self.note(f"stream {stream} freed twice")

    def enqueue(self, stream: int, run: Callable[[], None], *touches: int) -> None:
        with self._lock:
            self.step()
            op = Op(run, touches)
            self.history.append("capture" if stream in self._capturing else "enqueue")
            if stream in self._capturing:
                self._capturing[stream].append(op)
            elif stream in self._streams:
                self._streams[stream].append(op)
            else:
                self.note(f"work on stream {stream}, which does not exist")

    def synchronize(self, stream: int) -> None:
        with self._lock:
            self.step()
            if stream in self._capturing:
                self.note("synchronised a stream that is being captured")
            if stream not in self._streams:
                return  # the default stream: nothing is ever enqueued on it here
            self.history.append("synchronize")
            self._run(stream)

    def _run(self, stream: int) -> None:
        ops, self._streams[stream] = self._streams[stream], []
        for op in ops:
            op.run()
            if op.takes_time:
                self.now_ms += self.op_ms

    # events

    def new_event(self, timed: bool, blocking: bool) -> FakeEvent:
        with self._lock:
            self.step()
            self._events.append(FakeEvent(timed, blocking))
            return self._events[-1]

    def free_event(self, event: FakeEvent) -> None:
        with self._lock:
            if event not in self._events:
                self.note("an event freed twice")
                return
            self._events.remove(event)

    def record(self, event: FakeEvent, stream: int) -> None:
        """Enqueues ``event``; one of another stream, such as the default one, is not run."""
        with self._lock:
            self.step()
            if event not in self._events:
                self.note("an event recorded after it was freed")
            if stream in self._capturing:
                self.note("an event recorded on a stream that is being captured")
            event.stream, event.at_ms = stream, None

            def passes() -> None:
                event.at_ms = self.now_ms

            self.history.append("record")
            if stream in self._streams:
                self._streams[stream].append(Op(passes, (), takes_time=False))

    def wait_event(self, event: FakeEvent) -> None:
        with self._lock:
            self.step()
            if event.stream is None:
                self.note("waited for an event that was never recorded")
                return
            self.history.append("wait blocking" if event.blocking else "wait spinning")
            self._run(event.stream)

    def elapsed_ms(self, start: FakeEvent, end: FakeEvent) -> float:
        with self._lock:
            self.step()
            if not (start.timed and end.timed) or start.at_ms is None or end.at_ms is None:
                self.note("the time between events that are untimed or have not passed")
                return 0.0
            return end.at_ms - start.at_ms

    def capturing(self, stream: int) -> bool:
        return stream in self._capturing

    def begin_capture(self, stream: int) -> None:
        with self._lock:
            self.step()
            self._capturing[stream] = []

    def end_capture(self, stream: int) -> FakeGraph:
        with self._lock:
            ops = self._capturing.pop(stream)
            self.step()
            graph = FakeGraph([] if self.drop_captured else ops)
            self._graphs.append(graph)
            return graph

    def launch(self, graph: FakeGraph, stream: int) -> None:
        with self._lock:
            self.step()
            if not graph.live:
                self.note("launched a graph that was destroyed")
            self.history.append(f"launch {len(graph.ops)}")
            self._streams[stream] += graph.ops

    def forget(self, graph: FakeGraph) -> None:
        """Destroys a graph; what it refers to may be freed from now on."""
        with self._lock:
            graph.live, graph.ops = False, []
            self._graphs.remove(graph)

    # what tests look at

    def step(self) -> None:
        """Counts a call that may fail."""
        self.calls += 1
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at < 0:
                self.fail_at = None
                raise FailureError

    def note(self, text: str) -> None:
        self.violations.append(text)

    def left(self) -> list[str]:
        """Returns what is still allocated."""
        with self._lock:
            left = [f"device memory {address:#x}" for address in self._device]
            left += [f"pinned memory {address:#x}" for address in self._pinned]
            left += [f"stream {stream}" for stream in self._streams]
            left += ["an event" for _ in self._events]
            left += [f"engine memory {size}" for size in self._engines.values()]
            return left + ["a graph" for graph in self._graphs if graph.live]

    def _check_idle(self, address: int) -> None:
        for ops in self._streams.values():
            if any(address in op.touches for op in ops):
                self.note(f"freed while work that uses it is enqueued: {address:#x}")

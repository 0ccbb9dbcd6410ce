"""CUDA, as little of it as running engines needs, behind a protocol.

``_MODULES`` is the registry: ``cuda-python`` is taken where it is installed; ``pycuda`` is
for boards that have it already, and captures no graphs.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ...errors import BackendUnavailableError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    HostMemory = NDArray[np.uint8]

_MODULES: dict[str, str] = {"cuda-python": ".cuda_python", "pycuda": ".pycuda"}


class CudaError(EngineError):
    """A CUDA call failed."""


class DeviceMemoryError(CudaError):
    """The device has no memory left for what was asked."""


LEGACY_STREAM = 1
"""The default stream, by CUDA's handle for it: what a caller enqueues without a stream."""


@dataclass(frozen=True, slots=True)
class Device:
    """A CUDA device: what the driver calls it, its version as in ``8.7``, and all its memory.

    A Jetson's memory is the board's.
    """

    name: str
    compute_capability: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Graph:
    """Work captured from a stream, ready to be launched again.

    Attributes:
        nodes: How many operations were captured.
        launch: Enqueues the work on a stream.
        close: Frees it; it must not be running.
    """

    nodes: int
    launch: Callable[[int], object]
    close: Callable[[], object]


class Cuda(Protocol):
    """Device memory, pinned host memory, streams, events and graphs of one device.

    Device memory is named by its address, a stream by its handle: both are what TensorRT
    takes. All methods may be called from any thread. Each
    may raise ``CudaError``; what waits for work raises it for what failed in that, and what
    allocates raises ``DeviceMemoryError`` where memory is short.

    Attributes:
        name: The library's name in the registry.
        supports_graphs: Whether ``begin_capture`` and ``end_capture`` work.
    """

    name: str
    supports_graphs: bool

    def current(self) -> AbstractContextManager[None]:
        """Makes this device the calling thread's in the block, whatever it was before."""

    def device(self) -> Device:
        """Returns the device that everything happens on."""

    def free_bytes(self) -> int:
        """Returns the device memory that is free now."""

    def malloc(self, size_bytes: int) -> int:
        """Returns the address of new device memory, aligned to 256 bytes."""

    def free(self, address: int) -> None:
        """Frees device memory."""

    def malloc_host(self, size_bytes: int) -> HostMemory:
        """Returns pinned host memory, which copies need to run beside the host."""

    def free_host(self, memory: HostMemory) -> None:
        """Frees pinned host memory; ``memory`` must not be read afterwards."""

    def copy_to_device(self, address: int, memory: HostMemory, stream: int) -> None:
        """Enqueues a copy of all of ``memory`` to ``address``."""

    def copy_on_device(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Enqueues a copy from one place on the device to another."""

    def copy_to_host(self, memory: HostMemory, address: int, stream: int) -> None:
        """Enqueues a copy from ``address`` that fills ``memory``."""

    def new_stream(self) -> int:
        """Returns a stream that does not wait for the default one."""

    def free_stream(self, stream: int) -> None:
        """Frees a stream on which nothing runs."""

    def synchronize(self, stream: int) -> None:
        """Waits until everything enqueued on ``stream`` is done."""

    def wait_for(self, stream: int, other: int) -> None:
        """Makes later work on ``stream`` wait, by an event, for what ``other`` holds now."""

    def new_event(self, blocking: bool) -> Any:
        """Returns an event that notes when it passes; ``blocking`` ones are slept for."""

    def free_event(self, event: Any) -> None:
        """Frees an event; one that has not passed yet is freed by CUDA when it has."""

    def record(self, event: Any, stream: int) -> None:
        """Enqueues an event: it passes when all that ``stream`` holds before it is done."""

    def wait_event(self, event: Any) -> None:
        """Waits until a recorded event has passed."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Returns the milliseconds between two events that have passed.

        CUDA's documentation gives the resolution as about half a microsecond.
        """

    def begin_capture(self, stream: int) -> None:
        """Records what this thread enqueues on ``stream`` from now on; nothing runs."""

    def end_capture(self, stream: int) -> Graph:
        """Returns what was recorded since ``begin_capture``."""


def open_cuda() -> Cuda:
    """Returns CUDA through the first library of the registry that is installed.

    Raises:
        BackendUnavailableError: None is, or there is no device that it can use.
    """
    for name, module in _MODULES.items():
        try:
            opener: Any = importlib.import_module(module, __package__)
            opened: Cuda = opener.open_library()
        except ImportError as cause:
            missing = str(cause.name) if isinstance(cause, ModuleNotFoundError) else ""
            if missing.partition(".")[0] not in ("cuda", "pycuda"):
                raise BackendUnavailableError(
                    f"the CUDA library {name} is installed but cannot be imported: {cause}."
                ) from cause
            continue
        return opened
    raise BackendUnavailableError(
        "engines on a GPU need a CUDA library for Python, and none is installed. Install"
        " one whose major version is your driver's CUDA: pip install 'cuda-bindings>=12.6,<13'"
        " for CUDA 12 (JetPack 6), pip install 'cuda-bindings>=13' for CUDA 13 (JetPack 7)."
    )

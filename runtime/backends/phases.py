"""What measuring needs beyond running: a call's phases, and other ways to make a call.

Optional: a backend whose calls move data to a device and back offers it. The runtime itself
uses none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

from ..bundle.constraints import AtLeast

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import Arrays, Backend, Engine


_NotNegative = Annotated[float, AtLeast(0)]


class Wait(str, Enum):  # so that JSON has its value
    """How the host waits until a call is done."""

    DRIVER = "driver"
    """As the driver decides: what the runtime does."""
    SPIN = "spin"
    """It asks without pause and keeps a processor busy."""
    BLOCK = "block"
    """It sleeps until the device interrupts it."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to make calls; the runtime's own where nothing is given.

    Attributes:
        graph: Whether a captured CUDA graph is launched where there is one.
        transfers: Whether inputs come from the host and outputs go there.
        wait: How the host waits.
    """

    graph: bool = True
    transfers: bool = True
    wait: Wait = Wait.DRIVER


OWN_WAY = Way()
"""The runtime's."""


@dataclass(frozen=True, slots=True)
class Phases:
    """Where one call spent its time.

    The device's phases follow one another on one stream: each ends when the next begins, so
    a pause in which the device waits for the host counts for the phase that it waits for.

    Attributes:
        start_ns: The caller's clock as the call began, with nothing on the stream.
        enqueue_start_ns: The caller's clock as the host began to enqueue the computation.
        enqueue_end_ns: The caller's clock when it was enqueued.
        h2d_ms: What the device took to copy the inputs in; 0 without transfers.
        compute_ms: What it took to compute.
        d2h_ms: What it took to copy the outputs out; 0 without transfers.
        graph: Whether the computation was one launch of a graph, which then holds nothing
            else.
    """

    start_ns: int
    enqueue_start_ns: int
    enqueue_end_ns: int
    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    graph: bool


@dataclass(frozen=True, slots=True)
class LoadTimes:
    """What the last load of an engine spent its time on: reading the plan, and refitting it.

    ``refit_ms`` is None where the plan is not stripped, but holds its own weights.
    """

    deserialize_ms: _NotNegative
    refit_ms: _NotNegative | None


@runtime_checkable
class PhasedEngine(Protocol):
    """An ``Engine`` that can tell the phases of a call."""

    def made(self, way: Way) -> Engine:
        """Returns the same engine, whose ``run`` makes its calls another way.

        Without transfers, ``run`` wants device arrays (``PhasedBackend.upload``) and enqueues
        the engine on them: graphs hold addresses, so there is none for the caller's.
        """
        ...

    def run_in_phases(self, inputs: Arrays, way: Way, now_ns: Callable[[], int]) -> Phases:
        """Makes a call and returns its phases; the first one of an engine prepares for it.

        The inputs are on the host whatever the way: without transfers they are copied in
        before the call begins. ``now_ns`` is the host's clock.

        Raises:
            EngineError: TensorRT or CUDA failed. Nothing stays enqueued.
        """
        ...


@runtime_checkable
class PhasedBackend(Protocol):
    """A ``Backend`` whose engines are ``PhasedEngine``."""

    def upload(self, inputs: Arrays) -> dict[str, Any]:
        """Returns copies of ``inputs`` on the device, which live as long as the backend."""
        ...

    def load_times(self, graph: str) -> LoadTimes:
        """Returns what the last load of a graph spent its time on."""
        ...

    def device_free_bytes(self) -> int:
        """Returns the device memory that is free, whoever took the rest."""
        ...


def phased_backend(backend: Backend) -> PhasedBackend | None:
    """Returns ``backend`` if its calls have phases."""
    return backend if isinstance(backend, PhasedBackend) else None

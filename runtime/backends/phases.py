"""What measuring needs beyond running: a call's phases, and other ways to make a call.

TensorRT's calls move data to a device and back, so they have both. The runtime itself uses
none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from ..bundle.constraints import AtLeast

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

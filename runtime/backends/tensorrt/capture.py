"""An engine's CUDA graph: captured once, tried, and only then trusted.

A capture can fail (control flow, data-dependent shapes) and, worse, can succeed and hold
nothing: then every launch leaves the last outputs in place. So a graph is compared with the
plain engine on two inputs before it is used.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BackendError
from ..cuda import CudaError, DeviceMemoryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .. import Arrays
    from ..cuda import Graph
    from .buffers import Buffers


@dataclass(frozen=True, slots=True)
class Captured:
    """A graph at the typical sizes; or why there is none."""

    graph: Graph | None
    reason: str = ""


def capture(name: str, context: Any, buffers: Buffers, transfers: bool = True) -> Captured:
    """Returns the graph of a call in a ``context``. The caller holds the stream.

    A whole call of it precedes and judges the capture. Without ``transfers``, copy in and copy
    out are left out, for measuring.

    Raises:
        DeviceMemoryError: The device is full.
        BackendError: The engine does not run at all.
    """
    cuda, typical = buffers.cuda, buffers.typical
    if not cuda.supports_graphs:
        return Captured(None, f"{cuda.name} captures none")
    expected = []
    for case in (0, 1):  # the first one also is the run that must precede a capture
        buffers.fill_sample(case)
        buffers.enqueue(name, context, typical)
        cuda.synchronize(buffers.stream)
        expected.append(buffers.outputs(typical))
    # TensorRT-RTX knows beforehand, as far as it goes.
    capturable = getattr(context, "is_stream_capturable", None)
    if capturable is not None and not capturable(buffers.stream):
        return Captured(None, "TensorRT says that it cannot be captured")
    enqueue = buffers.enqueue if transfers else buffers.compute
    try:
        cuda.begin_capture(buffers.stream)
        try:
            enqueue(name, context, typical)
        except BaseException:
            with suppress(CudaError):  # the stream must not stay in capture
                cuda.end_capture(buffers.stream).close()
            raise
        graph = cuda.end_capture(buffers.stream)
    except DeviceMemoryError:
        raise
    except BackendError as cause:
        return Captured(None, str(cause))
    try:
        reason = _replay_error(graph, buffers, transfers, expected)
    except BaseException:
        graph.close()
        raise
    if reason is None:
        return Captured(graph)
    graph.close()
    return Captured(None, reason)


def _replay_error(
    graph: Graph, buffers: Buffers, transfers: bool, expected: Sequence[Arrays]
) -> str | None:
    """Returns what is wrong with a graph: empty, or blind to its input."""
    if graph.nodes == 0:
        return "the captured graph is empty"
    for case in (1, 0):
        buffers.fill_sample(case)
        if not transfers:
            buffers.copy_in(buffers.typical)
        graph.launch(buffers.stream)
        if not transfers:
            buffers.copy_out(buffers.typical)
        buffers.cuda.synchronize(buffers.stream)
        for name, found in buffers.outputs(buffers.typical).items():
            if not _close(found, expected[case][name]):
                return f"the captured graph gives another {name!r} than the engine"
    return None


def _close(found: Any, expected: Any) -> bool:
    """Tells whether two runs of one engine agree, up to the order of its sums."""
    if found.dtype.kind != "f":
        return bool(np.array_equal(found, expected))
    finite = expected[np.isfinite(expected)].astype(np.float64)
    scale = float(np.ptp(finite)) if finite.size else 0.0
    return bool(np.allclose(found, expected, rtol=1e-2, atol=1e-3 * scale, equal_nan=True))

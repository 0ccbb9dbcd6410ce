"""A call taken apart: CUDA events between copy in, computation and copy out.

As ``trtexec`` does it (NVIDIA/TensorRT, ``samples/common/sampleInference.cpp``): events on
the stream for what the device does, the host's clock for what enqueueing costs the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..phases import Phases, Wait, Way

if TYPE_CHECKING:
    from collections.abc import Callable

    from .. import Arrays
    from .buffers import Buffers
    from .loaded import LoadedEngine


def wait(buffers: Buffers, how: Wait) -> None:
    """Waits for the stream.

    Raises:
        CudaError: Something enqueued failed.
    """
    if how is Wait.DRIVER:
        buffers.cuda.synchronize(buffers.stream)
        return
    # By an event: the device's scheduling flags belong to the whole process.
    done = buffers.memory.events(how)[-1]
    buffers.cuda.record(done, buffers.stream)
    buffers.cuda.wait_event(done)


def call_in_phases(
    loaded: LoadedEngine, inputs: Arrays, way: Way, now_ns: Callable[[], int]
) -> Phases:
    """Makes a call on the shared buffers and returns its phases.

    The caller has the stream, and drains it if this raises.

    Raises:
        EngineError: TensorRT or CUDA failed.
    """
    buffers = loaded.buffers
    cuda, stream = buffers.cuda, buffers.stream
    # Before the inputs are written: a capture tries itself on inputs of its own.
    captured = loaded.captured_computing() if way.graph else None
    batch = buffers.write(inputs)
    graph = captured if batch == buffers.typical else None
    context = None if graph is not None else loaded.context
    began, copied, computed, done = buffers.memory.events(way.wait)
    if not way.transfers:
        buffers.copy_in(batch)
        cuda.synchronize(stream)
    start_ns = now_ns()
    cuda.record(began, stream)
    if way.transfers:
        buffers.copy_in(batch)
        cuda.record(copied, stream)
    enqueue_start_ns = now_ns()
    if graph is not None:
        graph.launch(stream)
    else:
        buffers.compute(loaded.name, context, batch)
    enqueue_end_ns = now_ns()
    cuda.record(computed, stream)
    if way.transfers:
        buffers.copy_out(batch)
    cuda.record(done, stream)
    if way.wait is Wait.DRIVER:
        cuda.synchronize(stream)
    else:
        cuda.wait_event(done)
    return Phases(
        start_ns,
        enqueue_start_ns,
        enqueue_end_ns,
        h2d_ms=cuda.elapsed_ms(began, copied) if way.transfers else 0.0,
        compute_ms=cuda.elapsed_ms(copied if way.transfers else began, computed),
        d2h_ms=cuda.elapsed_ms(computed, done) if way.transfers else 0.0,
        graph=graph is not None,
    )

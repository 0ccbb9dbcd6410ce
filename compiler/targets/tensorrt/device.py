"""Plans on the GPU at hand: what each takes, what it computes, how fast it is."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from skipc.compiler.targets.golden import check_golden
from skipc.compiler.targets.latency import measure_latencies
from skipc.runtime.backends.tensorrt.backend import Plan, TensorRT
from skipc.runtime.backends.tensorrt.buffers import Shapes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.runtime.backends.cuda import Cuda
    from skipc.runtime.backends.tensorrt.library import Library
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.engines import Latency
    from skipc.runtime.bundle.manifest import GraphEntry

    Case = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Gpu:
    """TensorRT and CUDA on the GPU that engines are built for."""

    library: Library
    cuda: Cuda

    def examine(self, bundle: Bundle, graph: GraphEntry, file: Path) -> Plan:
        """Returns the plan in ``file``, which computes the golden outputs, with its sizes.

        Its device memory is what the device lost when it was loaded: weights, contexts, CUDA
        graph. On a Jetson other programs use the same memory; where the difference is less
        than the weights themselves, these are taken.

        Raises:
            NumericsError: It is further from the golden outputs than its precision explains.
            EngineError: It cannot be loaded or run.
        """
        unknown = _plan(bundle, graph, file)
        with closing(TensorRT(self.library, self.cuda, {graph.name: unknown})) as backend:
            before_bytes = self.cuda.free_bytes()
            with closing(backend.load(graph.name)) as engine:
                taken_bytes = before_bytes - self.cuda.free_bytes()
                found = [engine.run(case) for case in bundle.golden_inputs()]
        here = f"this GPU ({self.cuda.device().name})"
        check_golden(bundle, graph, found, self.library.backend, here)
        return replace(
            unknown,
            device_bytes=max(taken_bytes, graph.weights_bytes, 1),
            workspace_bytes=backend.workspace_bytes,
        )

    def warm_up(self, bundle: Bundle, graph: GraphEntry, file: Path) -> None:
        """Loads a plan once: what CUDA and TensorRT take on first use is no engine's own."""
        plans = {graph.name: _plan(bundle, graph, file)}
        with closing(TensorRT(self.library, self.cuda, plans)) as backend:
            backend.load(graph.name).close()

    def latencies(self, plans: Mapping[str, Plan], inputs: Case) -> dict[str, Latency]:
        """Returns the latency of every engine, copies to and from the GPU included.

        One engine is loaded at a time: memory does not grow with their number.
        """
        with closing(TensorRT(self.library, self.cuda, plans)) as backend:
            return measure_latencies(backend, tuple(plans), inputs)


def _plan(bundle: Bundle, graph: GraphEntry, file: Path) -> Plan:
    """Returns a plan of which nothing is known yet but what it is made of."""
    manifest = bundle.manifest
    return Plan(
        file=file,
        graph=bundle.file(graph.file),
        store=bundle.file(manifest.weights_file),
        shapes=Shapes(graph.inputs, graph.outputs, manifest.batch),
        device_bytes=graph.weights_bytes,
        workspace_bytes=0,
    )

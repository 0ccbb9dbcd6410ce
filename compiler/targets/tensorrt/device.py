"""Plans on the GPU at hand: what each takes, what it computes, how fast it is."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from skipc.compiler.targets.golden import check_golden, tolerance_on
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
    from skipc.runtime.bundle.manifest import ConfigurationEntry, Manifest

    Case = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Gpu:
    """TensorRT and CUDA on the GPU that engines are built for."""

    library: Library
    cuda: Cuda

    def examine(self, bundle: Bundle, entry: ConfigurationEntry, file: Path) -> Plan:
        """Returns the plan in ``file``, which computes the golden outputs, with its sizes.

        Its device memory is what the device lost when it was loaded: weights, contexts, CUDA
        graph. On a Jetson other programs use the same memory; where the difference is less
        than the weights themselves, these are taken.

        Raises:
            NumericsError: It is further from the golden outputs than its precision explains.
            EngineError: It cannot be loaded or run.
        """
        manifest = bundle.manifest
        graph, store = bundle.file(entry.graph), bundle.file(manifest.weights_file)
        unknown = Plan(file, graph, store, shapes_of(manifest), entry.weights_bytes, 0)
        with closing(TensorRT(self.library, self.cuda, {entry.name: unknown})) as backend:
            before_bytes = self.cuda.free_bytes()
            with closing(backend.load(entry.name)) as engine:
                taken_bytes = before_bytes - self.cuda.free_bytes()
                found = [engine.run(case) for case in bundle.golden_inputs()]
        check_golden(
            entry,
            found,
            bundle.golden_outputs(entry.name),
            tolerance_on(self.library.backend, entry),
            f"this GPU ({self.cuda.device().name})",
        )
        return replace(
            unknown,
            device_bytes=max(taken_bytes, entry.weights_bytes, 1),
            workspace_bytes=backend.workspace_bytes,
        )

    def warm_up(self, bundle: Bundle, entry: ConfigurationEntry, file: Path) -> None:
        """Loads a plan once: what CUDA and TensorRT take on first use is no engine's own."""
        manifest = bundle.manifest
        graph, store = bundle.file(entry.graph), bundle.file(manifest.weights_file)
        plan = Plan(file, graph, store, shapes_of(manifest), entry.weights_bytes, 0)
        with closing(TensorRT(self.library, self.cuda, {entry.name: plan})) as backend:
            backend.load(entry.name).close()

    def latencies(self, plans: Mapping[str, Plan], inputs: Case) -> dict[str, Latency]:
        """Returns the latency of every engine, copies to and from the GPU included.

        One engine is loaded at a time: memory does not grow with their number.
        """
        with closing(TensorRT(self.library, self.cuda, plans)) as backend:
            return measure_latencies(backend, tuple(plans), inputs)


def shapes_of(manifest: Manifest) -> Shapes:
    """Returns the shapes of a bundle's network."""
    return Shapes(manifest.inputs, manifest.outputs, manifest.batch)

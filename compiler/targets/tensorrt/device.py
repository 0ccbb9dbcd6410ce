"""Plans on the GPU at hand: what each takes, what it computes, how fast it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skipc.compiler.targets.golden import check_golden, tolerance_on
from skipc.compiler.targets.latency import measure_latencies
from skipc.runtime.backends.tensorrt import Plan, TensorRT
from skipc.runtime.backends.tensorrt_buffers import Shapes
from skipc.runtime.backends.tensorrt_refit import refit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.runtime.backends.cuda import Cuda
    from skipc.runtime.backends.tensorrt_library import Library
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.engines import Latency
    from skipc.runtime.manifest import ConfigurationEntry, Manifest

    Case = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Gpu:
    """TensorRT and CUDA on the GPU that engines are built for."""

    library: Library
    cuda: Cuda

    def measure(self, bundle: Bundle, entry: ConfigurationEntry, file: Path) -> Plan:
        """Returns the plan in ``file`` with the device memory that it was seen to take.

        On a Jetson other programs use the same memory; where the difference is less than
        the weights themselves, these are taken.

        Raises:
            EngineError: TensorRT cannot load it, or refuses its weights.
        """
        trt, manifest = self.library.module, bundle.manifest
        graph, store = bundle.file(entry.graph), bundle.file(manifest.weights_file)
        before_bytes = self.cuda.free_bytes()
        runtime = trt.Runtime(self.library.logger)
        engine = runtime.deserialize_cuda_engine(file.read_bytes())
        if engine is None:
            return Plan(file, graph, store, entry.weights_bytes, 0)
        if engine.refittable:
            refit(self.library, engine, entry.name, graph, store)
        workspace_bytes = int(engine.device_memory_size_v2)
        taken_bytes = before_bytes - self.cuda.free_bytes()
        return Plan(
            file=file,
            graph=graph,
            store=store,
            device_bytes=max(taken_bytes, entry.weights_bytes),
            workspace_bytes=workspace_bytes,
        )

    def check(self, bundle: Bundle, entry: ConfigurationEntry, plan: Plan) -> None:
        """Compares one engine with the golden outputs.

        Raises:
            NumericsError: It is further from them than its precision explains.
            EngineError: It cannot be loaded or run.
        """
        manifest = bundle.manifest
        tolerance = tolerance_on(self.library.backend, entry)
        backend = TensorRT(self.library, self.cuda, {entry.name: plan}, shapes_of(manifest))
        try:
            engine = backend.load(entry.name)
            found = [engine.run(case) for case in bundle.golden_inputs()]
        finally:
            backend.close()
        here = f"this GPU ({self.cuda.device().name})"
        check_golden(entry, found, bundle.golden_outputs(entry.name), tolerance, here)

    def latencies(
        self, manifest: Manifest, plans: Mapping[str, Plan], inputs: Case
    ) -> dict[str, Latency]:
        """Returns the latency of every engine, copies to and from the GPU included."""
        backend = TensorRT(self.library, self.cuda, plans, shapes_of(manifest))
        try:
            return measure_latencies(backend, tuple(plans), inputs)
        finally:
            backend.close()


def shapes_of(manifest: Manifest) -> Shapes:
    """Returns the shapes of a bundle's network."""
    return Shapes(manifest.inputs, manifest.outputs, manifest.batch)

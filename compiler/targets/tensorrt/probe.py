"""Latency of graphs that are not in a bundle, for ``skipc select`` on the device."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.targets.latency import measure_latencies
from skipc.compiler.targets.options import TargetOptions
from skipc.compiler.targets.tensorrt.network import parse
from skipc.compiler.targets.tensorrt.plan import PlanSettings, build_plan
from skipc.runtime.backends.cuda import open_cuda
from skipc.runtime.backends.tensorrt.backend import Plan, TensorRT
from skipc.runtime.backends.tensorrt.buffers import Shapes
from skipc.runtime.backends.tensorrt.library import open_library
from skipc.runtime.bundle.tensors import BatchRange, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from skipc.compiler.targets import Progress
    from skipc.profiles import Profile


def measure_graphs(
    profile: Profile,
    graphs: Mapping[str, Path],
    inputs: Mapping[str, NDArray[Any]],
    progress: Progress,
) -> dict[str, float]:
    """Returns each graph's median latency in ms as an engine; see ``EngineBuilder``.

    The plans hold their weights: they are thrown away.

    Raises:
        TargetError: TensorRT cannot build a graph.
        EngineError: It cannot run one.
    """
    library, cuda = open_library(profile.backend), open_cuda()
    cache, shapes = b"", Shapes((), (), None)
    with tempfile.TemporaryDirectory() as folder:
        plans: dict[str, Plan] = {}
        for name, graph in graphs.items():
            progress(f"building {name}")
            network = parse(library, name, graph)
            shapes = _shapes(library.module, network.definition, inputs)
            settings = PlanSettings(TargetOptions(), shapes.batch, stripped=False)
            plan = build_plan(library, name, network, settings, cache, lambda text: None)
            cache = plan.timing_cache
            file = Path(folder) / f"{len(plans)}.plan"
            file.write_bytes(memoryview(plan.data))
            plans[name] = Plan(file, file, file, shapes, file.stat().st_size, 0)
        read = {spec.name: inputs[spec.name] for spec in shapes.inputs}
        with closing(TensorRT(library, cuda, plans)) as backend:
            progress("measuring")
            found = measure_latencies(backend, tuple(plans), read)
    return {name: row.p50_ms for name, row in found.items()}


def _shapes(trt: Any, definition: Any, inputs: Mapping[str, NDArray[Any]]) -> Shapes:
    """Returns a parsed network's inputs and outputs, at the batch of ``inputs``."""
    given = [definition.get_input(index) for index in range(definition.num_inputs)]
    made = [definition.get_output(index) for index in range(definition.num_outputs)]
    batch = next(
        (
            BatchRange(*[inputs[tensor.name].shape[axis]] * 3)
            for tensor in given
            for axis, size in enumerate(tuple(tensor.shape))
            if size == -1
        ),
        None,
    )
    return Shapes(
        tuple(_spec(trt, tensor) for tensor in given),
        tuple(_spec(trt, tensor) for tensor in made),
        batch,
    )


def _spec(trt: Any, tensor: Any) -> TensorSpec:
    shape = tuple("N" if size == -1 else size for size in tuple(tensor.shape))
    return TensorSpec(tensor.name, np.dtype(trt.nptype(tensor.dtype)).name, shape)

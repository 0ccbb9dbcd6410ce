"""Plans on the GPU at hand: what each takes, what it computes, how fast it is."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import TargetError
from skipc.compiler.extras import require
from skipc.compiler.targets.golden import check_golden, check_outputs, reads_of, run_route
from skipc.compiler.targets.latency import (
    measure_by_size,
    measure_latencies,
    measured_sizes,
)
from skipc.compiler.targets.options import TargetOptions
from skipc.compiler.targets.tensorrt.plan import PlanSettings, build_plan, parse
from skipc.runtime.backends.cuda import open_cuda
from skipc.runtime.backends.tensorrt.backend import Plan, TensorRT
from skipc.runtime.backends.tensorrt.buffers import Shapes
from skipc.runtime.backends.tensorrt.library import open_library
from skipc.runtime.bundle.sizes import UNKNOWN
from skipc.runtime.bundle.tensors import Dimension, TensorSpec, at_sizes, sizes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.targets import Progress
    from skipc.profiles import Profile
    from skipc.runtime.backends.cuda import Cuda
    from skipc.runtime.backends.tensorrt.library import Library
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.engines import Latency, SizedLatency
    from skipc.runtime.bundle.manifest import ConfigurationEntry, GraphEntry

    Case = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Gpu:
    """TensorRT and CUDA on the GPU that engines are built for."""

    library: Library
    cuda: Cuda

    def examine(
        self, bundle: Bundle, entry: ConfigurationEntry, plans: Mapping[str, Plan]
    ) -> dict[str, Examined]:
        """Returns what the plans of a configuration take, which computes the golden outputs.

        A plan's device memory is what the device lost when it was loaded: weights, contexts,
        CUDA graph. On a Jetson other programs use the same memory; where the difference is
        less than the weights themselves, these are taken.

        Args:
            bundle: The bundle.
            entry: The configuration; all its stages run, whatever its tests say.
            plans: Those of its graphs.

        Raises:
            NumericsError: It is further from the golden outputs than its precision explains.
            EngineError: A plan cannot be loaded or run.
        """
        graphs = bundle.manifest.graphs_of(entry)
        with ExitStack() as stack:
            backend = TensorRT(self.library, self.cuda, plans)
            stack.callback(backend.close)
            engines, taken_bytes = {}, {}
            for graph in graphs:
                before_bytes = self.cuda.free_bytes()
                engines[graph.name] = stack.enter_context(closing(backend.load(graph.name)))
                taken_bytes[graph.name] = before_bytes - self.cuda.free_bytes()
            runs = [run_route(bundle, entry, engines, case) for case in bundle.golden_inputs()]
        stages = [[run[number][1] for run in runs] for number in range(len(entry.route))]
        for stage, outputs in zip(entry.route, stages, strict=True):
            check_outputs(bundle.manifest.graph(stage.graph), outputs)
        here = f"this GPU ({self.cuda.device().name})"
        check_golden(bundle, entry, stages, self.library.backend, here)
        read = {stage.graph: runs[0][number][0] for number, stage in enumerate(entry.route)}
        return {
            graph.name: Examined(
                replace(
                    plans[graph.name],
                    device_bytes=max(taken_bytes[graph.name], graph.weights_bytes, 1),
                    workspace_bytes=backend.workspace_bytes,
                ),
                read[graph.name],
            )
            for graph in graphs
        }

    def warm_up(self, name: str, plan: Plan) -> None:
        """Loads a plan once: what CUDA and TensorRT take on first use is no engine's own."""
        with closing(TensorRT(self.library, self.cuda, {name: plan})) as backend:
            backend.load(name).close()

    def latencies(
        self, bundle: Bundle, examined: Mapping[str, Examined]
    ) -> tuple[dict[str, Latency], dict[str, tuple[SizedLatency, ...]]]:
        """Returns the latency of every engine, copies to and from the GPU included.

        At the typical sizes, and at others.

        One engine is loaded at a time: memory does not grow with their number.
        """
        plans = {name: each.plan for name, each in examined.items()}
        with closing(TensorRT(self.library, self.cuda, plans)) as backend:
            reads = {name: each.inputs for name, each in examined.items()}
            rows, case = measure_latencies(backend, reads), bundle.golden_inputs()[0]
            others = [
                (
                    at,
                    reads_of(bundle, backend.load, at_sizes(case, bundle.manifest.inputs, at)),
                )
                for at in measured_sizes(bundle.manifest.dimensions)
            ]
            return rows, measure_by_size(backend, rows, reads, others)


@dataclass(frozen=True)
class Examined:
    """A plan that passed, with what it takes, and what it reads of the first golden input."""

    plan: Plan
    inputs: Case


def unexamined(bundle: Bundle, graph: GraphEntry, source: Path, file: Path) -> Plan:
    """Returns a plan of which nothing is known yet but what it is made of.

    Args:
        bundle: The bundle.
        graph: The graph.
        source: Its ONNX file.
        file: The plan's file.
    """
    manifest = bundle.manifest
    return Plan(
        file=file,
        graph=source,
        store=bundle.file(manifest.weights_file),
        shapes=Shapes(graph.inputs, graph.outputs, manifest.dimensions),
        device_bytes=graph.weights_bytes,
        workspace_bytes=0,
    )


def measure_graphs(
    profile: Profile,
    graphs: Mapping[str, Path],
    inputs: Mapping[str, NDArray[Any]],
    threads: int,
    progress: Progress,
) -> dict[str, float]:
    """Returns each graph's median latency in ms as an engine; see ``EngineBuilder``.

    The plans hold their weights: they are thrown away.
    """
    del threads  # they make no difference on a GPU
    library, cuda = open_library(profile.backend), open_cuda()
    cache, shapes = b"", Shapes((), ())
    with tempfile.TemporaryDirectory() as folder:
        plans: dict[str, Plan] = {}
        for name, graph in graphs.items():
            progress(f"building {name}")
            network = parse(library, name, graph)
            shapes = _shapes(library.module, network.definition, graph, inputs)
            settings = PlanSettings(TargetOptions(), shapes.dimensions, stripped=False)
            plan = build_plan(library, name, network, settings, cache, lambda text: None)
            cache = plan.timing_cache
            file = Path(folder) / f"{len(plans)}.plan"
            file.write_bytes(memoryview(plan.data))
            plans[name] = Plan(file, file, file, shapes, file.stat().st_size, 0)
        read = {spec.name: inputs[spec.name] for spec in shapes.inputs}
        with closing(TensorRT(library, cuda, plans)) as backend:
            progress("measuring")
            found = measure_latencies(backend, dict.fromkeys(plans, read))
    return {name: row.p50_ms for name, row in found.items()}


def _shapes(
    trt: Any, definition: Any, graph: Path, inputs: Mapping[str, NDArray[Any]]
) -> Shapes:
    """Returns a parsed network's inputs and outputs, at the sizes of ``inputs``.

    TensorRT knows the names of the inputs' free sizes; those of the outputs are the graph's.
    """
    given = [definition.get_input(index) for index in range(definition.num_inputs)]
    made = [definition.get_output(index) for index in range(definition.num_outputs)]
    takes = tuple(
        _spec(trt, t, [*map(t.get_dimension_name, range(len(t.shape)))]) for t in given
    )
    sizes, onnx = sizes_of(inputs, takes), require("onnx", "finish")
    outputs = onnx.load(graph, load_external_data=False).graph.output
    named = {o.name: [d.dim_param for d in o.type.tensor_type.shape.dim] for o in outputs}
    gives = tuple(_spec(trt, tensor, named[tensor.name]) for tensor in made)
    unknown = [spec for spec in gives if -1 in spec.shape_at(sizes)]
    if unknown:
        raise TargetError(
            f"{unknown[0].name!r} is {unknown[0].kind}, and TensorRT needs room for it: its"
            " size must be that of an input, or follow from some. Leave that dimension fixed."
        )
    free = tuple(Dimension(name, *[size] * 3) for name, size in sizes.items())
    return Shapes(takes, gives, free)


def _spec(trt: Any, tensor: Any, names: Sequence[str | None]) -> TensorSpec:
    """Returns a tensor's type and shape, free sizes by their names."""
    shape = tuple(
        (name or UNKNOWN) if size == -1 else size
        for name, size in zip(names, tuple(tensor.shape), strict=True)
    )
    return TensorSpec(tensor.name, np.dtype(trt.nptype(tensor.dtype)).name, shape)

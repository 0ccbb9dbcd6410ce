"""Running a graph file in ONNX Runtime while compiling."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import SupernetError
from skipc.compiler.extras import require
from skipc.runtime.errors import reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


class Optimise(Enum):
    """How far ONNX Runtime may rewrite the graph."""

    NOTHING = "ORT_DISABLE_ALL"
    EVERYTHING = "ORT_ENABLE_ALL"


class GraphRunner:
    """A graph loaded for a few comparisons; weights are read from beside the file.

    Args:
        path: The file.
        optimise: How far it may be rewritten.
        threads: How many compute one run; 0 for ONNX Runtime's choice.

    Raises:
        SupernetError: ONNX Runtime cannot load the graph.
    """

    def __init__(
        self, path: Path, optimise: Optimise = Optimise.EVERYTHING, threads: int = 0
    ) -> None:
        ort = require("onnxruntime", "compiler")
        options = ort.SessionOptions()
        level = optimise.value
        if optimise is Optimise.EVERYTHING and holds_half(path):
            level = "ORT_ENABLE_EXTENDED"
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        # One run per shape: planning and keeping an arena for it costs more than it saves.
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = False
        try:
            self._session = ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's exceptions share no base class below Exception.
        except Exception as cause:
            raise SupernetError(
                f"{path.name}: ONNX Runtime {ort.__version__} cannot load it:"
                f" {reason_of(cause)}"
            ) from cause
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        self._inputs = {value.name for value in self._session.get_inputs()}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name; inputs that the graph does not read are left out."""
        feed = {name: value for name, value in inputs.items() if name in self._inputs}
        return dict(zip(self.outputs, self._session.run(None, feed), strict=True))


def holds_half(path: Path) -> bool:
    """Tells whether a graph holds float16 or bfloat16 tensors.

    ONNX Runtime 1.31 dies of a segmentation fault while it lays out float16 attention with a
    dynamic batch (``ORT_ENABLE_ALL``). Layouts are for float32 kernels: half precision loses
    nothing where they are left out (``ORT_ENABLE_EXTENDED``).
    """
    onnx = require("onnx", "finish")
    half = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    graph = onnx.load(str(path), load_external_data=False).graph
    if any(tensor.data_type in half for tensor in graph.initializer):
        return True
    values = (*graph.input, *graph.output, *graph.value_info)
    return any(value.type.tensor_type.elem_type in half for value in values)


def holds_int8(path: Path) -> bool:
    """Tells whether a graph quantises something."""
    onnx = require("onnx", "finish")
    graph = onnx.load(str(path), load_external_data=False).graph
    return any(node.op_type == "QuantizeLinear" for node in graph.node)

"""A graph as ONNX Runtime would run it, written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import TargetError
from skipc.compiler.extras import require
from skipc.compiler.verify.sessions import holds_half

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Case = dict[str, NDArray[Any]]

EXTERNAL_FROM_BYTES = 256
"""Smaller tensors stay inside the graphs, as in the portable bundle."""

_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class Optimized:
    """An optimised graph on disk, and what it computes.

    Attributes:
        graph: The optimised graph.
        data: Its tensors and prepacked blobs; not there if the graph holds all itself.
        outputs: The outputs by name, for each of the inputs.
    """

    graph: Path
    data: Path
    outputs: list[Case]


def optimize_graph(graph: Path, folder: Path, inputs: list[Case]) -> Optimized:
    """Lets ONNX Runtime optimise ``graph`` for this CPU, and runs it.

    Args:
        graph: A graph of the bundle.
        folder: An empty folder to write to.
        inputs: What to run the plain session on: every optimisation (see ``holds_half``),
            one thread.

    Raises:
        TargetError: ONNX Runtime cannot load or run the graph.
    """
    onnxruntime = require("onnxruntime", "finish")
    written, data = folder / "optimized.onnx", folder / "optimized.data"
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    half = holds_half(graph)
    options.graph_optimization_level = (
        levels.ORT_ENABLE_EXTENDED if half else levels.ORT_ENABLE_ALL
    )
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.optimized_model_filepath = str(written)
    prefix = "session.optimized_model_external_initializers_"
    for key, value in (
        (f"{prefix}file_name", data.name),
        (f"{prefix}min_size_in_bytes", str(EXTERNAL_FROM_BYTES)),
        ("session.save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(key, value)
    try:
        session = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        names = [output.name for output in session.get_outputs()]
        outputs = [dict(zip(names, session.run(names, case), strict=True)) for case in inputs]
    # ONNX Runtime's exceptions share no base class below Exception.
    except Exception as cause:
        raise TargetError(
            f"{graph}: ONNX Runtime {onnxruntime.__version__} cannot load or run it: {cause}"
        ) from cause
    return Optimized(written, data, outputs)

"""A graph as ONNX Runtime makes it for this CPU, on disk and tried out."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import TargetError
from skipc.compiler.extras import require
from skipc.compiler.verify.sessions import holds_half, holds_int8
from skipc.runtime.errors import SkipcError, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.runtime.backends.onnxruntime.devices import Device

    Case = dict[str, NDArray[Any]]

EXTERNAL_FROM_BYTES = 256
"""Smaller tensors stay inside the graphs, as in the portable bundle."""
LEFT_ALONE = ("SkipLayerNormFusion",)
"""Fusions that are not made. This one takes a transformer's last addition alone, as the others
are read twice: which one is the last depends on what a configuration skips, and the fused form
rounds otherwise, so that one session could not have the bits of them all."""
LEFT_ALONE_IN_INT8 = ("MatMulAddFusion", "QDQPropagationTransformer")
"""Made of products whose operands are int8, the first leaves them to be computed in float32.
The second rounds before pooling where a float32 layer is pooled: on integers whose layout the
kernel is slow in, which took three times as long as all the rest of ResNet's stem."""
_ERRORS_ONLY = 3


class UnsuitedError(TargetError):
    """Carries why one session cannot hold a family."""


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


def optimize_graph(
    graph: Path,
    folder: Path,
    inputs: Sequence[Mapping[str, NDArray[Any]]],
    weights: Path | None = None,
    device: Device | None = None,
) -> Optimized:
    """Lets ONNX Runtime optimise ``graph`` for this CPU or a device, and runs it.

    Args:
        graph: A graph of the bundle, or one cut from it.
        folder: An empty folder to write to.
        inputs: What to run the plain session on: every optimisation (see ``holds_half``),
            one thread. Where there are none, weights are not packed.
        weights: The folder of the graph's data, where it is not the graph's own.
        device: What it is optimised for; None for the CPU, with packed weights.

    Raises:
        TargetError: ONNX Runtime cannot load or run the graph.
    """
    written, data = folder / "optimized.onnx", folder / "optimized.data"
    prefix = "session.optimized_model_external_initializers_"
    packed = "save_external_prepacked_constant_initializers"
    entries = {
        f"{prefix}file_name": data.name,
        f"{prefix}min_size_in_bytes": str(EXTERNAL_FROM_BYTES),
        f"session.{packed if inputs and device is None else 'disable_prepacking'}": "1",
    }
    found = _run(graph, inputs, weights, entries, written, device)
    return Optimized(written, data, found)


def loadable(
    graph: Path,
    folder: Path,
    inputs: Sequence[Mapping[str, NDArray[Any]]],
    weights: Path | None = None,
) -> Optimized:
    """Returns what ``optimize_graph`` does, to be loaded from there with its packed weights.

    ONNX Runtime writes blobs one behind the other and maps them as they lie, but its kernels
    load packed weights by whole lines: where one begins beside a line, the process ends.
    """
    from skipc.compiler.targets.cpu.merge import PackedStore, merge_graph

    made = optimize_graph(graph, folder, inputs, weights)
    with tempfile.TemporaryDirectory(dir=folder) as lined:
        with PackedStore(Path(lined) / made.data.name) as store:
            merge_graph(made.graph, made.data, Path(lined) / made.graph.name, store)
        for file in (made.graph, made.data):
            os.replace(Path(lined) / file.name, file)
    return made


def plain_outputs(
    graph: Path, inputs: Sequence[Mapping[str, NDArray[Any]]], weights: Path
) -> list[Case]:
    """Returns what the same session gives for each of the inputs; writes nothing."""
    return _run(graph, inputs, weights, {}, None)


def _run(
    graph: Path,
    inputs: Sequence[Mapping[str, NDArray[Any]]],
    weights: Path | None,
    entries: Mapping[str, str],
    written: Path | None,
    device: Device | None = None,
) -> list[Case]:
    onnxruntime = require("onnxruntime", "finish")
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    if written is not None:
        options.optimized_model_filepath = str(written)
    if weights is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(weights)
        )
    # Whatever the file is called.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if holds_int8(graph):
        # It makes one scale of two that follow each other: of a stream that is rounded anew
        # where a unit is skipped, so that what reads it behind would change, too.
        options.add_session_config_entry("session.disable_double_qdq_remover", "1")
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    try:
        options.graph_optimization_level = (
            levels.ORT_ENABLE_EXTENDED
            if device is not None or holds_half(graph)
            else levels.ORT_ENABLE_ALL
        )
        session = onnxruntime.InferenceSession(
            str(graph) if weights is None else graph.read_bytes(),
            options,
            providers=["CPUExecutionProvider"] if device is None else device.providers(),
            enable_fallback=0,
            disabled_optimizers=[
                *LEFT_ALONE,
                *(LEFT_ALONE_IN_INT8 if holds_int8(graph) else ()),
            ],
        )
        if device is not None:
            device.check(session)
        names = [output.name for output in session.get_outputs()]
        read = {value.name for value in session.get_inputs()}
        return [
            dict(zip(names, session.run(names, _only(case, read)), strict=True))
            for case in inputs
        ]
    except SkipcError:
        raise
    # ONNX Runtime's exceptions share no base class below Exception.
    except Exception as cause:
        raise TargetError(
            f"{graph}: ONNX Runtime {onnxruntime.__version__} cannot load or run it:"
            f" {reason_of(cause)}"
        ) from cause


def _only(case: Mapping[str, NDArray[Any]], names: set[str]) -> Case:
    return {name: array for name, array in case.items() if name in names}

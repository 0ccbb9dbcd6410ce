"""A bundle that tells digits, made without training: random features and ridge regression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.recipes.digits_data import load_digits
from tests.onnx_bundles import write_onnx_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.bundle import Bundle

HIDDEN = 96


def write_digits_bundle(path: Path, rows: str | int = "N") -> Bundle:
    """Writes the configurations ``full``, in float32, and ``int8``, of int8 weights."""
    train = load_digits().train
    images = train.images.reshape(len(train.labels), -1)
    rng = np.random.default_rng(0)
    first = (rng.normal(size=(64, HIDDEN)) / 8).astype(np.float32)
    hidden = np.maximum(images @ first, 0)
    wanted = np.eye(10)[train.labels] - 0.1
    ridge = hidden.T @ hidden + 0.1 * np.eye(HIDDEN)
    last = np.linalg.solve(ridge, hidden.T @ wanted).astype(np.float32)
    weights = {"first": first, "last": last}
    graphs = {"full": _graph(weights, rows), "int8": _graph(weights, rows, integer=True)}
    cases = [{"images": load_digits().selection.images[:1]}]
    return write_onnx_bundle(path, graphs, cases)


def _graph(
    weights: dict[str, np.ndarray], rows: str | int, integer: bool = False
) -> onnx.ModelProto:
    nodes, arrays = [], {}
    for name, array in weights.items():
        if not integer:
            arrays[name] = array
            continue
        scale = np.abs(array).max(0) / 127
        arrays[f"{name}_quantized"] = np.round(array / scale).astype(np.int8)
        arrays[f"{name}_scale"] = scale.astype(np.float32)
        quantized = [f"{name}_quantized", f"{name}_scale"]
        nodes.append(helper.make_node("DequantizeLinear", quantized, [name], axis=1))
    nodes += [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "last"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [rows, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [rows, 10])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)

"""Zero padding before a max pooling survives ONNX Runtime's optimiser."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from skipc.compiler.graph.passes.keep_zero_padding import KeepZeroPaddingPass
from skipc.compiler.verify.sessions import GraphRunner, Optimise

NEGATIVE = {"x": -1 - np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)}


def padded(follower: str, value: float | None, mode: str = "constant") -> ir.Model:
    """Returns ``Pad`` and a pooling; ``value`` None leaves the optional operand out."""
    constants = [helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, 1, 1, 0, 0, 1, 1])]
    if value is not None:
        constants.append(helper.make_tensor("value", TensorProto.FLOAT, [], [value]))
    names = [constant.name for constant in constants]
    nodes = [
        helper.make_node("Pad", ["x", *names], ["p"], mode=mode),
        helper.make_node(follower, ["p"], ["y"], kernel_shape=[3, 3], strides=[3, 3]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2, 2])
    graph = helper.make_graph(nodes, "padded", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


@pytest.mark.parametrize("value", [0.0, None])
def test_optimiser_leaves_the_outputs_as_they_are(value, tmp_path):
    model = padded("MaxPool", value)
    ir.save(model, tmp_path / "plain.onnx")
    expected = GraphRunner(tmp_path / "plain.onnx", Optimise.NOTHING).run(NEGATIVE)["y"]
    KeepZeroPaddingPass()(model)
    ir.save(model, tmp_path / "kept.onnx")
    onnx.checker.check_model(str(tmp_path / "kept.onnx"), full_check=True)
    found = GraphRunner(tmp_path / "kept.onnx").run(NEGATIVE)["y"]
    np.testing.assert_allclose(found, expected, atol=1e-30)
    assert expected[0, 0, 0, 0] == 0


@pytest.mark.parametrize(
    "model",
    [padded("MaxPool", -5.0), padded("AveragePool", 0.0), padded("MaxPool", None, "edge")],
    ids=["other value", "other pooling", "other mode"],
)
def test_other_padding_is_left_alone(model):
    before = ir.to_proto(model).SerializeToString()
    KeepZeroPaddingPass()(model)
    assert ir.to_proto(model).SerializeToString() == before

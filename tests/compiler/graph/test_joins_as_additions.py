"""Joins that ONNX files have in other operators become additions that compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.axes.units import find_units
from skipc.compiler.graph.passes.joins_as_additions import JoinsAsAdditionsPass

FORMS = {
    "sum": [helper.make_node("Sum", ["g", "f", "x"], ["y"])],
    "gemm": [helper.make_node("Gemm", ["f", "w", "x"], ["y"], alpha=0.5)],
    "stacked": [
        helper.make_node("Unsqueeze", ["g", "axis"], ["a"]),
        helper.make_node("Unsqueeze", ["x", "axis"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["c"], axis=1),
        helper.make_node("ReduceSum", ["c", "axis"], ["y"], keepdims=0),
    ],
}
OTHERS = {
    "mean": [helper.make_node("Mean", ["f", "x"], ["y"])],
    "scaled-gemm": [helper.make_node("Gemm", ["f", "w", "x"], ["y"], beta=0.5)],
    "fused": [
        helper.make_node(
            "SkipLayerNormalization", ["x", "f", "r"], ["y"], domain="com.microsoft"
        )
    ],
    "loop": [
        helper.make_node(
            "If",
            ["yes"],
            ["y"],
            then_branch=helper.make_graph(
                [helper.make_node("Add", ["x", "f"], ["t"])],
                "then",
                [],
                [helper.make_tensor_value_info("t", TensorProto.FLOAT, [4, 4])],
            ),
            else_branch=helper.make_graph(
                [helper.make_node("Identity", ["x"], ["e"])],
                "else",
                [],
                [helper.make_tensor_value_info("e", TensorProto.FLOAT, [4, 4])],
            ),
        )
    ],
}


def network(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """Returns x, f = relu(x w) and g = relu(x v), joined by ``nodes``."""
    rng = np.random.default_rng(0)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in "xy")
    constants = {
        "w": rng.standard_normal((4, 4)).astype(np.float32),
        "v": rng.standard_normal((4, 4)).astype(np.float32),
        "r": np.ones(4, np.float32),
        "axis": np.array([1]),
        "yes": np.array(True),
    }
    work = []
    for weight, product, result in (("w", "xw", "f"), ("v", "xv", "g")):
        work.append(helper.make_node("MatMul", ["x", weight], [product]))
        work.append(helper.make_node("Relu", [product], [result]))
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return helper.make_model(
        helper.make_graph([*work, *nodes], "g", [x], [y], tensors),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)],
    )


def changed(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = ir.from_proto(model)
    JoinsAsAdditionsPass()(graph)
    common.RemoveUnusedNodesPass()(graph)
    return onnx.shape_inference.infer_shapes(ir.to_proto(graph))


@pytest.mark.parametrize(("form", "units"), [("sum", 2), ("gemm", 1), ("stacked", 1)])
def test_other_forms_compute_the_same_and_are_units(form: str, units: int) -> None:
    before = network(FORMS[form])
    after = changed(before)
    assert len(find_units(ir.from_proto(after)).units) == units
    x = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    expected, found = (
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
        for model in (before, after)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", OTHERS)
def test_what_is_not_rewritten_is_told(form: str) -> None:
    (told,) = find_units(ir.from_proto(changed(network(OTHERS[form])))).rejected
    assert "hidden in the operator" in told.reason or "in the body of If" in told.reason
    assert told.join == "y"


def test_third_operand_of_an_old_gemm_cannot_be_taken_out() -> None:
    model = network(FORMS["gemm"])
    model.opset_import[0].version = 9
    (told,) = find_units(ir.from_proto(changed(model))).rejected
    assert told.reason == "the addition is hidden in the operator Gemm: write it as Add"


def test_sum_of_one_term_leaves_its_name_to_it() -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["a"]),
        helper.make_node("Concat", ["a"], ["c"], axis=1),
        helper.make_node("ReduceSum", ["c", "axis"], ["y"], keepdims=0),
    ]
    graph = changed(network(nodes)).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["x", "y"]


def test_an_addition_of_a_constant_is_counted_and_not_listed() -> None:
    nodes = [helper.make_node("Add", ["g", "r"], ["y"])]
    found = find_units(ir.from_proto(network(nodes)))
    assert (found.units, found.rejected, found.constants) == ((), (), 1)

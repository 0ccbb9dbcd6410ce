"""Half precision in small graphs: types, islands, quantised nodes, what does not fit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.axes.precision import (
    Precision,
    cast_in_place,
    check_castable,
    check_precision,
    graph_precision,
)
from skipc.compiler.errors import SupernetError, TargetError
from skipc.compiler.graph.passes.half_ops import ISLANDS
from skipc.compiler.graph.passes.half_tensors import HalfTensors
from skipc.compiler.graph.passes.keep_zero_padding import KeepZeroPaddingPass
from skipc.compiler.verify.rounding import rounding_graph
from skipc.compiler.verify.sessions import GraphRunner

HALVES = (Precision.FP16, Precision.BF16)
NUMPY = {Precision.FP16: np.float16, Precision.BF16: ml_dtypes.bfloat16}


def graph(nodes, tensors=None, inputs=None, outputs=None, opset=20):
    """Returns a graph of ``nodes`` over x [2, 3] with the output y, types inferred."""
    made = helper.make_graph(
        [helper.make_node(op, ins, outs, **attributes) for op, ins, outs, attributes in nodes],
        "g",
        inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (tensors or {}).items()],
    )
    proto = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", opset)], ir_version=9
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))


def cast(model, precision=Precision.FP16):
    """Returns the cast graph, every type in it checked against ONNX's rules."""
    tensors = HalfTensors(precision.dtype)
    cast_in_place(model, precision, tensors)
    check_types(model)
    return tensors


def check_types(model):
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    said = {value.name: value.type.tensor_type.elem_type for value in proto.graph.value_info}
    del proto.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    for value in inferred.graph.value_info:
        assert value.type.tensor_type.elem_type == said[value.name], value.name


def text(model):
    """Returns the graph as ``op`` or ``Cast>type`` per node."""
    return [
        f"Cast>{ir.DataType(node.attributes.get_int('to')).short_name()}"
        if node.op_type == "Cast"
        else node.op_type
        for node in model.graph
    ]


def run(model, folder, **inputs):
    path = folder / "g.onnx"
    ir.save(model, path)
    return GraphRunner(path).run(inputs)["y"]


X = np.array([[1.0, -2.0, 3.0], [0.5, 0.25, 9.0]], np.float32)


@pytest.mark.parametrize("precision", HALVES)
def test_inputs_and_outputs_keep_their_types_and_weights_are_cast(precision):
    model = graph([("Mul", ["x", "w"], ["y"], {})], {"w": np.float32([1.1, 2.2, 3.3])})
    cast(model, precision)
    name = {Precision.FP16: "f16", Precision.BF16: "bf16"}[precision]
    assert text(model) == [f"Cast>{name}", "Mul", "Cast>f32"]
    assert [(v.name, v.dtype) for v in model.graph.inputs] == [("x", ir.DataType.FLOAT)]
    assert [(v.name, v.dtype) for v in model.graph.outputs] == [("y", ir.DataType.FLOAT)]
    (weight,) = model.graph.initializers.values()
    expected = np.float32([1.1, 2.2, 3.3]).astype(NUMPY[precision])
    assert weight.const_value.tobytes() == expected.tobytes()


def test_neighbouring_islands_stay_connected_in_float32():
    nodes = [
        ("Relu", ["x"], ["a"], {}),
        ("Exp", ["a"], ["b"], {}),
        ("Softmax", ["b"], ["c"], {}),
        ("Neg", ["c"], ["d"], {}),
        ("Sqrt", ["c"], ["e"], {}),
        ("Add", ["d", "e"], ["y"], {}),
    ]
    model = graph(nodes)
    cast(model)
    casts = [name for name in text(model) if name.startswith("Cast")]
    # In, to the islands, out of both, out: the softmax's own result is cast once.
    assert casts == ["Cast>f16", "Cast>f32", "Cast>f16", "Cast>f16", "Cast>f32"]
    by_name = {v.name: v.dtype for node in model.graph for v in node.outputs}
    assert (by_name["b"], by_name["c"]) == (ir.DataType.FLOAT, ir.DataType.FLOAT)
    assert by_name["d"] == ir.DataType.FLOAT16


def test_island_at_both_ends_needs_no_cast():
    model = graph([("Softmax", ["x"], ["y"], {})])
    cast(model)
    assert text(model) == ["Softmax"]


def test_no_operator_has_two_reasons():
    listed = [op for ops in ISLANDS.values() for op in ops]
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1e5, "1e+05 is beyond 6.55e+04"),
        (1e-12, "nothing above 1e-12 is in it, so all of it would become zero"),
    ],
)
def test_tensor_that_does_not_fit_keeps_its_node_in_float32(value, reason, tmp_path):
    tensors = {"w": np.full(3, value, np.float32), "v": np.float32([1, 2, 3])}
    nodes = [("Mul", ["x", "w"], ["a"], {}), ("Div", ["a", "w"], ["b"], {})]
    model = graph([*nodes, ("Add", ["b", "v"], ["y"], {})], tensors)
    caster = cast(model)
    assert text(model) == ["Mul", "Div", "Cast>f16", "Add", "Cast>f32"]
    assert caster.kept == {"w": reason}
    assert model.graph.initializers["w"].dtype == ir.DataType.FLOAT
    np.testing.assert_allclose(run(model, tmp_path, x=X), X + tensors["v"], rtol=1e-3)


@pytest.mark.parametrize("given", [[np.inf, 1.0], [1e-12, 1.0], [0.0, 0.0]])
def test_infinities_zeros_and_single_small_numbers_fit(given):
    tensors = HalfTensors(ir.DataType.FLOAT16)
    assert tensors.cast(ir.tensor(np.float32(given)), "w") is not None
    assert tensors.kept == {}


def test_a_tensor_is_cast_once():
    tensors = HalfTensors(ir.DataType.FLOAT16)
    tensor = ir.tensor(np.float32([1, 2]))
    assert tensors.cast(tensor, "a") is tensors.cast(tensor, "b")


@pytest.mark.parametrize("precision", HALVES)
def test_constants_of_every_kind_are_cast(precision, tmp_path):
    half = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.5])
    nodes = [
        ("Shape", ["x"], ["s"], {}),
        ("ConstantOfShape", ["s"], ["a"], {"value": half}),
        ("ConstantOfShape", ["s"], ["b"], {}),
        ("Constant", [], ["c"], {"value_float": 2.0}),
        ("Cast", ["s"], ["d"], {"to": TensorProto.FLOAT}),
        ("ReduceMax", ["d"], ["e"], {"keepdims": 0}),
        ("Sum", ["x", "a", "b"], ["f"], {}),
        ("Mul", ["f", "c"], ["g"], {}),
        ("Add", ["g", "e"], ["y"], {}),
    ]
    model = graph(nodes)
    cast(model, precision)
    assert "Constant" not in text(model)
    before = [node for node in model.graph if node.op_type == "Cast"]
    # The whole number goes to half precision at once, not by way of float32.
    assert all(
        node.inputs[0].producer() is None or node.inputs[0].producer().op_type != "Cast"
        for node in before
    )
    path = tmp_path / "g.onnx"
    ir.save(model, path)
    with rounding_graph(path) as rounded:
        np.testing.assert_allclose(
            GraphRunner(rounded).run({"x": X})["y"], (X + 1.5) * 2 + 3, rtol=2e-2
        )


def test_scales_of_resize_stay_float32():
    image = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])]
    scales = {"s": np.float32([1, 1, 2, 2])}
    model = graph([("Resize", ["x", "", "s"], ["y"], {})], scales, image)
    cast(model)
    assert text(model) == ["Cast>f16", "Resize", "Cast>f32"]
    assert model.graph.initializers["s"].dtype == ir.DataType.FLOAT


def quantised(scale, opset):
    nodes = [
        ("Relu", ["x"], ["a"], {}),
        ("QuantizeLinear", ["a", "s", "z"], ["q"], {}),
        ("DequantizeLinear", ["q", "s", "z"], ["b"], {}),
        ("DequantizeLinear", ["w", "s", "z"], ["c"], {}),
        ("MatMul", ["b", "c"], ["y"], {}),
    ]
    tensors = {
        "s": np.float32(scale),
        "z": np.int8(0),
        "w": np.arange(-6, 6, dtype=np.int8).reshape(3, 4),
    }
    return graph(nodes, tensors, opset=opset)


def test_quantised_nodes_take_half_scales_and_need_no_cast(tmp_path):
    model = quantised(0.125, 20)
    cast(model)
    assert text(model) == [
        *("Cast>f16", "Relu", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear"),
        *("MatMul", "Cast>f32"),
    ]
    assert model.graph.initializers["w"].dtype == ir.DataType.INT8
    expected = run(quantised(0.125, 20), tmp_path, x=X)
    np.testing.assert_allclose(run(model, tmp_path, x=X), expected, rtol=1e-3)


@pytest.mark.parametrize(("scale", "opset"), [(0.125, 17), (1e-5, 20)])
def test_quantised_nodes_keep_scales_that_must_be_float32(scale, opset):
    """An older ONNX has no others, or fp16 has only a coarse one."""
    model = quantised(scale, opset)
    cast(model)
    assert text(model) == [
        *("Cast>f16", "Relu", "Cast>f32", "QuantizeLinear", "DequantizeLinear", "Cast>f16"),
        *("DequantizeLinear", "Cast>f16", "MatMul", "Cast>f32"),
    ]
    assert model.graph.initializers["s"].dtype == ir.DataType.FLOAT


def test_bodies_of_subgraphs_stay_float32(tmp_path):
    def branch(op):
        out = helper.make_tensor_value_info(op, TensorProto.FLOAT, [2, 3])
        return helper.make_graph([helper.make_node(op, ["a"], [op])], op, [], [out])

    yes = [helper.make_tensor_value_info("yes", TensorProto.BOOL, [])]
    x = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])]
    nodes = [
        ("Relu", ["x"], ["a"], {}),
        ("If", ["yes"], ["b"], {"then_branch": branch("Neg"), "else_branch": branch("Abs")}),
        ("Add", ["b", "a"], ["y"], {}),
    ]
    model = graph(nodes, inputs=x + yes)
    cast(model)
    assert text(model) == ["Cast>f16", "Relu", "Cast>f32", "If", "Cast>f16", "Add", "Cast>f32"]
    assert np.all(run(model, tmp_path, x=X, yes=np.array(True)) == 0)


def test_half_graph_passes_unchanged():
    half = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, [2, 3]) for n in "xy"]
    model = graph([("Relu", ["x"], ["y"], {})], inputs=half[:1], outputs=half[1:])
    before = ir.to_proto(model).SerializeToString()
    cast(model)
    assert ir.to_proto(model).SerializeToString() == before
    assert graph_precision(model) == "fp16"
    for other in ("fp32", "bf16"):
        with pytest.raises(SupernetError, match=f"--precision {other}: .* computes in fp16"):
            check_castable(model, Precision(other))


def test_graph_of_both_is_mixed_and_its_own_casts_are_kept():
    nodes = [
        ("Cast", ["x"], ["a"], {"to": TensorProto.FLOAT16}),
        ("Relu", ["a"], ["b"], {}),
        ("Cast", ["b"], ["c"], {"to": TensorProto.FLOAT}),
        ("Neg", ["c"], ["y"], {}),
    ]
    model = graph(nodes)
    assert graph_precision(model) == "mixed"
    cast(model)
    assert text(model) == ["Cast>f16", "Relu", "Neg", "Cast>f32"]


def test_unknown_operators_stay_float32_and_unknown_types_are_refused():
    model = graph([("Relu", ["x"], ["a"], {}), ("Neg", ["a"], ["y"], {})])
    middle = next(iter(model.graph))
    middle.domain = "com.example"
    cast_in_place(model, Precision.FP16, HalfTensors(ir.DataType.FLOAT16))
    assert text(model) == ["Relu", "Cast>f16", "Neg", "Cast>f32"]
    model = graph([("Relu", ["x"], ["a"], {}), ("Neg", ["a"], ["y"], {})])
    next(iter(model.graph)).outputs[0].type = None
    with pytest.raises(SupernetError, match=r"type of .a. .computed by Relu. is unknown"):
        cast_in_place(model, Precision.FP16, HalfTensors(ir.DataType.FLOAT16))


def test_old_graph_has_no_bfloat16():
    model = graph([("Relu", ["x"], ["y"], {})], opset=17)
    with pytest.raises(SupernetError, match=r"ONNX opset 17, .*Export it with opset 22"):
        cast_in_place(model, Precision.BF16, HalfTensors(ir.DataType.BFLOAT16))


def test_stand_in_for_zero_padding_stays_one():
    image = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])]
    pads = {"p": np.int64([0, 0, 1, 1, 0, 0, 1, 1]), "zero": np.float32(0)}
    pool = ("MaxPool", ["a"], ["y"], {"kernel_shape": [2, 2]})
    model = graph([("Pad", ["x", "p", "zero"], ["a"], {}), pool], pads, image)
    KeepZeroPaddingPass()(model)
    assert cast(model).kept == {}
    assert text(model) == ["Cast>f16", "Pad", "MaxPool", "Cast>f32"]
    (value,) = (v for v in model.graph.initializers.values() if v.dtype != ir.DataType.INT64)
    assert value.const_value.numpy() == np.finfo(np.float16).smallest_subnormal


@pytest.mark.parametrize("precision", HALVES)
def test_rounding_graph_rounds_after_every_node(precision, tmp_path):
    tensors = {"w": np.float32([1.1, 2.2, 3.3]), "b": np.float32(0.1)}
    model = graph([("Mul", ["x", "w"], ["a"], {}), ("Add", ["a", "b"], ["y"], {})], tensors)
    cast(model, precision)
    path = tmp_path / "g.onnx"
    ir.save(model, path)
    with rounding_graph(path) as rounded:
        found = GraphRunner(rounded).run({"x": X})["y"]
    half = NUMPY[precision]
    x, w, b = (np.float32(a).astype(half) for a in (X, tensors["w"], tensors["b"]))
    assert np.array_equal(found, ((x * w) + b).astype(np.float32))
    assert [file.name for file in tmp_path.iterdir()] == ["g.onnx"]


def test_rounding_graph_overflows_where_the_cpu_does_not(tmp_path):
    tensors = {"w": np.float32(6e4), "v": np.float32(1 / 6e4)}
    model = graph([("Mul", ["x", "w"], ["a"], {}), ("Mul", ["a", "v"], ["y"], {})], tensors)
    cast(model)
    assert np.isfinite(run(model, tmp_path, x=X)).all()
    with rounding_graph(tmp_path / "g.onnx") as rounded:
        assert np.isinf(GraphRunner(rounded).run({"x": X})["y"]).any()


def test_target_may_lack_a_precision():
    check_precision(Precision.BF16, (), "mine")
    check_precision(Precision.FP16, ("fp32", "fp16"), "mine")
    with pytest.raises(TargetError, match=r"bf16: the target 'mine' .* in fp32 and fp16\."):
        check_precision(Precision.BF16, ("fp32", "fp16"), "mine")

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.errors import TargetError
from skipc.compiler.graph.roofline import Roofline, estimate
from skipc.profiles import Board, Number, load_profile

if TYPE_CHECKING:
    from pathlib import Path

# 1e9 multiply-accumulates and 1e6 bytes in a millisecond.
BOARD = Board(
    "toy",
    bandwidth_gb_s=Number(1.0, "", derived=True),
    peak_tops={"fp32": Number(2.0, "", derived=True), "fp16": Number(4.0, "", derived=True)},
)

# Conv: 3 -> 8 channels, 3x3, on 16x16, with a bias; then ReLU, mean, and Gemm to 10 classes.
CONV_MACS = 16 * 16 * 8 * 3 * 3 * 3
CONV_WEIGHTS = 8 * 3 * 3 * 3 + 8
CONV_DATA = 3 * 16 * 16 + 8 * 16 * 16
GEMM_MACS = 8 * 10
GEMM_WEIGHTS = 8 * 10 + 10
GEMM_DATA = 8 + 10


def _network(batch: int | str = "N") -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "v": (10, 8), "c": (10,)}
    weights = [
        numpy_helper.from_array(rng.random(shape, np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "c"], ["y"], transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    return onnx.shape_inference.infer_shapes(model)


NETWORK = ir.from_proto(_network())


@pytest.mark.parametrize("batch", [1, 8])
def test_a_small_network_takes_what_was_computed_by_hand(batch: int) -> None:
    found = estimate(ir.from_proto(_network()), batch, BOARD, "fp32")
    conv_bytes = 4 * (CONV_WEIGHTS + batch * CONV_DATA)
    gemm_bytes = 4 * (GEMM_WEIGHTS + batch * GEMM_DATA)
    assert (found.macs, found.bytes) == (
        batch * (CONV_MACS + GEMM_MACS),
        conv_bytes + gemm_bytes,
    )
    assert found.compute_ms == pytest.approx(batch * (CONV_MACS + GEMM_MACS) / 1e9)
    assert found.memory_ms == pytest.approx((conv_bytes + gemm_bytes) / 1e6)
    assert found.latency_ms == pytest.approx(found.memory_ms)  # both nodes are bound by it
    assert found.limit == "memory"


def test_each_node_has_a_limit_of_its_own() -> None:
    # The Conv is bound by arithmetic, the Gemm by memory.
    board = Board(
        "slow",
        bandwidth_gb_s=Number(16.0, "", derived=True),
        peak_tops={"fp16": Number(0.1, "", derived=True)},
    )
    found = estimate(ir.from_proto(_network()), 1, board, "fp16")
    conv_ms, gemm_ms = CONV_MACS / 5e7, 2 * (GEMM_WEIGHTS + GEMM_DATA) / 16e6
    assert conv_ms > 2 * (CONV_WEIGHTS + CONV_DATA) / 16e6
    assert gemm_ms > GEMM_MACS / 5e7
    assert found.latency_ms == pytest.approx(conv_ms + gemm_ms)
    assert found.latency_ms > max(found.compute_ms, found.memory_ms)
    assert found.limit == "compute"


@given(tops=st.floats(1e-6, 1e6), gb_s=st.floats(1e-6, 1e6), batch=st.integers(1, 512))
def test_latency_lies_between_the_longer_limit_and_the_sum_of_both(
    tops: float, gb_s: float, batch: int
) -> None:
    board = Board(
        "any",
        bandwidth_gb_s=Number(gb_s, "", derived=True),
        peak_tops={"int8": Number(tops, "", derived=True)},
    )
    found = estimate(NETWORK, batch, board, "int8")
    limits = (found.compute_ms, found.memory_ms)
    assert max(limits) * (1 - 1e-9) <= found.latency_ms <= sum(limits) * (1 + 1e-9)
    assert (found.limit == "compute") == (found.compute_ms >= found.memory_ms)
    one = estimate(NETWORK, 1, board, "int8")
    assert one.latency_ms <= found.latency_ms <= one.latency_ms * batch * (1 + 1e-9)


def test_a_fixed_batch_is_that_of_the_graph() -> None:
    fixed = estimate(ir.from_proto(_network(batch=4)), 1, BOARD, "fp32")
    assert fixed == estimate(ir.from_proto(_network()), 4, BOARD, "fp32")


def test_half_the_precision_is_half_the_traffic() -> None:
    model = ir.from_proto(_network())
    single, half = (estimate(model, 2, BOARD, name) for name in ("fp32", "fp16"))
    assert half.bytes * 2 == single.bytes
    assert half.compute_ms * 2 == pytest.approx(single.compute_ms)


def test_a_product_of_two_activations_has_no_weights() -> None:
    a = helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 4, 5])
    b = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["N", 5, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 6])
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    graph = helper.make_graph([node], "product", [a, b], [y])
    found = estimate(ir.from_proto(helper.make_model(graph)), 3, BOARD, "fp32")
    assert (found.macs, found.bytes) == (3 * 4 * 5 * 6, 3 * 4 * (20 + 30 + 24))


def test_a_transposed_weight_is_a_weight() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6])
    weight = numpy_helper.from_array(np.ones((6, 5), np.float32), "w")
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "turned", [x], [y], [weight])
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph))
    found = estimate(ir.from_proto(model), 7, BOARD, "fp32")
    assert found.bytes == 4 * (30 + 7 * (5 + 6))


def test_no_weight_is_read(tmp_path: Path) -> None:
    model = ir.from_proto(_network())
    expected = estimate(model, 1, BOARD, "fp32")
    ir.save(model, tmp_path / "net.onnx", external_data="net.data")
    (tmp_path / "net.data").unlink()
    assert estimate(ir.load(tmp_path / "net.onnx"), 1, BOARD, "fp32") == expected


def test_a_graph_without_products_takes_no_time() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    found = estimate(ir.from_proto(helper.make_model(graph)), 1, BOARD, "fp32")
    assert found == Roofline(0.0, 0.0, 0.0, "compute", 0, 0)


def test_what_is_not_known_is_told() -> None:
    model = ir.from_proto(_network())
    with pytest.raises(TargetError, match=r"'toy' gives no peak_tops.int8.*'fp16', 'fp32'"):
        estimate(model, 1, BOARD, "int8")
    with pytest.raises(TargetError, match=r"unknown precision 'fp8'. Did you mean 'fp"):
        estimate(model, 1, BOARD, "fp8")
    with pytest.raises(TargetError, match="the batch is 0; at least 1"):
        estimate(model, 0, BOARD, "fp32")
    nothing = Board("bare", peak_tops=BOARD.peak_tops)
    with pytest.raises(TargetError, match="'bare' gives no bandwidth_gb_s"):
        estimate(model, 1, nothing, "fp32")
    model.graph[0].outputs[0].shape = None
    with pytest.raises(TargetError, match=r"the shape of 'a' at the node .* is unknown"):
        estimate(model, 1, BOARD, "fp32")


def test_more_of_an_orin_is_never_slower() -> None:
    model = ir.from_proto(_network())
    large, small = load_profile("jetson-orin").boards
    for precision in ("fp32", "tf32", "fp16", "bf16", "int8"):
        fast, slow = (estimate(model, 64, board, precision) for board in (large, small))
        assert 0 < fast.latency_ms <= slow.latency_ms

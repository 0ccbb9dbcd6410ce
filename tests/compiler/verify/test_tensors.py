"""One definition of error: rounding never stops a build, and a fault always does."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.axes.precision import Precision, PrecisionAxis
from skipc.compiler.errors import NumericsError
from skipc.compiler.network import Network, Tolerance
from skipc.compiler.verify.onnx_reference import OnnxReference
from skipc.compiler.verify.verify import verify_subnet
from skipc.runtime.bundle.tensors import TensorSpec

WIDTH, CLASSES = 32, 6

HEADS = {
    "linear": (),
    "sigmoid": (("Sigmoid", "l", {}),),
    "tanh": (("Tanh", "l", {}),),
    "relu": (("Relu", "l", {}),),
    "softmax": (("Softmax", "l", {"axis": 1}),),
    "log-softmax": (("LogSoftmax", "l", {"axis": 1}),),
    "moved sigmoid": (("Sigmoid", "l", {}), ("Transpose", "h0", {}), ("Flatten", "h1", {})),
    "strides": (("Sigmoid", "l", {}), ("Mul", "h0 stride", {})),
}


class Head:
    """A network of two layers whose logits are ``gain`` times its features plus ``offset``."""

    def __init__(self, head, gain=1.0, offset=0.0, classes=CLASSES):
        rng = np.random.default_rng(3)
        spread = np.linspace(0.5, 1.5, classes)
        self.weights = {
            "w0": rng.standard_normal((WIDTH, 16)) / 4,
            "b0": rng.standard_normal(WIDTH) / 4,
            "w1": rng.standard_normal((classes, WIDTH)) / 6 * gain,
            "b1": offset * spread if offset else gain * rng.standard_normal(classes) / 2,
            "stride": np.array([32.0]),
        }
        self.nodes = [
            helper.make_node("Gemm", ["x", "w0", "b0"], ["c"], transB=1),
            helper.make_node("Relu", ["c"], ["f"]),
            helper.make_node("Gemm", ["f", "w1", "b1"], ["l"], transB=1),
        ]
        last = "l"
        for number, (kind, reads, attributes) in enumerate(head):
            last = f"h{number}"
            self.nodes.append(helper.make_node(kind, reads.split(), [last], **attributes))
        self.nodes.append(helper.make_node("Identity", [last], ["y"]))

    def model(self, **changed):
        weights = [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in (self.weights | changed).items()
        ]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", [x], [y], weights)
        model = helper.make_model(
            graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)]
        )
        return ir.passes.common.ShapeInferencePass()(ir.from_proto(model)).model

    def rounded_otherwise(self):
        """Returns weights of the same function that sums in another order."""
        order = np.random.default_rng(4).permutation(WIDTH)
        w = self.weights
        return {"w0": w["w0"][order], "b0": w["b0"][order], "w1": w["w1"][:, order]}


def network_of(model):
    (y,) = model.graph.outputs
    shape = tuple(int(dim) for dim in y.shape)
    return Network(
        model=model,
        reference=OnnxReference(model),
        inputs=(TensorSpec("x", "float32", (1, 16)),),
        outputs=(TensorSpec("y", "float32", shape),),
        dimensions=(),
        description="a head",
        tolerance=Tolerance(1e-4),
    )


CASES = [
    {"x": np.random.default_rng(seed).standard_normal((1, 16)).astype(np.float32)}
    for seed in (1, 2)
]


def verify(folder, network, model):
    path = folder / "graph.onnx"
    ir.save(model, path)
    return verify_subnet(path, "fast", network, CASES)


FAULTS = {
    "dropped bias": lambda w: {"b1": w["b1"] * 0},
    "swapped channels": lambda w: {"w1": w["w1"][::-1], "b1": w["b1"][::-1]},
    "wrong weights": lambda w: {"w0": w["w0"] * 1.25},
}


def logits(weights):
    return np.array(
        [
            np.maximum(case["x"] @ weights["w0"].T + weights["b0"], 0) @ weights["w1"].T
            + weights["b1"]
            for case in CASES
        ]
    )


@settings(max_examples=25, deadline=None)
@given(
    head=st.sampled_from(sorted(HEADS)),
    gain=st.sampled_from([1e-9, 1e-6, 1e-3, 1.0, 30.0, 1e4]),
    offset=st.sampled_from([0.0, -16.0, 16.0, -40.0, 1000.0]),
    fault=st.sampled_from(sorted(FAULTS)),
)
def test_rounding_passes_and_a_fault_never_does(tmp_path_factory, head, gain, offset, fault):
    made = Head(HEADS[head], gain, offset)
    network = network_of(made.model())
    folder = tmp_path_factory.mktemp("graph")
    verify(folder, network, made.model(**made.rounded_otherwise()))
    wrong = made.weights | FAULTS[fault](made.weights)
    right = logits(made.weights)
    # What a change does to the logits is the fault, however little the head shows of it.
    if np.abs(logits(wrong) - right).max(axis=(1, 2)).min() > 1e-3 * np.ptp(right):
        with pytest.raises(NumericsError):
            verify(folder, network, made.model(**wrong))


@pytest.mark.parametrize("half", [Precision.FP16, Precision.BF16])
@pytest.mark.parametrize("head", ["sigmoid", "tanh", "log-softmax"])
def test_half_precision_rounds_more_and_its_faults_are_found(tmp_path, half, head):
    axis, made = PrecisionAxis(), Head(HEADS[head], 1.0, -16.0)
    full = network_of(made.model())
    network = axis.apply(full, half, axis.offer(full))
    verify(tmp_path, network, network.model)
    wrong = made.model(**FAULTS["swapped channels"](made.weights))
    with pytest.raises(NumericsError):
        verify(tmp_path, network, axis.apply(network_of(wrong), half, axis.offer(full)).model)


def test_saturated_output_is_passed_with_a_note_and_the_range_that_it_is_held_to(tmp_path):
    made = Head(HEADS["sigmoid"], 1.0, -16.0)
    found = verify(tmp_path, network_of(made.model()), made.model())
    assert found.verification.ranges == {"y": pytest.approx(0.02)}
    (note,) = found.notes
    assert "the output 'y' hardly varies" in note
    assert "--data" in note
    # One ulp of 1, the numbers that a sigmoid is computed with, is within the tolerance.
    assert np.finfo(np.float32).eps / 0.02 < found.verification.tolerance


def test_output_of_small_numbers_that_are_exact_is_held_to_its_own_range(tmp_path):
    made = Head((), 1e-9)
    found = verify(tmp_path, network_of(made.model()), made.model())
    assert found.notes == ()
    assert found.verification.ranges["y"] < 1e-8


def test_fault_behind_a_saturated_output_is_named(tmp_path):
    made = Head(HEADS["sigmoid"], 1.0, -40.0)
    with pytest.raises(NumericsError, match="only because it tells little") as raised:
        verify(tmp_path, network_of(made.model()), made.model(b1=made.weights["b1"] + 1))
    assert "The first tensor that differs is 'l'" in str(raised.value)


def test_fault_of_small_scores_is_found_beside_large_boxes(tmp_path):
    head = (("Sigmoid", "l", {}), ("Mul", "c width", {}), ("Concat", "h1 h0", {"axis": 1}))
    made = Head(head, 1.0, -12.0)
    made.weights["width"] = np.full((1, WIDTH), 640.0)
    network = network_of(made.model())
    found = verify(tmp_path, network, made.model())
    assert found.verification.ranges["y"] > 640
    with pytest.raises(NumericsError, match="The first tensor that differs is 'l'"):
        verify(tmp_path, network, made.model(w1=made.weights["w1"][::-1]))


def test_log_probability_of_one_class_is_as_coarse_as_its_logits(tmp_path):
    """The larger of two logits around 30000: its log-softmax is 0, less a rounded sum."""
    head = (("LogSoftmax", "l", {"axis": 1}), ("ReduceMax", "h0", {}))
    made = Head(head, 1.0, 30000.0)
    network = network_of(made.model())
    assert verify(tmp_path, network, made.model()).verification.ranges["y"] > 100


def test_place_in_a_table_is_no_number_that_is_rounded(tmp_path):
    head = (("ArgMax", "l", {"axis": 1}), ("Gather", "table h0", {}))
    made = Head(head, classes=4096)
    made.weights["table"] = table = np.random.default_rng(5).standard_normal(4096)
    network = network_of(made.model())
    verify(tmp_path, network, made.model())
    with pytest.raises(NumericsError, match="The first tensor that differs is 'h1'"):
        verify(tmp_path, network, made.model(table=table + 0.001))


def test_chain_of_a_thousand_operations_before_an_output_is_followed(tmp_path):
    head = [("Sigmoid", "l", {}), *(("Abs", f"h{n}", {}) for n in range(1200))]
    made = Head(head, 1.0, -16.0)
    found = verify(tmp_path, network_of(made.model()), made.model())
    assert found.verification.ranges == {"y": pytest.approx(0.02)}


def test_answers_that_are_numbers_of_classes_differ_by_their_range(tmp_path):
    made = Head((("ArgMax", "l", {"axis": 1}), ("Cast", "h0", {"to": TensorProto.FLOAT})))
    network = network_of(made.model())
    assert verify(tmp_path, network, made.model()).verification.relative_error == 0
    with pytest.raises(NumericsError, match=r"differ .* by \S+ of the output's range"):
        verify(tmp_path, network, made.model(b1=-10 * made.weights["b1"]))

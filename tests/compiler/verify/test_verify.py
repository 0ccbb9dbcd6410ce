"""Verification catches what is wrong with a subnet and names where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from skipc.compiler.bundle.weights import WeightStoreWriter
from skipc.compiler.bundle.writer import write_graph
from skipc.compiler.errors import NumericsError, SupernetError
from skipc.compiler.family import Subnet
from skipc.compiler.verify.numerics import difference, ranges_of
from skipc.compiler.verify.onnx_reference import OnnxReference
from skipc.compiler.verify.sessions import GraphRunner
from skipc.compiler.verify.verify import verify_subnet
from tests.zoo import NETS, case_for, exported, skipping

NAME = "torchvision-resnet"


@pytest.fixture
def written(tmp_path):
    """A subnet on disk, its network and the inputs to verify on."""
    graph, search = exported(NAME)
    network = skipping(graph, search.units[1:2])
    with WeightStoreWriter(tmp_path / "weights.bin") as store:
        path = write_graph(Subnet(network, 0), "fast", store, tmp_path).file
    return path, network, [case_for(NETS[NAME], seed) for seed in (1, 2)]


def verify(written, tolerance=1e-4, reference=None, name="fast"):
    path, network, cases = written
    changed = replace(
        network,
        reference=reference or network.reference,
        tolerance=replace(network.tolerance, relative=tolerance),
    )
    return verify_subnet(path, name, changed, cases)


def test_right_subnet_passes_with_its_errors_recorded(written):
    result = verify(written)
    assert 0 < result.verification.relative_error < 1e-5
    assert result.verification.reference == "pytorch"
    assert result.verification.inputs == 2
    assert len(result.expected) == 2


def test_right_subnet_passes_against_the_onnx_reference(written):
    graph, search = exported(NAME)
    cuts = list(search.units[1].cuts)
    result = verify(written, reference=OnnxReference(graph.model).with_cuts(cuts))
    assert result.verification.reference == "onnx supernet"


def damage(path, name, change):
    """Changes one stored tensor of a graph in the weight store."""
    place = ir.load(path).graph.initializers[name].const_value
    assert isinstance(place, ir.ExternalTensor)
    data = np.memmap(
        path.parent / "weights.bin",
        np.float32,
        "r+",
        offset=place.offset or 0,
        shape=((place.length or 0) // 4,),
    )
    data[:] = change(data[:])
    data.flush()


def test_damaged_weight_is_caught_and_the_first_tensor_named(written):
    damage(written[0], "layer2.0.conv1.weight", lambda data: data + 0.1)
    with pytest.raises(NumericsError, match=r"module 'layer2\.0\.") as raised:
        verify(written)
    text = str(raised.value)
    assert "configuration 'fast'" in text
    assert "more than the tolerance of 0.0001" in text
    assert "The first tensor that differs is" in text
    assert sorted(p.name for p in written[0].parent.iterdir()) == ["fast.onnx", "weights.bin"]


def test_nan_in_a_weight_is_caught(written):
    damage(written[0], "layer2.1.conv2.weight", lambda data: data * np.nan)
    with pytest.raises(NumericsError, match=r"by nan of the output's range(.|\n)*layer2\.1"):
        verify(written)


def test_wrong_operator_is_caught(written):
    path = written[0]
    model = ir.load(path)
    for node in model.graph:
        if node.op_type == "Relu" and "layer2.0" in node.metadata_props["skipc.module"]:
            node.op_type = "Abs"
            break
    ir.save(model, path)
    with pytest.raises(NumericsError, match=r"first tensor that differs is .* 'layer2\.0"):
        verify(written)


def test_other_configuration_is_caught(written):
    graph, search = exported(NAME)
    path, _, cases = written
    with pytest.raises(NumericsError, match="configuration 'other'"):
        verify((path, skipping(graph, search.units[2:3]), cases), name="other")


def test_difference_in_a_later_input_only_is_traced_there(written):
    path, network, cases = written
    damage(path, "layer1.0.conv1.weight", lambda data: data + 0.05)
    silent = {"x": np.full_like(cases[0]["x"], 0)}
    with pytest.raises(NumericsError, match="The first tensor that differs"):
        verify((path, network, [silent, *cases]))


def test_tolerance_zero_blames_the_optimiser_or_names_a_tensor(written):
    blamed = (
        r"tolerance of 0\. (The first tensor that differs is|No intermediate tensor differs)"
    )
    with pytest.raises(NumericsError, match=blamed):
        verify(written, tolerance=0.0)


class Constant:
    """A reference with outputs given beforehand."""

    name = "constant"

    def __init__(self, outputs):
        self.outputs = outputs

    def run(self, cases):
        return [{"output": self.outputs}] * len(cases)

    def trace(self, inputs):
        yield from ()


def test_reference_that_is_nan_itself_is_refused(written):
    with pytest.raises(NumericsError, match="is itself NaN on the inputs"):
        verify(written, reference=Constant(np.full((1, 5), np.nan, np.float32)))


def test_reference_of_another_shape_differs(written):
    with pytest.raises(NumericsError) as raised:
        verify(written, reference=Constant(np.zeros((1, 6), np.float32)))
    assert str(raised.value) == (
        "configuration 'fast': the output 'output' is float32 of shape [1, 5] at a batch of 1,"
        " but float32 of shape [1, 6] in constant."
    )


def test_graph_that_cannot_be_loaded_is_refused(written):
    written[0].write_bytes(b"\x08\x0a")
    with pytest.raises(SupernetError, match=r"fast\.onnx: ONNX Runtime .* cannot load it"):
        GraphRunner(written[0])


def outputs(*rows, dtype=np.float32):
    return [{"y": np.asarray(row, dtype)} for row in rows]


@pytest.mark.parametrize(
    ("actual", "expected", "absolute", "relative"),
    [
        (outputs([1, 2]), outputs([1, 2]), 0, 0),
        (outputs([1, 2.5]), outputs([1, 2]), 0.5, 0.5),
        (outputs([0, 1], [9, 11]), outputs([0, 1], [9, 10]), 1, 0.1),
        (outputs([4, 4]), outputs([4, 4]), 0, 0),
        (outputs([5, 4]), outputs([4, 4]), 1, 0.25),
        (outputs([1e-3]), outputs([0]), 1e-3, 1e-3),
        (outputs([]), outputs([]), 0, 0),
        (outputs([np.inf, 1]), outputs([np.inf, 0]), 1, 1),
        (outputs([1, 0], dtype=bool), outputs([1, 1], dtype=bool), 1, 1),
        (outputs([3, 0], dtype=np.int64), outputs([3, 2], dtype=np.int64), 2, 2),
        (outputs([255, 0], dtype=np.uint8), outputs([0, 0], dtype=np.uint8), 255, 255),
    ],
)
def test_difference_is_the_largest_error_over_the_range(actual, expected, absolute, relative):
    found = difference(actual, expected, ranges_of(expected, {"y": 0.0}))
    assert found.max_abs_error == pytest.approx(absolute)
    assert found.relative_error == pytest.approx(relative)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (outputs([np.nan, 1]), outputs([0, 1])),
        (outputs([0, 1], [np.nan, 1]), outputs([0, 1], [0, 1])),
        (outputs([np.nan, 1], [0, 1]), outputs([0, 1], [0, 1])),
        (outputs([np.inf, 1]), outputs([0, 1])),
        (outputs([1, 2, 3]), outputs([1, 2])),
        (outputs([1, 2], dtype=np.float64), outputs([1, 2])),
    ],
)
def test_difference_that_is_no_number_passes_no_tolerance(actual, expected):
    assert not difference(actual, expected, {"y": 1.0}).within(1e9)


def test_other_shape_or_type_is_told_as_that():
    shape = difference(outputs([1, 2, 3]), outputs([1, 2]), {"y": 1.0})
    assert shape.text("pytorch", 1e-4) == (
        "the output 'y' is float32 of shape [3] at a batch of 2, but float32 of shape [2] in"
        " pytorch."
    )
    kind = difference(outputs([1, 2], dtype=np.float64), outputs([1, 2]), {"y": 1.0})
    assert "is float64 of shape [2]" in kind.text("pytorch", 1e-4)


def test_range_is_at_least_what_the_arithmetic_can_tell():
    saturated = outputs([1e-7, 3e-7])
    assert ranges_of(saturated, {"y": 0.0})["y"] == pytest.approx(2e-7)
    assert ranges_of(saturated, {"y": 0.02}) == {"y": 0.02}
    assert ranges_of(outputs([0, 10]), {"y": 0.2}) == {"y": 10.0}
    assert ranges_of(outputs([np.inf]), {"y": 0.0}) == {"y": 1.0}

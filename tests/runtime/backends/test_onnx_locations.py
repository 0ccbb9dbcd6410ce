from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from skipc.runtime.backends.onnxruntime.locations import locations


def _external(name: str, location: str) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="16")
    return tensor


def _graph(name: str, **parts: object) -> onnx.GraphProto:
    graph = onnx.GraphProto(name=name)
    for field, values in parts.items():
        getattr(graph, field).extend(values)
    return graph


def test_locations_finds_a_tensor_in_every_place_that_onnx_has() -> None:
    inner = _graph("location", initializer=[_external("w", "branch.bin")])
    sparse = onnx.SparseTensorProto(values=_external("v", "values.bin"))
    sparse.indices.CopyFrom(_external("i", "indices.bin"))
    node = helper.make_node("If", ["c"], ["y"], name="location_embedding", then_branch=inner)
    for field, value in (
        ("graphs", _graph("g", initializer=[_external("w", "graphs.bin")])),
        ("tensors", _external("t", "tensors.bin")),
        ("sparse_tensors", sparse),
    ):
        attribute = node.attribute.add(name=field)
        getattr(attribute, field).append(value)
    node.attribute.add(name="t").t.CopyFrom(_external("t", "constant.bin"))
    node.attribute.add(name="s").sparse_tensor.values.CopyFrom(_external("v", "sparse.bin"))
    model = onnx.ModelProto(ir_version=9)
    model.graph.CopyFrom(
        _graph("main", node=[node], initializer=[_external("w", "packed.bin")])
    )
    model.graph.sparse_initializer.append(sparse)
    function = model.functions.add(name="f")
    function.node.append(
        helper.make_node("Constant", [], ["y"], value=_external("c", "f.bin"))
    )
    training = model.training_info.add()
    training.initialization.initializer.append(_external("w", "initialization.bin"))
    training.algorithm.initializer.append(_external("w", "algorithm.bin"))
    found = locations(model.SerializeToString())
    assert found == {
        *("branch.bin", "values.bin", "indices.bin", "graphs.bin", "tensors.bin"),
        *("constant.bin", "sparse.bin", "packed.bin", "f.bin"),
        *("initialization.bin", "algorithm.bin"),
    }


def test_locations_is_empty_when_the_graph_holds_all_itself() -> None:
    node = helper.make_node("Identity", ["location"], ["y"], name="location")
    model = onnx.ModelProto(graph=_graph("location", node=[node]))
    assert locations(model.SerializeToString()) == set()


def test_locations_reads_the_last_value_as_protocol_buffers_does() -> None:
    entry = b"\x0a\x08location\x12\x0apacked.bin\x12\x06../etc"
    tensor = b"\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    data = b"\x3a" + bytes([len(graph)]) + graph
    model = onnx.ModelProto.FromString(data)
    assert model.graph.initializer[0].external_data[0].value == "../etc"
    assert locations(data) == {"../etc"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x3a\xff\x01", "ends at byte"),
        (b"\x3b", "wire type 3"),
        (b"\x80\x80", "number without end"),
        (b"\x3a" + b"\xff" * 12, "number without end"),
    ],
)
def test_locations_refuses_what_is_no_message(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        locations(data)


def test_locations_refuses_graphs_nested_too_deep() -> None:
    graph = onnx.GraphProto(initializer=[_external("w", "x.bin")])
    for _ in range(23):
        outer = onnx.GraphProto()
        outer.node.add(op_type="If").attribute.add(name="b").g.CopyFrom(graph)
        graph = outer
    with pytest.raises(ValueError, match="nested deeper"):
        locations(onnx.ModelProto(graph=graph).SerializeToString())


@given(st.binary(max_size=200))
def test_locations_raises_only_value_errors(data: bytes) -> None:
    try:
        found = locations(b"\x3a" + bytes([len(data) & 0x7F]) + data)
    except ValueError:
        return
    assert all(isinstance(name, str) for name in found)

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from skipc.runtime.bundle.onnx_graph import _MESSAGES, _PLAIN, check_locations, locations
from skipc.runtime.errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

_PROPERTIES = (
    *("metadata_props", "quant_parameter_tensor_names"),
    *("initialization_binding", "update_binding"),
)
"""Pairs of strings that name no file."""


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


def test_locations_reads_all_values_of_an_entry() -> None:
    entry = b"\x0a\x08location\x12\x0apacked.bin\x12\x06../etc"
    tensor = b"\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    data = b"\x3a" + bytes([len(graph)]) + graph
    model = onnx.ModelProto.FromString(data)
    assert model.graph.initializer[0].external_data[0].value == "../etc"
    # ONNX Runtime passes an empty value over, and takes the one before it.
    assert locations(data) == {"packed.bin", "../etc"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x3a\xff\x01", "ends at byte"),
        (b"\x3b", "wire type 3"),
        (b"\x80\x80", "number without end"),
        (b"\x3a" + b"\xff" * 12, "number without end"),
        (b"\x02\x00", "field of number 0"),
        (b"\x00", "field of number 0"),
        (b"\xba\x80\x80\x80\x10\x00", "more than 32 bits"),
        (b"\xba\x00\x00", "longer than it needs"),
        (b"\x3a\x80\x00", "longer than it needs"),
        (b"\x3a\xff\xff\xff\xff\x0f", "more than 31 bits"),
        (b"\x38\x01", "field 7 of a model has the wire type 0"),
        (b"\xa2\x06\x08location", "field 100 of a model, which may name a file, is unkno"),
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


def test_every_field_of_onnx_is_known() -> None:
    kinds = {
        "model": "ModelProto", "training": "TrainingInfoProto", "function": "FunctionProto",
        "graph": "GraphProto", "node": "NodeProto", "attribute": "AttributeProto",
        "sparse": "SparseTensorProto", "tensor": "TensorProto",
        "entry": "StringStringEntryProto",
    }  # fmt: skip
    messages = {name: kind for kind, name in kinds.items()}
    for kind, name in kinds.items():
        for field in getattr(onnx, name).DESCRIPTOR.fields:
            inner = None if field.message_type is None else field.message_type.name
            leads_on = inner in messages and field.name not in _PROPERTIES
            expected = messages.get(inner) if leads_on else None
            assert _MESSAGES[kind].get(field.number) == expected, (name, field.name)
            repeated_or_long = field.type in (9, 11, 12) or field.is_repeated
            known = field.number in _PLAIN[kind]
            assert known == (repeated_or_long and not leads_on), (name, field.name)


def test_a_graph_too_large_to_be_one_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "graph.onnx").open("wb") as file:
        file.truncate(12_000_000_000)
    with pytest.raises(IntegrityError, match=r"graph\.onnx: 12000000000 bytes, more than"):
        check_locations(tmp_path / "graph.onnx", "weights.bin")


@given(st.binary(max_size=200))
def test_locations_raises_only_value_errors(data: bytes) -> None:
    try:
        found = locations(b"\x3a" + bytes([len(data) & 0x7F]) + data)
    except ValueError:
        return
    assert all(isinstance(name, str) for name in found)

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import TensorProto, helper

from skipc.compiler.bundle.blobs import PAGE_BYTES
from skipc.compiler.errors import TargetError
from skipc.compiler.targets.cpu.merge import PackedStore, merge_graph

if TYPE_CHECKING:
    from pathlib import Path

RAW, PACKED, EXTRA = b"r" * 5000, b"p" * 6000, b"e" * 300
DATA = RAW + PACKED + EXTRA


def _tensor(name: str, **entries: str) -> onnx.TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.UINT8, dims=[1], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": "optimized.data", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def _graph(path: Path, *tensors: onnx.TensorProto) -> Path:
    graph = helper.make_graph([], "g", [], [], list(tensors))
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def _merge(folder: Path, *tensors: onnx.TensorProto, data: bytes = DATA) -> onnx.ModelProto:
    source = folder / "optimized.data"
    source.write_bytes(data)
    graph = _graph(folder / "optimized.onnx", *tensors)
    with PackedStore(folder / "packed.bin") as store:
        merge_graph(graph, source, folder / "merged.onnx", store)
    return onnx.load(folder / "merged.onnx", load_external_data=False)


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def test_store_holds_each_blob_once_and_on_a_page(tmp_path: Path) -> None:
    with PackedStore(tmp_path / "packed.bin") as store:
        first = [store.write(data) for data in (EXTRA, RAW, b"x", PACKED)]
        assert [store.write(data) for data in (EXTRA, RAW, b"x", PACKED)] == first
        size_bytes = store.size_bytes
    written = (tmp_path / "packed.bin").read_bytes()
    assert len(written) == size_bytes
    for blob, data in zip(first, (EXTRA, RAW, b"x", PACKED), strict=True):
        assert written[blob.offset_bytes :][: blob.size_bytes] == data
        assert blob.offset_bytes % (PAGE_BYTES if len(data) >= PAGE_BYTES else 64) == 0


def test_merge_rewrites_the_offsets_of_tensors_and_of_prepacked_blobs(tmp_path: Path) -> None:
    merged = _merge(
        tmp_path,
        _tensor("a", offset="0", length="5000", prepacked_0="Conv+1|5000;6000;1"),
        _tensor(
            "b",
            offset="11000",
            length="300",
            prepacked_0="Gemm+2|5000;6000;0;11000;300;0;90000;0;0|11000;300;1;",
            prepacked_1="odd|key|0;5000;1",
        ),
    )
    written = (tmp_path / "packed.bin").read_bytes()
    a, b = (_entries(tensor) for tensor in merged.graph.initializer)
    assert a == {
        "location": "packed.bin",
        "offset": "0",
        "length": "5000",
        "prepacked_0": "Conv+1|8192;6000;1",
    }
    extra = int(b["offset"])
    assert written[extra:][:300] == EXTRA
    assert b["prepacked_0"] == f"Gemm+2|8192;6000;0;{extra};300;0;0;0;0|{extra};300;1"
    assert b["prepacked_1"] == "odd|key|0;5000;1"
    assert written[8192:][:6000] == PACKED


def test_merge_finds_the_tensors_of_inner_graphs(tmp_path: Path) -> None:
    branch = helper.make_graph([], "then", [], [], [_tensor("w", offset="0", length="5000")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch)
    node.attribute.add(name="t").t.CopyFrom(_tensor("c", offset="11000", length="300"))
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    (tmp_path / "o.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "optimized.data").write_bytes(DATA)
    with PackedStore(tmp_path / "packed.bin") as store:
        used = merge_graph(
            tmp_path / "o.onnx", tmp_path / "optimized.data", tmp_path / "m.onnx", store
        )
    assert {(blob.offset_bytes, blob.size_bytes) for blob in used} == {(0, 5000), (5056, 300)}
    merged = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert b"optimized.data" not in merged.SerializeToString()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "0"}, "'w': expected external data of known length"),
        (
            {"location": "other", "length": "1"},
            "'w': expected external data .* 'optimized.data'",
        ),
        ({"length": "1", "checksum": "ab"}, "'w': unknown entry 'checksum'"),
        (
            {"length": "1", "prepacked_0": "1;2;3"},
            "'w': cannot read the prepacked entry '1;2;3'",
        ),
        ({"length": "1", "prepacked_0": "k|1;2"}, "cannot read the prepacked entry"),
        ({"length": "1", "prepacked_0": "k|-1;2;0"}, "cannot read the prepacked entry"),
        ({"offset": "11000", "length": "301"}, "expected 301 bytes at 11000, found 300"),
    ],
)
def test_merge_refuses_external_data_it_does_not_know(
    tmp_path: Path, entries: dict[str, str], message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        _merge(tmp_path, _tensor("w", **entries))

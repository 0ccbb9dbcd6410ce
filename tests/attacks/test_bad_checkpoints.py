"""Checkpoints that are damaged, or that would run code while they are loaded."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read import ModelOptions, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WITH_MODEL = ModelOptions(model="skipc:resnet")


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def _refused(path: Path, fragment: str) -> None:
    with pytest.raises(CheckpointError, match=fragment):
        read_checkpoint(path, WITH_MODEL)


# --- not a checkpoint at all


@pytest.mark.parametrize(
    ("name", "data", "fragment"),
    [
        ("w.pt", b"", r"is empty \(0 bytes\)"),
        ("w.pt", b"\n<!DOCTYPE html><html>", "is a web page"),
        ("w.pt", b"version https://git-lfs.github.com/spec/v1\n", "Run: git lfs pull"),
        ("w.pt", b'{"a": 1}', "is a JSON text"),
        ("w.h5", b"\x89HDF\r\n\x1a\n....", "an HDF5 file"),
        ("w.pt.gz", gzip.compress(b"x", mtime=0), "a gzip file; unpack it first"),
        ("w.pt", b"hello world", "not a checkpoint that skipc knows"),
        ("m.onnx", b"hello world", "damaged, or no ONNX model|its graph has no nodes"),
        ("m.onnx", b"\x08\x09", "its graph has no nodes"),
        ("w.pt", b"PK\x03\x04", "truncated or damaged"),
        ("w.pt", b"\x80\x02}q\x00", "damaged, or no file of torch.save"),
        ("w.safetensors", struct.pack("<Q", 1000) + b"{", "safetensors header has 1000"),
        ("w.safetensors", struct.pack("<Q", 2) + b"{]", "damaged safetensors file"),
        ("w.safetensors", struct.pack("<Q", 1 << 40) + b"{", "not a checkpoint that"),
    ],
)
def test_file_is_refused_when_it_is_no_checkpoint(
    tmp_path: Path, name: str, data: bytes, fragment: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=fragment):
        read_checkpoint(path, WITH_MODEL if path.suffix != ".onnx" else ModelOptions())


def test_file_is_refused_when_missing_or_a_directory(tmp_path: Path) -> None:
    (tmp_path / "other.pt").touch()
    _refused(tmp_path / "w.pt", "Its folder holds other")
    _refused(tmp_path, "is a directory")
    os.mkfifo(tmp_path / "pipe.pt")
    _refused(tmp_path / "pipe.pt", "not a regular file")


def test_file_is_refused_when_truncated(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.ones(1000)}, path)
    data = path.read_bytes()
    for size in (100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        _refused(path, "truncated or damaged|damaged, or no file of torch.save")


@pytest.mark.parametrize(
    ("names", "fragment"),
    [
        (["m/code/net.py", "m/constants.pkl", "m/data.pkl"], "a TorchScript archive"),
        (["serialized_exported_program.json"], "torch 2.7 and older"),
        (["a.npy"], r"a zip archive of something else \(a.npy\)"),
    ],
)
def test_zip_is_refused_when_it_holds_something_else(
    tmp_path: Path, names: list[str], fragment: str
) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    _refused(tmp_path / "w.pt", fragment)


# --- pickles


@pytest.mark.parametrize("new_format", [True, False])
def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path, new_format: bool) -> None:
    target = tmp_path / "attacked"
    content = {"state_dict": {"a": torch.ones(1)}, "args": Attack(target)}
    path = tmp_path / "w.pt"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    _refused(path, "holds Python objects")
    assert not target.exists()


def test_whole_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "w.pt")
    _refused(tmp_path / "w.pt", r"torch.nn.*\n.*weights_only=False\)\n.*model.state_dict\(\)")


def test_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "attacked"
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Attack(target)))
    _refused(tmp_path / "w.pt", "no file of torch.save|holds Python objects")
    assert not target.exists()


# --- torch.export archives


def _program(path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x) + torch.ones(2)

    shapes = {"x": {0: torch.export.Dim("N", min=1, max=8)}}
    program = torch.export.export(Net(), (torch.ones(2, 3),), dynamic_shapes=shapes)
    torch.export.save(program, path)


def _rewrite(
    path: Path, change: Callable[[dict[str, bytes]], None], compress: int = zipfile.ZIP_STORED
) -> None:
    """Writes the archive again with PyTorch's own writer, so that PyTorch accepts it."""
    reader = torch._C.PyTorchFileReader(str(path))
    records = {name: bytes(reader.get_record(name)) for name in reader.get_all_records()}
    del reader
    change(records)
    if compress != zipfile.ZIP_STORED:
        with zipfile.ZipFile(path, "w", compress) as archive:
            for name, data in records.items():
                archive.writestr(f"model/{name}", data)
        return
    # The writer adds these itself.
    for name in (".data/serialization_id", "byteorder", ".data/version", "version"):
        records.pop(name, None)
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, data in records.items():
        writer.write_record(name, data, len(data))
    writer.write_end_of_file()


def _edit(records: dict[str, bytes], name: str, edit: Callable[[Any], None]) -> None:
    document = json.loads(records[name])
    edit(document)
    records[name] = json.dumps(document).encode()


MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"


def _pickled(target: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(((Attack(target),), {}), buffer)
    return buffer.getvalue()


def _attack_samples(records: dict[str, bytes], target: Path) -> None:
    records[SAMPLES] = _pickled(target)


def _attack_weight(records: dict[str, bytes], target: Path) -> None:
    def edit(document: Any) -> None:
        document["config"]["linear.weight"]["use_pickle"] = True

    _edit(records, WEIGHTS, edit)
    records["data/weights/weight_0"] = _pickled(target)


def _attack_opaque_constant(records: dict[str, bytes], target: Path) -> None:
    def edit(document: Any) -> None:
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
        document["config"]["c"] = {**entry, "tensor_meta": None}

    _edit(records, CONSTANTS, edit)
    records["data/constants/opaque_obj_0"] = pickle.dumps(Attack(target))


def _attack_pickled_constant(records: dict[str, bytes], target: Path) -> None:
    def edit(document: Any) -> None:
        entry = {"path_name": "tensor_0", "is_param": False, "use_pickle": True}
        document["config"]["c"] = {**entry, "tensor_meta": None}

    _edit(records, CONSTANTS, edit)
    records["data/constants/tensor_0"] = _pickled(target)


def _attack_legacy_weights(records: dict[str, bytes], target: Path) -> None:
    records["data/weights/model.pt"] = _pickled(target)


def _attack_expression(records: dict[str, bytes], target: Path) -> None:
    def edit(value: Any) -> None:
        if isinstance(value, dict):
            if "expr_str" in value:
                value["expr_str"] = f"__import__('os').mkdir({str(target)!r})"
            for inner in value.values():
                edit(inner)
        elif isinstance(value, list):
            for inner in value:
                edit(inner)

    _edit(records, MODEL, edit)


def _attack_nested_expression(records: dict[str, bytes], target: Path) -> None:
    text = f"Max(1, \"__import__('os').mkdir('{target}')\")"

    def edit(document: Any) -> None:
        metas = document["graph_module"]["graph"]["tensor_values"]
        metas["x"]["sizes"][0]["as_expr"]["expr_str"] = text

    _edit(records, MODEL, edit)


def _attack_guard(records: dict[str, bytes], target: Path) -> None:
    def edit(document: Any) -> None:
        document["guards_code"] = [f"__import__('os').mkdir({str(target)!r}) is None"]

    _edit(records, MODEL, edit)


def _attack_operator(records: dict[str, bytes], target: Path) -> None:
    def edit(document: Any) -> None:
        document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.mkdir"

    _edit(records, MODEL, edit)


def _attack_file_operator(records: dict[str, bytes], target: Path) -> None:
    def edit(document: Any) -> None:
        node = document["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.ops.aten.from_file.default"

    _edit(records, MODEL, edit)


def _attack_name(records: dict[str, bytes], target: Path) -> None:
    name = f"x=__import__('os').mkdir({str(target)!r})"
    records[MODEL] = records[MODEL].replace(b'"x"', json.dumps(name).encode())


def _attack_tree(records: dict[str, bytes], target: Path) -> None:
    context = {
        "default_factory_module": "this",
        "default_factory_name": "x",
        "dict_context": [],
    }
    spec = {"type": "collections.defaultdict", "context": context}

    def edit(document: Any) -> None:
        call = document["graph_module"]["module_call_graph"][0]["signature"]
        call["out_spec"] = json.dumps([1, {**spec, "children_spec": []}])

    _edit(records, MODEL, edit)


def _attack_library(records: dict[str, bytes], target: Path) -> None:
    records["data/aotinductor/model/model.so"] = b"\x7fELF"


@pytest.mark.parametrize(
    "attack",
    [
        _attack_samples,
        _attack_weight,
        _attack_opaque_constant,
        _attack_pickled_constant,
        _attack_legacy_weights,
        _attack_expression,
        _attack_nested_expression,
        _attack_guard,
        _attack_operator,
        _attack_file_operator,
        _attack_name,
        _attack_tree,
        _attack_library,
    ],
)
def test_program_with_code_is_refused_and_not_run(
    tmp_path: Path, attack: Callable[[dict[str, bytes], Path], None]
) -> None:
    path, target = tmp_path / "m.pt2", tmp_path / "attacked"
    _program(path)
    _rewrite(path, lambda records: attack(records, target))
    with pytest.raises(CheckpointError, match="refused, since loading it could run code"):
        read_checkpoint(path, ModelOptions())
    assert not target.exists()


def test_program_is_refused_when_its_records_are_compressed(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    _program(path)
    _rewrite(path, lambda records: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="its records are compressed"):
        read_checkpoint(path, ModelOptions())


def test_program_is_refused_when_a_part_is_missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    cases: dict[str, Callable[[dict[str, bytes]], Any]] = {
        "has no 'data/sample_inputs/model.pt'": lambda r: r.pop(SAMPLES),
        "'models/model.json' is not JSON": lambda r: r.update({MODEL: b"{"}),
        "'models/model.json' is not an object": lambda r: r.update({MODEL: b"[]"}),
        "cannot load this program": lambda r: r.update({MODEL: b"{}"}),
    }
    for fragment, change in cases.items():
        _program(path)
        _rewrite(path, change)
        with pytest.raises(CheckpointError, match=fragment):
            read_checkpoint(path, ModelOptions())


def test_program_is_refused_when_truncated(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    _program(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_checkpoint(path, ModelOptions())


def test_untouched_program_is_read_after_rewriting(tmp_path: Path) -> None:
    """The attacks are refused for what they hold, not for how they were written."""
    path = tmp_path / "m.pt2"
    _program(path)
    _rewrite(path, lambda records: None)
    with pytest.raises(CheckpointError, match=r"is open\. Either give its sizes"):
        read_checkpoint(path, ModelOptions())

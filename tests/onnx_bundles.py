"""Bundles with real ONNX graphs, made without the compiler: for targets and backends."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.manifest import (
    FileEntry,
    GraphEntry,
    Manifest,
    OptionEntry,
    Provenance,
    Recipe,
    StoredTensor,
    Verification,
)
from skipc.runtime.bundle.records import written
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.bundles import plain_entry, skip_network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Case = Mapping[str, NDArray[np.generic]]

PAGE_BYTES = 4096


def write_onnx_bundle(
    path: Path,
    graphs: Mapping[str, onnx.ModelProto],
    cases: Sequence[Case],
    dimensions: tuple[Dimension, ...] = (Dimension("N", 1, 1, 8),),
    tolerance: float = 1e-4,
) -> Bundle:
    """Writes a bundle of ``graphs`` (configuration name to model, full one first).

    Golden outputs are those of the unoptimised graphs; ``dimensions`` count where a shape has
    them.
    """
    (path / "golden").mkdir(parents=True)
    store = bytearray()
    offsets: dict[str, int] = {}
    golden: dict[str, dict[str, NDArray[np.generic]]] = {}
    used: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    for name, model in graphs.items():
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        copy.graph.name = name
        used[name] = set()
        golden[name] = _outputs(copy, cases)
        for tensor in copy.graph.initializer:
            data = numpy_helper.to_array(tensor).tobytes()
            if len(data) < 256:
                continue
            digest = hashlib.sha256(data).hexdigest()
            used[name].add(digest)
            if digest not in offsets:
                store += bytes(-len(store) % PAGE_BYTES)
                offsets[digest] = len(store)
                store += data
                sizes[digest] = len(data)
            onnx.external_data_helper.set_external_data(
                tensor, "weights.bin", offset=offsets[digest], length=len(data)
            )
            tensor.ClearField("raw_data")
        (path / f"{name}.onnx").write_bytes(copy.SerializeToString())
    (path / "weights.bin").write_bytes(store)
    np.savez(path / "golden/inputs.npz", **_keyed(cases))
    for name, outputs in golden.items():
        np.savez(path / f"golden/{name}.npz", **outputs)
    first = next(iter(graphs.values()))
    ranges = {spec.name: 1.0 for spec in map(_spec, first.graph.output)}
    units = [f"a{i}" for i in range(len(graphs) - 1)]  # as their additions are called
    manifest = Manifest(
        name=path.stem,
        provenance=Provenance("2026-01-01T00:00:00Z", "fp32", {"skipc": "0"}),
        recipe=Recipe("cpu"),
        inputs=tuple(_spec(value) for value in first.graph.input),
        outputs=tuple(_spec(value) for value in first.graph.output),
        dimensions=tuple(
            each
            for each in dimensions
            if any(each.name in _spec(value).shape for value in first.graph.input)
        ),
        networks=(skip_network(OptionEntry(unit, 1, 1) for unit in units),),
        graphs=tuple(
            GraphEntry(
                name=name,
                network="",
                file=f"{name}.onnx",
                inputs=tuple(_spec(value) for value in model.graph.input),
                outputs=tuple(_spec(value) for value in model.graph.output),
                macs=1000 - index,
                parameters=1,
                weights_bytes=sum(sizes[digest] for digest in used[name]),
                own_bytes=sum(
                    sizes[digest]
                    for digest in used[name]
                    if sum(digest in others for others in used.values()) == 1
                ),
                verification=Verification(
                    "onnxruntime", len(cases), 0.0, 0.0, tolerance, ranges
                ),
            )
            for index, (name, model) in enumerate(graphs.items())
        ),
        configurations=tuple(
            plain_entry(name, units[:index], f"golden/{name}.npz", {})
            for index, name in enumerate(graphs)
        ),
        weights_file="weights.bin",
        weights=tuple(
            StoredTensor(digest, offset, sizes[digest]) for digest, offset in offsets.items()
        ),
        golden_inputs="golden/inputs.npz",
        files=tuple(
            FileEntry(str(f.relative_to(path)), f.stat().st_size, _sha256(f))
            for f in sorted(path.rglob("*"))
            if f.is_file()
        ),
    )
    (path / "manifest.json").write_text(json.dumps(written(manifest)))
    return Bundle.open(path)


def conv_family(
    blocks: int = 3, channels: int = 16, size: int = 8, seed: int = 0
) -> dict[str, onnx.ModelProto]:
    """Residual convolutions with a dynamic batch; configuration ``skip<n>`` drops n blocks."""
    rng = np.random.default_rng(seed)
    weights = {
        "stem": rng.normal(0, 0.2, (channels, 3, 3, 3)).astype(np.float32),
        "head": rng.normal(0, 0.2, (channels, 10)).astype(np.float32),
    }
    for i in range(blocks):
        weights[f"w{i}"] = rng.normal(0, 0.1, (channels, channels, 3, 3)).astype(np.float32)
        weights[f"b{i}"] = rng.normal(0, 0.1, (channels,)).astype(np.float32)

    def build(skipped: int) -> onnx.ModelProto:
        nodes = [
            _conv("images", "stem", None, "c"),
            helper.make_node("Relu", ["c"], ["x"]),  # else a dropped block would leave its own
        ]
        value = "x"
        for i in range(skipped, blocks):
            nodes += [
                _conv(value, f"w{i}", f"b{i}", f"c{i}"),
                helper.make_node("Add", [value, f"c{i}"], [f"a{i}"]),
                helper.make_node("Relu", [f"a{i}"], [f"r{i}"]),
            ]
            value = f"r{i}"
        nodes += [
            helper.make_node("GlobalAveragePool", [value], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "head"], ["logits"]),
        ]
        inputs = {"images": (TensorProto.FLOAT, ["N", 3, size, size])}
        return _model(nodes, inputs, {"logits": (TensorProto.FLOAT, ["N", 10])}, weights)

    return {f"skip{n}": build(n) for n in range(blocks + 1)}


def token_family(
    layers: int = 3, width: int = 64, length: int = 6, seed: int = 0
) -> dict[str, onnx.ModelProto]:
    """Residual MatMuls over int64 tokens and a mask, two outputs; ``skip<n>`` drops n."""
    rng = np.random.default_rng(seed)
    weights = {
        "table": rng.normal(0, 1, (50, width)).astype(np.float32),
        "axes": np.array([1], np.int64),
        "last": np.array([-1], np.int64),
    }
    for i in range(layers):
        weights[f"w{i}"] = rng.normal(0, 0.1, (width, width)).astype(np.float32)
        weights[f"b{i}"] = rng.normal(0, 0.1, (width,)).astype(np.float32)

    def build(skipped: int) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Gather", ["table", "tokens"], ["e"]),
            helper.make_node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["m", "last"], ["m1"]),
            helper.make_node("Mul", ["e", "m1"], ["x"]),
        ]
        value = "x"
        for i in range(skipped, layers):
            nodes += [
                helper.make_node("MatMul", [value, f"w{i}"], [f"p{i}"]),
                helper.make_node("Add", [f"p{i}", f"b{i}"], [f"q{i}"]),
                helper.make_node("Tanh", [f"q{i}"], [f"t{i}"]),
                helper.make_node("Add", [value, f"t{i}"], [f"a{i}"]),
            ]
            value = f"a{i}"
        nodes += [
            helper.make_node("ReduceMean", [value, "axes"], ["mean"], keepdims=0),
            helper.make_node("ArgMax", ["mean"], ["best"], axis=1, keepdims=0),
        ]
        return _model(
            nodes,
            {
                "tokens": (TensorProto.INT64, ["N", length]),
                "mask": (TensorProto.BOOL, ["N", length]),
            },
            {"mean": (TensorProto.FLOAT, ["N", width]), "best": (TensorProto.INT64, ["N"])},
            weights,
        )

    return {f"skip{n}": build(n) for n in range(layers + 1)}


def image_cases(
    batches: Sequence[int] = (1, 3), size: int = 8
) -> list[dict[str, NDArray[np.float32]]]:
    """Golden inputs for ``conv_family``."""
    rng = np.random.default_rng(1)
    return [
        {"images": rng.normal(size=(n, 3, size, size)).astype(np.float32)} for n in batches
    ]


def token_cases(
    batches: Sequence[int] = (1, 3), length: int = 6
) -> list[dict[str, NDArray[np.generic]]]:
    """Golden inputs for ``token_family``."""
    rng = np.random.default_rng(1)
    return [
        {
            "tokens": rng.integers(0, 50, (n, length)),
            "mask": rng.integers(0, 2, (n, length)).astype(bool),
        }
        for n in batches
    ]


def _conv(value: str, weight: str, bias: str | None, result: str) -> onnx.NodeProto:
    inputs = [value, weight] + ([bias] if bias else [])
    return helper.make_node("Conv", inputs, [result], pads=[1, 1, 1, 1])


def _model(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, list[str | int]]],
    outputs: Mapping[str, tuple[int, list[str | int]]],
    weights: Mapping[str, NDArray[np.generic]],
) -> onnx.ModelProto:
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(n, *spec) for n, spec in inputs.items()],
        [helper.make_tensor_value_info(n, *spec) for n, spec in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in weights.items() if n in read],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model)


def _outputs(model: onnx.ModelProto, cases: Sequence[Case]) -> dict[str, NDArray[np.generic]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    return _keyed(
        [dict(zip(names, session.run(names, dict(case)), strict=True)) for case in cases]
    )


def _keyed(cases: Sequence[Case]) -> dict[str, NDArray[np.generic]]:
    return {
        f"{i}/{name}": array for i, case in enumerate(cases) for name, array in case.items()
    }


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(d.dim_param or d.dim_value for d in kind.shape.dim)
    return TensorSpec(value.name, helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

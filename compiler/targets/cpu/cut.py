"""The pieces of a graph that a route runs one after the other, each an optimised file.

They are cut out of what ONNX Runtime made of the whole graph: so the tensors between them stay
in its blocked layout, and the numbers are those of the whole. Where it has fused the place of
a cut away, the graph itself is cut, and each piece optimised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from skipc.compiler.graph.pieces import extracted, pieces_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from skipc.compiler.graph.pieces import Piece
    from skipc.runtime.bundle.manifest import GraphEntry


_INT8 = (ir.DataType.INT8, ir.DataType.UINT8)
PASSING_ON = ("Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def cut_optimized(optimized: Path, graphs: Sequence[GraphEntry], folder: Path) -> list[Path]:
    """Returns the pieces of an optimised graph, written beside its data.

    Args:
        optimized: The whole, as ONNX Runtime wrote it.
        graphs: The manifest's graphs, in the order in which they run.
        folder: Where they are written: the folder of the whole's data.

    Returns:
        A file for each graph; none at all where what is handed over is not the same.
    """
    whole = onnx.load(str(optimized), load_external_data=False)
    model = ir.from_proto(_without_packed(whole))
    ends = {str(value.name) for value in model.graph.outputs}
    answers = [[spec.name for spec in graph.outputs if spec.name in ends] for graph in graphs]
    pieces = pieces_of(model.graph, answers)
    names = _names(pieces, graphs)
    if names is None:
        return []
    written = []
    for graph, piece in zip(graphs, pieces, strict=True):
        path = folder / f"{graph.name}.piece.onnx"
        path.write_bytes(_extracted(whole, piece, names).SerializeToString())
        written.append(path)
    return written


def cut_portable(file: Path, graphs: Sequence[GraphEntry], folder: Path) -> list[Path]:
    """Returns the pieces of a bundle's graph, each with a copy of its weights.

    Args:
        file: The whole.
        graphs: The manifest's graphs.
        folder: Where they are written, each into a folder of its own.
    """
    model = ir.load(file)
    written = []
    for graph in graphs:
        begins, ends = ((spec.name for spec in s) for s in (graph.inputs, graph.outputs))
        part = extracted(model, begins, ends)
        path = folder / graph.name / "cut.onnx"
        path.parent.mkdir()
        ir.save(part, path, external_data=f"{path.name}.data")
        written.append(path)
    return written


def _without_packed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy whose tensors lie nowhere: only what is computed of what is looked at."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value="nowhere")
    return copy


def _names(pieces: Sequence[Piece], graphs: Sequence[GraphEntry]) -> dict[str, str] | None:
    """Returns the manifest's name of each tensor that is handed over.

    What had that name gets the tensor's: ONNX Runtime gives it to a copy in another layout.
    None where the pieces do not hand over what the manifest says, one tensor for one.
    """
    found: dict[str, str] = {}
    for piece, graph in zip(pieces, graphs, strict=True):
        own = [str(value.name) for value in piece.inputs]
        said = [spec.name for spec in graph.inputs]
        left = [name for name in own if name not in said and name not in found]
        open_names = [n for n in said if n not in own and n not in found.values()]
        if len(left) != len(open_names) or len(left) > 1:
            return None
        found.update(zip(left, open_names, strict=True))
        if {found.get(name, name) for name in own} != set(said):
            return None
    return {**{said: name for name, said in found.items()}, **found}


def _extracted(
    whole: onnx.ModelProto, piece: Piece, names: Mapping[str, str]
) -> onnx.ModelProto:
    """Returns a piece as a model of its own, which refers to the data of the whole."""
    inside = {str(node.outputs[0].name) for node in piece.nodes}
    made = onnx.ModelProto()
    made.CopyFrom(whole)
    graph = made.graph
    for part in ("node", "initializer", "input", "output", "value_info"):
        graph.ClearField(part)
    graph.node.extend(node for node in whole.graph.node if node.output[0] in inside)
    read = {name for node in graph.node for name in _read(node)}
    graph.initializer.extend(t for t in whole.graph.initializer if t.name in read)
    known = {info.name: info for info in (*whole.graph.input, *whole.graph.output)}
    for value, infos in (
        *((value, graph.input) for value in piece.inputs),
        *((value, graph.output) for value in piece.outputs),
    ):
        name = str(value.name)
        if name in known:
            infos.append(known[name])
        else:  # its shape is that of a layout which ONNX does not know
            kind_of = onnx.helper.make_tensor_type_proto(int(_type(value)), None)
            infos.append(onnx.ValueInfoProto(name=names.get(name, name), type=kind_of))
    for node in graph.node:
        _rename(node, names)
    return made


def _type(value: ir.Value | None) -> ir.DataType:
    """Returns the type of a tensor of an optimised graph, which notes few."""
    producer = None if value is None else value.producer()
    if value is None or value.dtype is not None or producer is None:
        return (value and value.dtype) or ir.DataType.FLOAT
    if producer.op_type.startswith("QLinear") or producer.op_type == "QuantizeLinear":
        points = [
            each.dtype for each in producer.inputs if each is not None and not each.shape
        ]
        return next((t for t in reversed(points) if t in _INT8), ir.DataType.FLOAT)
    if producer.op_type in PASSING_ON:
        return _type(producer.inputs[0])
    return ir.DataType.FLOAT


def _read(node: onnx.NodeProto) -> list[str]:
    """Returns the names that a node reads, also from within its subgraphs."""
    inner = [
        name
        for attribute in node.attribute
        for graph in (attribute.g, *attribute.graphs)
        for one in graph.node
        for name in _read(one)
    ]
    return [*node.input, *inner]


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for values in (node.input, node.output):
        for place, name in enumerate(values):
            values[place] = names.get(name, name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for one in graph.node:
                _rename(one, names)

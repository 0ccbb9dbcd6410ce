"""Puts half precision into a graph, so that every tensor's type is written in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.index import MODULE_KEY, module_path
from skipc.compiler.graph.operands import operand
from skipc.compiler.graph.passes import RewritePass
from skipc.compiler.graph.passes.half_ops import ANY_FLOAT, HalfPolicy, is_float32, is_plain

if TYPE_CHECKING:
    from skipc.compiler.graph.passes.half_tensors import HalfTensors

_FLOAT = ir.DataType.FLOAT
_SUFFIX = {_FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}


class CastPrecisionPass(RewritePass):
    """Rewrites a float32 graph so that it computes in half precision outside of islands.

    Inputs and outputs keep their names and types. What was not float32 stays as it is, and
    so do the bodies of ``If``, ``Loop`` and ``Scan`` and operators that ONNX does not have.
    A ``SupernetError`` is raised where the type of a value is unknown.
    """

    def __init__(self, tensors: HalfTensors) -> None:
        super().__init__()
        self._tensors = tensors
        self._half = tensors.dtype

    def rewrite(self, model: ir.Model) -> None:
        """Casts weights, sets types, and inserts Casts where they change."""
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        self._graph = graph = model.graph
        _drop_idle_casts(graph)
        self._policy = HalfPolicy(self._tensors, graph.opset_imports.get("", 1))
        values = [*graph.inputs, *graph.initializers.values()]
        for node in graph:
            values += node.outputs
        _check_types(values)
        self._names = {str(value.name) for value in values}
        self._float = [value for value in values if is_float32(value)]
        self._forms: dict[tuple[ir.Value, ir.DataType], ir.Value] = {
            (value, _FLOAT): value for value in self._float
        }
        if not self._float:
            return
        self._was_float = set(self._float)
        for node in list(graph):
            self._node(node)
        self._widen_captured()
        self._widen_outputs()
        common.RemoveUnusedNodesPass()(model)

    def _node(self, node: ir.Node) -> None:
        operands = [i for i, value in enumerate(node.inputs) if value in self._was_float]
        if _narrows(node) or (node.op_type in ANY_FLOAT and is_plain(node)):
            self._read_as_is(node, operands)
            return
        if _widens(node) or not self._policy.computes_in_half(node, operands):
            for place in operands:
                self._read(node, place, _FLOAT)
            return
        for place in operands:
            half = self._policy.operand_in_half(node, place)
            self._read(node, place, self._half if half else _FLOAT)
        for place, value in enumerate(node.outputs):
            if value in self._was_float and self._policy.takes(node, place, "outputs"):
                # Clones of a graph share their type objects: a new one, not another dtype.
                value.type = ir.TensorType(self._half)
                del self._forms[value, _FLOAT]
                self._forms[value, self._half] = value
        if node.op_type == "ConstantOfShape":
            self._cast_filling(node)

    def _cast_filling(self, node: ir.Node) -> None:
        name = str(node.outputs[0].name)
        filling = node.attributes.get("value")
        wide = filling.as_tensor() if filling is not None else ir.tensor([0.0], _FLOAT)
        narrow = self._tensors.cast(wide, name)
        assert narrow is not None
        node.attributes["value"] = ir.AttrTensor("value", narrow)

    def _read_as_is(self, node: ir.Node, operands: list[int]) -> None:
        if self._policy.takes(node, 0, "inputs"):
            return
        for place in operands:
            if (operand(node, place), _FLOAT) not in self._forms:
                self._read(node, place, _FLOAT)

    def _read(self, node: ir.Node, place: int, dtype: ir.DataType) -> None:
        node.replace_input_with(place, self._form(operand(node, place), dtype))

    def _form(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Returns ``value`` in a type: itself, a cast tensor, or what a Cast returns."""
        if (value, dtype) not in self._forms:
            tensor = value.const_value
            self._forms[value, dtype] = (
                self._cast(value, dtype) if tensor is None else self._constant(value, tensor)
            )
        return self._forms[value, dtype]

    def _constant(self, value: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
        narrow = self._tensors.cast(tensor, str(value.name))
        assert narrow is not None
        cast = ir.Value(
            name=self._name(value, self._half),
            shape=value.shape,
            type=ir.TensorType(self._half),
            const_value=narrow,
        )
        self._graph.register_initializer(cast)
        return cast

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        producer = value.producer()
        source = value
        if producer is not None and _widens(producer):
            # From where the number comes, so that no Cast follows another.
            origin = operand(producer, 0)
            if origin.dtype == dtype:
                return origin
            source = origin
        name = self._name(value, dtype)
        result = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype))
        cast = ir.node(
            "Cast", [source], {"to": int(dtype)}, outputs=[result], name=f"{name}.cast"
        )
        if producer is None:
            self._graph.insert_before(self._graph[0], cast)
        else:
            path = module_path(producer)
            if path:
                cast.metadata_props[MODULE_KEY] = path
            self._graph.insert_after(producer, cast)
        return result

    def _name(self, value: ir.Value, dtype: ir.DataType) -> str:
        name = f"{value.name}.{_SUFFIX[dtype]}"
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _widen_captured(self) -> None:
        """Gives the bodies of subgraphs, which stay float32, what they read from outside."""
        for value in self._float:
            if (value, _FLOAT) in self._forms:
                continue
            for user, place in list(value.uses()):
                if user.graph is not self._graph:
                    self._read(user, place, _FLOAT)

    def _widen_outputs(self) -> None:
        for place, value in enumerate(list(self._graph.outputs)):
            if value not in self._was_float or value.dtype == _FLOAT:
                continue
            name = str(value.name)
            wide = self._form(value, _FLOAT)
            value.name = self._name(value, self._half)
            wide.name = name
            self._graph.outputs[place] = wide


def _narrows(node: ir.Node) -> bool:
    """Tells whether ``node`` is a Cast from float32."""
    return node.op_type == "Cast" and is_plain(node) and not is_float32(node.outputs[0])


def _widens(node: ir.Node) -> bool:
    """Tells whether ``node`` is a Cast to float32, from numbers of another type."""
    return (
        node.op_type == "Cast"
        and is_plain(node)
        and is_float32(node.outputs[0])
        and node.attributes.get_int("to", 0) == int(_FLOAT)
    )


def _drop_idle_casts(graph: ir.Graph) -> None:
    """Removes Casts from float32 to float32: in half precision they would be two."""
    for node in list(graph):
        if not _widens(node) or node.outputs[0].is_graph_output():
            continue
        source = node.inputs[0]
        if source is not None and is_float32(source):
            node.outputs[0].replace_all_uses_with(source)
            graph.remove(node, safe=True)


def _check_types(values: list[ir.Value]) -> None:
    for value in values:
        if value.name and value.type is None:
            node = value.producer()
            what = "an input" if node is None else f"computed by {node.op_type}"
            raise SupernetError(
                f"--precision: the type of {value.name!r} ({what}) is unknown, so it is not"
                " known what to cast. Run onnx.shape_inference on the file, or leave"
                " --precision out."
            )

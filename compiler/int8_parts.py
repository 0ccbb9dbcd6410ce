"""Graphs that are quantised in part, to find out what it costs for which layers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.graph.int8_layers import (
    integer_nodes,
    layer_name,
    rounded_layers,
    staying,
)
from skipc.compiler.graph.passes.quantize import read_unrounded
from skipc.compiler.verify.sessions import GraphRunner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.verify.numerics import Case

_NOISE_CASES = 4


def restored(model: ir.Model, int8: ir.Model, floating: Sequence[str]) -> ir.Model:
    """Returns a quantised graph with some layers in float32 again.

    It computes what quantising all but these layers gives, without rounding weights anew.

    Args:
        model: The network's graph in float32.
        int8: The same quantised, with all activations that rounding makes needless.
        floating: Names of layers, or modules that hold several.
    """
    made = int8.clone()
    graph, always, stay = made.graph, staying(model.graph, ()), staying(model.graph, floating)
    values = {str(value.name): value for value in graph.inputs}
    values |= {str(value.name): value for node in graph for value in node.outputs}
    for node in model.graph:
        if node not in stay - always:
            continue
        result = values[str(node.outputs[0].name)]
        old = result.producer()
        assert old is not None
        read: list[ir.Value | None] = []
        for place, value in enumerate(node.inputs):
            if value is None:
                read.append(None)
            elif value.const_value is not None:
                own = f"{value.name}.float.{result.name}"
                weights = ir.val(own, const_value=value.const_value)
                graph.register_initializer(weights)
                read.append(weights)
            else:
                same = old.op_type == node.op_type
                read.append(old.inputs[place] if same else values[str(value.name)])
        copy = ir.Node(node.domain, node.op_type, read, node.attributes.values())
        copy.name = f"{node.name}.float"
        new, name = copy.outputs[0], str(result.name)
        new.type, new.shape = result.type, result.shape
        graph.insert_after(old, copy)
        result.replace_all_uses_with(new, replace_graph_outputs=True)
        result.name, new.name = f"{name}.int8", name
        values[name] = new
    read_unrounded(graph, integer_nodes(model.graph, floating))
    ir.passes.common.RemoveUnusedNodesPass()(made)
    return made


def by_noise(model: ir.Model, int8: ir.Model, cases: Sequence[Case]) -> list[str]:
    """Returns the names of layers by how much int8 changes their results, the most first.

    Args:
        model: The network's graph in float32.
        int8: The same quantised, with all activations that rounding makes needless.
        cases: What to run on; a few are taken.
    """
    nodes = rounded_layers(model.graph)
    noise = layer_noise(model, int8, nodes, cases[:_NOISE_CASES])
    worst: dict[str, float] = {}
    for node, found in zip(nodes, noise, strict=True):
        worst[layer_name(node)] = max(found, worst.get(layer_name(node), 0.0))
    return sorted(worst, key=lambda name: -worst[name])


def layer_noise(
    model: ir.Model, int8: ir.Model, nodes: Sequence[ir.Node], cases: Sequence[Case]
) -> list[float]:
    """Returns how much int8 changes what layers make of float inputs: noise over signal.

    Both are sums of squares over all cases. What goes into a layer is float32's, so that each
    answers for itself alone.

    Args:
        model: The network's graph in float32.
        int8: The same quantised, with all activations that rounding makes needless.
        nodes: Layers of ``model``.
        cases: What to run on.
    """
    beside = _Beside(model, int8)
    for node in nodes:
        beside.compare(node)
    with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
        path = Path(folder) / "beside.onnx"
        ir.save(beside.model, path, external_data="beside.data")
        runner = GraphRunner(path)
        ran = [runner.run(case) for case in cases]
    sums = np.array([[float(one[name]) for name in runner.outputs] for one in ran]).sum(0)
    noise, signal = sums[0::2], sums[1::2]
    return [float(each) for each in noise / np.maximum(signal, np.finfo(float).tiny)]


class _Beside:
    """A float graph with quantised layers beside it, which read what it computes."""

    def __init__(self, model: ir.Model, int8: ir.Model) -> None:
        self.model = model.clone()
        graph = self._graph = self.model.graph
        graph.outputs.clear()
        for domain, version in int8.graph.opset_imports.items():
            graph.opset_imports.setdefault(domain, version)
        self._float: dict[str, ir.Value] = {str(v.name): v for v in graph.inputs}
        self._float |= {str(v.name): v for node in graph for v in node.outputs}
        self._int8 = {str(v.name): v for node in int8.graph for v in node.outputs}
        self._made: dict[ir.Value, ir.Value] = {}

    def compare(self, node: ir.Node) -> None:
        """Adds the noise and the signal of a layer's result to the graph's outputs."""
        name = str(node.outputs[0].name)
        exact = self._float[name]
        producer = self._int8[name].producer()
        assert producer is not None
        apart = self._add("Sub", [self._copied(producer)[0], exact])
        for value in (apart, exact):
            self._graph.outputs.append(self._add("ReduceSumSquare", [value], keepdims=0))

    def _read(self, value: ir.Value | None) -> ir.Value | None:
        """Returns what stands for a value of the quantised graph: float32's, or a copy."""
        if value is None:
            return None
        known = self._float.get(str(value.name))
        if known is not None:
            return known
        producer = value.producer()
        if value not in self._made and producer is not None:
            self._made |= zip(producer.outputs, self._copied(producer), strict=True)
        elif value not in self._made:
            assert value.const_value is not None
            copy = ir.val(f"{value.name}.int8", const_value=value.const_value)
            self._graph.register_initializer(copy)
            self._made[value] = copy
        return self._made[value]

    def _copied(self, node: ir.Node) -> list[ir.Value]:
        copy = ir.Node(
            node.domain,
            node.op_type,
            [self._read(value) for value in node.inputs],
            node.attributes.values(),
            num_outputs=len(node.outputs),
        )
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name, new.type = f"{old.name}.int8", old.type
        self._graph.append(copy)
        return list(copy.outputs)

    def _add(self, operator: str, values: Sequence[ir.Value], **attributes: int) -> ir.Value:
        node = ir.node(operator, values, attributes)
        (result,) = node.outputs
        result.name = f"{values[0].name}.{operator}{len(self._graph.outputs)}"
        result.type = ir.TensorType(ir.DataType.FLOAT)
        self._graph.append(node)
        return result

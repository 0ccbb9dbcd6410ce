"""Reading an ``onnx_ir`` graph: module paths, constants, ancestors, what is needed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from skipc.compiler.cut import Cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx_ir as ir

MODULE_KEY = "skipc.module"
"""Metadata key under which a node of a graph that skipc wrote carries its module path."""

WEIGHTED_OPS = frozenset(
    {
        "Attention", "Conv", "ConvInteger", "ConvTranspose", "DFT", "DeformConv", "Einsum",
        "GRU", "Gemm", "LSTM", "MatMul", "MatMulInteger", "MultiHeadAttention", "QLinearConv",
        "QLinearMatMul", "RNN",
    }
)  # fmt: skip
"""Operators that mix data over channels or positions with many multiplications."""

POOLING_OPS = frozenset({"AveragePool", "LpPool", "MaxPool"})

ACTIVATION_OPS = frozenset(
    {
        "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
        "LogSoftmax", "Mish", "PRelu", "Relu", "Selu", "Sigmoid", "Softmax", "Softplus",
        "Softsign", "Swish", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip


def module_path(node: ir.Node) -> str:
    """Returns the path of the module that ``node`` was exported from, "" for the root.

    Read from what skipc or torch's exporter recorded, else from the scoped node names that
    torch's older exporter wrote (``/layer1/layer1.0/Add``).
    """
    metadata = node.metadata_props
    if MODULE_KEY in metadata:
        return metadata[MODULE_KEY]
    scopes = metadata.get("pkg.torch.onnx.name_scopes")
    if scopes:
        names = ast.literal_eval(scopes)
        # The last scope is the operator's own name.
        return str(names[-2]) if len(names) > 1 else ""
    return _path_from_node_name(node.name or "")


def _path_from_node_name(name: str) -> str:
    parts = [part for part in name.split("/")[:-1] if part]
    path: list[str] = []
    for part in parts:
        # A child of a container repeats the container's name: layer1, then layer1.0.
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)


def common_module(paths: Iterable[str]) -> str:
    """Returns the innermost module that holds all ``paths``, "" for the root."""
    split = [path.split(".") if path else [] for path in paths]
    if not split:
        return ""
    shared: list[str] = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def is_inside(path: str, module: str) -> bool:
    """Tells whether ``path`` is ``module`` or lies below it; the root holds everything."""
    return not module or path == module or path.startswith(f"{module}.")


def structure(model: ir.Model) -> frozenset[str]:
    """Returns what is the same for two graphs of one network that compute the same."""
    return frozenset(
        " ".join([node.op_type, *(str(v and v.name) for v in (*node.inputs, *node.outputs))])
        for node in model.graph.all_nodes()
    )


def node_inputs(node: ir.Node, cut: int | None = None) -> Iterator[ir.Value]:
    """Yields every value that ``node`` reads, also from within its subgraphs.

    Args:
        node: The node.
        cut: The operand that is left out; None for none.
    """
    for operand, value in enumerate(node.inputs):
        if value is not None and operand != cut:
            yield value
    for attribute in node.attributes.values():
        for graph in _subgraphs(attribute):
            for inner in graph.all_nodes():
                for value in inner.inputs:
                    if value is not None and value.graph is not inner.graph:
                        yield value


def live_nodes(graph: ir.Graph, cuts: Iterable[Cut]) -> set[ir.Node]:
    """Returns the nodes that the outputs of ``graph`` still need once operands are cut."""
    operands = dict(cuts)
    live: set[ir.Node] = set()
    pending = [value.producer() for value in graph.outputs]
    while pending:
        node = pending.pop()
        if node is not None and node not in live:
            live.add(node)
            cut = operands.get(str(node.outputs[0].name))
            pending.extend(value.producer() for value in node_inputs(node, cut))
    return live


def _subgraphs(attribute: ir.Attr) -> list[ir.Graph]:
    import onnx_ir as ir

    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    if attribute.type == ir.AttributeType.GRAPHS:
        return list(attribute.as_graphs())
    return []


class GraphIndex:
    """The nodes of a graph in order, with what depends on what.

    Sets of nodes are integers used as bit sets: bit ``i`` is node ``i``; the graph's inputs
    have the bits below the nodes'. Values that no input reaches are constant.

    Args:
        graph: A topologically sorted graph; it must not change while the index is used.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.nodes: tuple[ir.Node, ...] = tuple(graph)
        self.offset = len(graph.inputs)
        self._bit = {id(value): i for i, value in enumerate(graph.inputs)}
        self._position = {id(node): i + self.offset for i, node in enumerate(self.nodes)}
        self._ancestors: dict[int, int] = {
            id(value): 1 << i for i, value in enumerate(graph.inputs)
        }
        for node in self.nodes:
            reached = 0
            for value in node_inputs(node):
                reached |= self._ancestors.get(id(value), 0)
            if reached:
                reached |= 1 << self._position[id(node)]
            for output in node.outputs:
                self._ancestors[id(output)] = reached

    def is_constant(self, value: ir.Value) -> bool:
        """Tells whether ``value`` is the same for every input of the network."""
        return self._ancestors.get(id(value), 0) == 0

    def ancestors(self, value: ir.Value) -> int:
        """Returns what ``value`` is computed from, its own producer included."""
        return self._ancestors.get(id(value), 0)

    def bit(self, value: ir.Value) -> int:
        """Returns the bit of the node (or input) that ``value`` comes from."""
        producer = value.producer()
        if producer is None:
            return 1 << self._bit[id(value)] if id(value) in self._bit else 0
        return 1 << self._position[id(producer)]

    def between(self, start: ir.Value, end: ir.Value) -> int:
        """Returns the nodes on any path from ``start`` to ``end``, ``end``'s included."""
        start_bit = self.bit(start)
        found = 0
        for node in self.members(self.ancestors(end)):
            own = self.bit(node.outputs[0])
            if own != start_bit and self._ancestors[id(node.outputs[0])] & start_bit:
                found |= own
        return found

    def members(self, bits: int) -> list[ir.Node]:
        """Returns the nodes in ``bits``, in order; inputs are left out."""
        bits >>= self.offset
        found = []
        while bits:
            low = bits & -bits
            found.append(self.nodes[low.bit_length() - 1])
            bits ^= low
        return found

    def only_for(self, node: ir.Node, operand: int) -> int:
        """Returns the nodes that nothing needs any more once ``node`` drops ``operand``."""
        value = node.inputs[operand]
        assert value is not None
        live = live_nodes(self.graph, [Cut(str(node.outputs[0].name), operand)])
        before = self.members(self.ancestors(value))
        return sum(self.bit(each.outputs[0]) for each in before if each not in live)

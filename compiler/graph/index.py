"""Reading an ``onnx_ir`` graph: module paths, constants, ancestors, what is needed."""

from __future__ import annotations

import ast
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING

from skipc.compiler.cut import operands_by_node

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    import onnx_ir as ir

    from skipc.compiler.cut import Cut

MODULE_KEY = "skipc.module"
"""Metadata key under which a node of a graph that skipc wrote carries its module path."""

CALLS_KEY = "skipc.calls"
"""The same as the modules were called: ``stages.0.1/conv`` where ``stages`` is a list."""

STREAM_KEY = "skipc.stream"
"""Marks an addition whose constant operand is what the other one is computed from."""

WEIGHTED_OPS = frozenset(
    {
        "Attention", "Conv", "ConvInteger", "ConvTranspose", "DFT", "DeformConv", "Einsum",
        "GRU", "Gemm", "LSTM", "MatMul", "MatMulInteger", "MultiHeadAttention", "QLinearConv",
        "QLinearMatMul", "RNN",
    }
)  # fmt: skip
"""Operators that mix data over channels or positions with many multiplications."""

WORKING_OPS = WEIGHTED_OPS | {"AveragePool", "LpPool", "MaxPool"}
"""Those, and pooling: what makes skipping worth it."""

ACTIVATION_OPS = frozenset(
    {
        "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
        "LogSoftmax", "Mish", "PRelu", "Relu", "Selu", "Sigmoid", "Softmax", "Softplus",
        "Softsign", "Swish", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip


def module_path(node: ir.Node) -> str:
    """Returns the path of the module that ``node`` was exported from, "" for the root."""
    if MODULE_KEY in node.metadata_props:
        return node.metadata_props[MODULE_KEY]
    calls = module_calls(node)
    return calls[-1] if calls else ""


def module_calls(node: ir.Node) -> tuple[str, ...]:
    """Returns the paths of the modules whose calls led to ``node``, the outermost first.

    A container that is only looped over is none of them. Read from what skipc or torch's
    exporter recorded, else from the scoped node names that torch's older exporter wrote
    (``/layer1/layer1.0/Add``).
    """
    metadata = node.metadata_props
    if CALLS_KEY in metadata:
        return tuple(accumulate(metadata[CALLS_KEY].split("/"), "{}.{}".format))
    if MODULE_KEY in metadata:
        return tuple(accumulate(metadata[MODULE_KEY].split("."), "{}.{}".format))
    scopes = metadata.get("pkg.torch.onnx.name_scopes")
    if scopes:
        # The first scope is the root, the last one the operator's own name.
        return tuple(str(name) for name in ast.literal_eval(scopes)[1:-1])
    calls: list[list[str]] = []
    for part in filter(None, (node.name or "").split("/")[:-1]):
        # A child of a container repeats the container's name: layer1, then layer1.0.
        before = calls[-1] if calls else []
        repeated = bool(before) and part.startswith(f"{before[-1]}.")
        calls.append([*(before[:-1] if repeated else before), part])
    return tuple(".".join(parts) for parts in calls)


def common_calls(chains: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the calls with which all ``chains`` begin."""
    shared = []
    for calls in zip(*chains, strict=False):
        if len(set(calls)) > 1:
            break
        shared.append(calls[0])
    return tuple(shared)


def numbered(names: Sequence[str]) -> list[str]:
    """Returns ``names`` with ``#1``, ``#2`` ... behind those that occur more than once."""
    counts = Counter(names)
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name}#{seen[name]}" if counts[name] > 1 else name)
    return unique


def is_inside(path: str, module: str) -> bool:
    """Tells whether ``path`` is ``module`` or lies below it; the root holds everything."""
    return not module or path == module or path.startswith(f"{module}.")


SIZE_OPS = frozenset({"EyeLike", "Shape", "Size"})
"""Operators that look at nothing of their operand but its size."""


def structure(model: ir.Model) -> frozenset[str]:
    """Returns what is the same for two graphs of one network that compute the same."""
    return frozenset(
        " ".join([node.op_type, *(str(v and v.name) for v in (*node.inputs, *node.outputs))])
        for node in model.graph.all_nodes()
    )


def node_inputs(node: ir.Node, cut: Collection[int] = ()) -> Iterator[ir.Value]:
    """Yields every value that ``node`` reads, its subgraphs too, but for operands ``cut``."""
    for operand, value in enumerate(node.inputs):
        if value is not None and operand not in cut:
            yield value
    for inner in inner_nodes(node):
        for value in inner.inputs:
            if value is not None and value.graph is not inner.graph:
                yield value


def inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    """Yields the nodes of a node's subgraphs."""
    import onnx_ir as ir

    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from attribute.as_graph().all_nodes()
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from graph.all_nodes()


def live_nodes(graph: ir.Graph, cuts: Iterable[Cut]) -> set[ir.Node]:
    """Returns the nodes that the outputs of ``graph`` still need once operands are cut."""
    operands = operands_by_node(cuts)
    live: set[ir.Node] = set()
    pending = [value.producer() for value in graph.outputs]
    while pending:
        node = pending.pop()
        if node is not None and node not in live:
            live.add(node)
            cut = operands.get(str(node.outputs[0].name), ())
            pending.extend(value.producer() for value in node_inputs(node, cut))
    return live


def constant_outputs(graph: ir.Graph, cuts: Iterable[Cut] = ()) -> list[ir.Value]:
    """Returns the outputs that no input's content reaches once operands are cut."""
    operands = operands_by_node(cuts)
    reached = set(graph.inputs)
    for node in graph:
        cut = operands.get(str(node.outputs[0].name), ())
        if node.op_type not in SIZE_OPS and not reached.isdisjoint(node_inputs(node, cut)):
            reached.update(node.outputs)
    return [value for value in graph.outputs if value not in reached]


class GraphIndex:
    """The nodes of a topologically sorted graph in order, with what depends on what.

    Sets of nodes are integers used as bit sets: bit ``i`` is node ``i``; the graph's inputs
    have the bits below the nodes'. Values that no input's content reaches are constant: so is
    what depends on an input's size alone. The graph must not change meanwhile.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.nodes: tuple[ir.Node, ...] = tuple(graph)
        self._offset = len(graph.inputs)
        self._bit = {id(value): 1 << i for i, value in enumerate(graph.inputs)}
        self._ancestors = dict(self._bit)
        self._nodes = {str(node.outputs[0].name): node for node in self.nodes}
        self._owner: dict[ir.Node, ir.Node] = {}
        for position, node in enumerate(self.nodes, self._offset):
            self._owner.update(dict.fromkeys(inner_nodes(node), node))
            reached = 0
            if node.op_type not in SIZE_OPS:
                for value in node_inputs(node):
                    reached |= self._ancestors.get(id(value), 0)
            if reached:
                reached |= 1 << position
            for output in node.outputs:
                self._ancestors[id(output)] = reached
                self._bit[id(output)] = 1 << position

    def is_constant(self, value: ir.Value) -> bool:
        """Tells whether ``value`` is the same for all inputs of the same sizes."""
        return self.ancestors(value) == 0

    def ancestors(self, value: ir.Value) -> int:
        """Returns what ``value`` is computed from, its own producer included."""
        return self._ancestors.get(id(value), 0)

    def bit(self, value: ir.Value) -> int:
        """Returns the bit of the node (or input) that ``value`` comes from."""
        return self._bit.get(id(value), 0)

    def reads(self, value: ir.Value, start: ir.Value) -> bool:
        """Tells whether ``value`` is computed from ``start``, which may be constant."""
        if not self.is_constant(start):
            return bool(self.bit(start) & self.ancestors(value))
        pending, seen = [start], {id(start)}
        while pending:
            for user in pending.pop().consumers():
                outputs = [each for each in user.outputs if id(each) not in seen]
                if any(each is value for each in outputs):
                    return True
                seen.update(map(id, outputs))
                pending += outputs
        return False

    def between(self, start: ir.Value, end: ir.Value) -> list[ir.Node]:
        """Returns the nodes on any path from ``start`` to ``end``, ``end``'s included."""
        start_bit = self.bit(start)
        return [
            node
            for node in self.members(self.ancestors(end) & ~start_bit)
            if self._ancestors[id(node.outputs[0])] & start_bit
        ]

    def members(self, bits: int) -> list[ir.Node]:
        """Returns the nodes in ``bits``, in order; inputs are left out."""
        bits >>= self._offset
        found = []
        while bits:
            low = bits & -bits
            found.append(self.nodes[low.bit_length() - 1])
            bits ^= low
        return found

    def only_for(self, cuts: Collection[Cut]) -> tuple[ir.Node, ...]:
        """Returns the nodes that nothing needs any more once operands are cut, in order."""
        operands = operands_by_node(cuts)
        gone: set[ir.Node] = set()

        def is_gone(user: ir.Node, operand: int) -> bool:
            owner = self._owner.get(user, user)
            return owner in gone or operand in operands.get(str(user.outputs[0].name), ())

        pending = [self._nodes[cut.node].inputs[cut.operand] for cut in cuts]
        while pending:
            value = pending.pop()
            node = None if value is None else value.producer()
            if node is None or node in gone:
                continue
            if all(
                not output.is_graph_output() and all(is_gone(*use) for use in output.uses())
                for output in node.outputs
            ):
                gone.add(node)
                pending.extend(node_inputs(node))
        return tuple(node for node in self.nodes if node in gone)

"""Which nodes of a graph int8 may compute, and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.graph.costs import node_macs
from skipc.compiler.graph.index import is_inside, module_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BETWEEN = (
    *("Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "LeakyRelu", "MaxPool"),
    *("Mul", "Relu", "Sigmoid"),
)
"""What stays in int8 between convolutions. Between matrix products there are norms and a
softmax, which stay float32, and a residual stream, whose few large values spoil the others."""
UNROUNDED = frozenset({"MatMul"})
"""Products that an addition follows: rounded, a sentence encoder's embeddings turn by a cosine
of 0.93 instead of 0.99."""
_ANSWERING = (
    *("Add", "Flatten", "Gemm", "GlobalAveragePool", "LogSoftmax", "MatMul", "ReduceMean"),
    *("Reshape", "Softmax", "Squeeze"),
)
"""What makes a classifier's answer of features. It stays float32: it costs little, and what is
rounded there changes answers."""


def layer_name(node: ir.Node) -> str:
    """Returns what a layer is called: its module's path, else what it computes."""
    return module_path(node) or str(node.outputs[0].name)


def layers_of(graph: ir.Graph) -> list[ir.Node]:
    """Returns the layers with weights: convolutions and matrix products."""
    odd = _odd(graph)
    return [node for node in graph if node.op_type in PRODUCTS and node not in odd]


def mostly_convolutions(graph: ir.Graph) -> bool:
    """Tells whether most of the arithmetic is convolutions', not matrix products'."""
    convolutions = [node for node in graph if "Conv" in node.op_type]
    macs = sum(map(node_macs, convolutions))
    return bool(convolutions) and 2 * macs >= sum(map(node_macs, graph))


def quantised_operators(graph: ir.Graph) -> tuple[str, ...]:
    """Returns the operators that are quantised: what most of the arithmetic is decides."""
    return (*PRODUCTS, *BETWEEN) if mostly_convolutions(graph) else PRODUCTS


def integer_nodes(graph: ir.Graph, floating: Sequence[str]) -> frozenset[str]:
    """Returns the names of the nodes that are quantised; see ``staying``."""
    kinds, stay = quantised_operators(graph), staying(graph, floating)
    return frozenset(
        str(node.name) for node in graph if node.op_type in kinds and node not in stay
    )


def rounded_layers(graph: ir.Graph) -> list[ir.Node]:
    """Returns the layers that int8 rounds where none is named to stay float32."""
    always = staying(graph, ())
    return [node for node in layers_of(graph) if node not in always]


def staying(graph: ir.Graph, floating: Sequence[str]) -> set[ir.Node]:
    """Returns the nodes that stay float32.

    These are layers without weights of their own, what answers, and the layers that are named,
    with what reads nothing but them.

    Args:
        graph: The graph.
        floating: Names of layers, or modules that hold several.
    """
    named = {
        node
        for node in graph
        if any(is_inside(layer_name(node), name) for name in floating if name)
    }
    for node in graph:
        made = [v.producer() for v in node.inputs if v is not None and v.const_value is None]
        if node.op_type in BETWEEN and made and named.issuperset(made):
            named.add(node)
    return {*named, *_odd(graph), *_answering(graph)}


def _answering(graph: ir.Graph) -> set[ir.Node]:
    """Returns the last layers before the outputs, and the means that they are computed of."""
    found: set[ir.Node] = set()
    reached = list(graph.outputs)
    while reached:
        node = reached.pop().producer()
        if node is None or node in found or node.op_type not in _ANSWERING:
            continue
        read = [v for v in node.inputs if v is not None and v.const_value is None]
        if len(read) == 1:  # no sum of two branches, no product of two results
            found.add(node)
            reached += read
    return found


def _odd(graph: ir.Graph) -> set[ir.Node]:
    """Returns products without weights, or whose weights ONNX Runtime scales by no channels.

    Those stand on the left, or are a batch of matrices. So are those that resize images.
    """
    found = set()
    for node in graph:
        if node.op_type == "MatMul":
            left, right = (None if v is None else v.const_value for v in node.inputs)
            odd = left is not None or right is None or len(right.shape) > 2
            if odd or str(node.outputs[0].name).endswith(".resize"):
                found.add(node)
    return found

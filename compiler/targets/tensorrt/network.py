"""A subnet's graph as a TensorRT network: parsed from its file, strongly typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import TargetError

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.backends.tensorrt.library import Library
    from skipc.runtime.bundle.tensors import BatchRange

_MAX_NAMED = 3


@dataclass(frozen=True)
class Network:
    """A parsed network.

    Attributes:
        definition: The ``INetworkDefinition``.
        builder: The ``Builder`` it belongs to.
        parser: Its parser, which holds the weights until the network is built.
    """

    definition: Any
    builder: Any
    parser: Any


def parse(library: Library, name: str, graph: Path) -> Network:
    """Returns the network of ``graph``, whose weights are read from the store beside it.

    Types come from the graph alone: precision is decided before pruning (``--precision``).

    Raises:
        TargetError: The parser refuses a node, or cannot read the weights.
    """
    trt = library.module
    with library.listening() as heard:
        builder = trt.Builder(library.logger)
        definition = builder.create_network(_strongly_typed(trt))
        parser = trt.OnnxParser(definition, library.logger)
        if parser.parse_from_file(str(graph)):
            return Network(definition, builder, parser)
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        said = "; ".join(dict.fromkeys(_error_text(error) for error in errors[:_MAX_NAMED]))
        raise TargetError(
            f"graph {name!r}: {library.backend} {library.version} does not take"
            f" {graph.name}: {said or heard.text()}. {heard.text()}"
        )


def batch_profile(network: Network, batch: BatchRange | None) -> Any | None:
    """Returns the optimisation profile for a dynamic batch; None where shapes are fixed."""
    inputs = [
        network.definition.get_input(index) for index in range(network.definition.num_inputs)
    ]
    if batch is None or not any(-1 in tuple(tensor.shape) for tensor in inputs):
        return None
    profile = network.builder.create_optimization_profile()
    for tensor in inputs:
        sizes = [
            tuple(size if dim == -1 else dim for dim in tuple(tensor.shape))
            for size in (batch.minimum, batch.typical, batch.maximum)
        ]
        profile.set_shape(tensor.name, *sizes)
    return profile


def _strongly_typed(trt: Any) -> int:
    """Returns the creation flags: before TensorRT 11 strong typing had to be asked for."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _error_text(error: Any) -> str:
    node, operator = error.node_name(), error.node_operator()
    where = f"node {node!r} ({operator}): " if node or operator else ""
    return where + " ".join(error.desc().split()).rstrip(".")

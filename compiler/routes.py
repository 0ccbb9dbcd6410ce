"""How a configuration runs: one graph, or the pieces of one with a test after each answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.pieces import pieces_of
from skipc.runtime.bundle.route import Stage, Test
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.call.tests import goes_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from skipc.compiler.front import Configuration
    from skipc.compiler.graph.pieces import Piece
    from skipc.compiler.network import Network
    from skipc.compiler.verify.numerics import Case


@dataclass(frozen=True, slots=True)
class GraphPart:
    """A graph of a route: a whole file, or a piece of it.

    Attributes:
        name: The graph's name.
        inputs: The tensors where it begins.
        outputs: The tensors where it ends.
        piece: Its part of the file's graph; None for all of it.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    piece: Piece | None


@dataclass(frozen=True, slots=True)
class Route:
    """How a configuration runs.

    Attributes:
        graphs: Its graphs.
        stages: Its stages, one for each graph.
    """

    graphs: tuple[GraphPart, ...]
    stages: tuple[Stage, ...]


def route_of(configuration: Configuration, network: Network) -> Route:
    """Returns how a configuration of one network runs.

    Args:
        configuration: What the front says.
        network: Its network.

    Raises:
        SupernetError: The size of a tensor between two stages is not known.
    """
    name = configuration.name
    if len(network.answers) == 1:
        part = GraphPart(name, network.inputs, network.outputs, None)
        return Route((part,), (Stage(name),))
    pieces = pieces_of(network.model.graph, [each.values() for each in network.answers])
    known = {spec.name: spec for spec in network.inputs}
    made: dict[str, int] = {}
    graphs, stages = [], []
    for number, (piece, answers) in enumerate(zip(pieces, network.answers, strict=True)):
        graph = GraphPart(
            f"{name}.{number}",
            tuple(_spec(value, known, network) for value in piece.inputs),
            tuple(_spec(value, known, network) for value in piece.outputs),
            piece,
        )
        graphs.append(graph)
        feeds = {
            spec.name: f"{made[spec.name]}.{spec.name}"
            for spec in graph.inputs
            if spec.name in made
        }
        own = {output: given for output, given in answers.items() if given != output}
        test = None
        if number < len(configuration.tests):
            said = configuration.tests[number]
            (head,) = (h for h in network.heads if h.name == network.exits[number].name)
            output = answers[network.outputs[0].name]
            temperature = said.temperature or head.temperature
            test = Test(output, said.scores, said.threshold, temperature)
        stages.append(Stage(graph.name, feeds, {}, own, test))
        made |= {spec.name: number for spec in graph.outputs}
    return Route(tuple(graphs), tuple(stages))


def stops_of(route: Sequence[Stage], cases: Sequence[Case]) -> tuple[float, ...]:
    """Returns the share of rows that each stage of a chain answers.

    Args:
        route: The stages, each of which goes on to the next.
        cases: The outputs of all graphs, case by case.
    """
    counts = np.zeros(len(route))
    for case in cases:
        stopped: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
        for number, stage in enumerate(route):
            if stage.test is None:
                rows = np.ones(len(next(iter(case.values()))), bool)
            else:
                rows = goes_to(stage.test, number, case[stage.test.output]) == number
            here = rows if stopped is None else rows & ~stopped
            stopped = here if stopped is None else stopped | here
            counts[number] += here.sum()
    return tuple(float(share) for share in counts / counts.sum())


def _spec(value: ir.Value, known: Mapping[str, TensorSpec], network: Network) -> TensorSpec:
    """Returns a tensor's type and shape, as the manifest has them."""
    name = str(value.name)
    if name in known:
        return known[name]
    sizes = [size if isinstance(size, int) else str(size) for size in value.shape or ()]
    batch = {size for spec in network.inputs for size in spec.shape if isinstance(size, str)}
    if (
        value.shape is None
        or value.dtype is None
        or {s for s in sizes if s not in batch and isinstance(s, str)}
    ):
        raise SupernetError(
            f"the tensor {name!r} is handed from one exit to the next, and its size is not"
            f" known ({sizes or 'no shape'}). Give the network inputs of a fixed size."
        )
    return TensorSpec(name, value.dtype.numpy().name, tuple(sizes))

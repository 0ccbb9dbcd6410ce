"""How a configuration runs: one graph, or the pieces of one and of further networks' ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import FrontError, SupernetError
from skipc.compiler.graph.pieces import pieces_of
from skipc.runtime.bundle.route import Stage, Test, source_of
from skipc.runtime.bundle.sizes import UNKNOWN, names_in
from skipc.runtime.bundle.tensors import BATCH, TensorSpec
from skipc.runtime.call.tests import goes_to
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.front import ExitTest
    from skipc.compiler.graph.pieces import Piece
    from skipc.compiler.network import Network
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.tensors import Size


@dataclass(frozen=True, slots=True)
class GraphPart:
    """A graph of a route: a whole file, or a piece of it.

    Attributes:
        name: The graph's name.
        inputs: The tensors where it begins.
        outputs: The tensors where it ends.
        piece: Its part of the file's graph; None for all of it.
        gates: What its gates decide about, which its last output tells.
        gate_parts: By unit, how many of these are its own.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    piece: Piece | None
    gates: tuple[str, ...] = ()
    gate_parts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RoutePart:
    """One network of a route, and the graphs that it runs as.

    Attributes:
        network: The network.
        graphs: One for each of its answers.
    """

    network: Network
    graphs: tuple[GraphPart, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """How a configuration runs.

    Attributes:
        stages: Its stages.
        parts: By stage, the number of the part whose graph it runs.
    """

    stages: tuple[Stage, ...]
    parts: tuple[int, ...]


def graphs_of(name: str, network: Network) -> tuple[GraphPart, ...]:
    """Returns the graphs of a network, one for each of its answers.

    Args:
        name: The name of its file.
        network: The network.

    Raises:
        SupernetError: The size of a tensor between two of them is not known.
    """
    if network.gating is not None:
        decisions = _spec(network.model.graph.outputs[-1], {}, network)
        outputs = (*network.outputs, *network.hands_on, decisions)
        said = network.gating.decided, network.gating.parts
        return (GraphPart(name, network.inputs, outputs, None, *said),)
    if len(network.answers) == 1:
        outputs = (*network.outputs, *network.hands_on)
        return (GraphPart(name, network.inputs, outputs, None),)
    known = {spec.name: spec for spec in (*network.inputs, *network.hands_on)}
    answers = [tuple(each.values()) for each in network.answers]
    answers[0] += tuple(spec.name for spec in network.hands_on)
    return tuple(
        GraphPart(
            f"{name}.{number}",
            tuple(_spec(value, known, network) for value in piece.inputs),
            tuple(_spec(value, known, network) for value in piece.outputs),
            piece,
        )
        for number, piece in enumerate(pieces_of(network.model.graph, answers))
    )


def route_of(
    tests: Sequence[ExitTest],
    parts: Sequence[RoutePart],
    outputs: Sequence[TensorSpec],
    handed: Iterable[str] = (),
) -> Route:
    """Returns how networks run one after the other.

    Args:
        tests: What looks at each answer but the last.
        parts: The networks.
        outputs: The family's outputs; see ``own_outputs``.
        handed: What a router in front hands on; see ``routed``.
    """
    first = {spec.name: f"0.{spec.name}" for spec in parts[0].network.hands_on}
    before = {**first, **{name: name for name in handed}}
    stages: list[Stage] = []
    numbers: list[int] = []
    for number, part in enumerate(parts):
        network, own = part.network, own_outputs(outputs, part.network)
        made = dict(before)
        for place, (graph, answers) in enumerate(
            zip(part.graphs, network.answers, strict=True)
        ):
            here = len(stages)
            feeds = {s.name: made[s.name] for s in graph.inputs if s.name in made}
            given = {name: answers[own[name]] for name in own}
            renamed = {name: output for name, output in given.items() if name != output}
            test = None
            if here < len(tests):
                temperature = tests[here].temperature or _temperature(network, place)
                said = tests[here]
                output = given[said.output or outputs[0].name]
                scores = (said.scores, said.threshold, temperature)
                test = Test(output, *scores, jump=said.jump)
            stages.append(Stage(graph.name, feeds, {}, renamed, test))
            numbers.append(number)
            made |= {spec.name: f"{here}.{spec.name}" for spec in graph.outputs}
    return Route(tuple(stages), tuple(numbers))


def routed(
    router: GraphPart, test: Test, ways: Sequence[Sequence[Stage]]
) -> tuple[Stage, ...]:
    """Returns a route whose first stage is a router, with what it names behind it.

    Args:
        router: Its graph.
        test: What looks at its scores; which stages it names is found here.
        ways: The routes that it names, in the order of the scores.
    """
    stages, starts = list[Stage](), list[int]()
    handed = {spec.name: f"0.{spec.name}" for spec in router.outputs}
    for way in ways:
        starts.append(len(stages) + 1)
        stages += [_shifted(stage, starts[-1], handed) for stage in way]
    return (Stage(router.name, test=replace(test, stages=tuple(starts))), *stages)


def _shifted(stage: Stage, by: int, handed: Mapping[str, str]) -> Stage:
    """Returns a stage that stands so much later in its route, behind what hands on some."""
    feeds = {
        name: handed.get(feed, feed)
        if (source := source_of(feed)) is None
        else f"{source[0] + by}.{source[1]}"
        for name, feed in stage.feeds.items()
    }
    test = stage.test
    if test is not None and test.jump is not None:
        test = replace(test, jump=replace(test.jump, stage=test.jump.stage + by))
    return replace(stage, feeds=feeds, test=test)


def check_tests(tests: Sequence[ExitTest], outputs: Sequence[TensorSpec], where: str) -> None:
    """Raises ``FrontError`` where a test looks at no output, or at one that has no such score.

    ``outputs`` are the family's.
    """
    known = {spec.name: spec for spec in outputs}
    for number, test in enumerate(tests):
        place, name = f"{where}: tests[{number}]", test.output or outputs[0].name
        if name not in known:
            raise FrontError(f"{place}: {name!r} is no output. {choices_text(name, known)}")
        numbers = math.prod(known[name].shape_at({})[1:])
        if ("value" in test.scores) != (numbers == 1):
            wanted = "one number" if "value" in test.scores else "a number for each class"
            raise FrontError(
                f"{place}: {', '.join(test.scores)} is of {wanted} in each row, but {name!r}"
                f" is {known[name].kind}. Name another one under 'output', or other 'scores'."
            )
        if "agreement" in test.scores and number == 0:
            raise FrontError(
                f"{place}: 'agreement' is with the answer before, and this is the first."
            )


def own_outputs(outputs: Sequence[TensorSpec], network: Network) -> dict[str, str]:
    """Returns a network's outputs by the family's names: its only one, or that of the name."""
    if len(outputs) == len(network.outputs) == 1:
        return {outputs[0].name: network.outputs[0].name}
    return {spec.name: spec.name for spec in outputs}


def _temperature(network: Network, place: int) -> float:
    """Returns what was found for a head when it was trained; 1 for a network's end."""
    exits = network.exits[place : place + 1]
    found = [head.temperature for head in network.heads for e in exits if head.name == e.name]
    return found[0] if found else 1.0


def stops_of(route: Sequence[Stage], cases: Sequence[Sequence[Case]]) -> tuple[float, ...]:
    """Returns the share of rows that each stage of a chain answers.

    Args:
        route: The stages.
        cases: By case and by stage, what the stage's graph gives.
    """
    counts = np.zeros(len(route))
    for found in cases:
        before: dict[str, NDArray[Any]] = {}
        at = np.zeros(len(next(iter(found[0].values()))), np.intp)
        for number, (stage, given) in enumerate(zip(route, found, strict=True)):
            here = at == number
            if stage.test is not None:
                tested, answer = given[stage.test.output], before.get(stage.tested)
                going = goes_to(stage.test, number, tested, answer)
                # What a row that did not come here was answered stays.
                came = here.reshape(-1, *[1] * (tested.ndim - 1))
                before[stage.tested] = (
                    tested if answer is None else np.where(came, tested, answer)
                )
                at = np.where(here, going, at)
            counts[number] += (here & (at == number)).sum()
    return tuple(float(share) for share in counts / counts.sum())


def _spec(value: ir.Value, known: Mapping[str, TensorSpec], network: Network) -> TensorSpec:
    """Returns a tensor's type and shape, as the manifest has them."""
    name = str(value.name)
    if name in known:
        return known[name]
    free = {each.name for each in network.dimensions}
    sizes = [_size(size, free) for size in value.shape or ()]
    if value.shape is None or value.dtype is None or (UNKNOWN in sizes and free <= {BATCH}):
        raise SupernetError(
            f"the tensor {name!r} is handed from one exit to the next, and its size is not"
            f" known ({[*value.shape] if value.shape else 'no shape'}). Give the network"
            " inputs of a fixed size."
        )
    return TensorSpec(name, value.dtype.numpy().name, tuple(sizes))


def _size(size: int | ir.SymbolicDim, free: set[str]) -> Size:
    """Returns a size as the manifest has it."""
    if isinstance(size, int):
        return size
    names = None if size.value is None else names_in(size.value)
    return UNKNOWN if names is None or not names <= free else str(size.value)

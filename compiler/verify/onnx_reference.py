"""The reference for an ONNX supernet: the whole graph, with what is cut set to zero.

Nothing is removed, rewired or optimised, so it shares no mechanism with the passes.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx_ir as ir

from skipc.compiler.cut import operands_by_node
from skipc.compiler.gating import MARGINS, Deciding, mask_shape
from skipc.compiler.graph.operands import (
    MEAN,
    VARIANCE,
    graph_of,
    number_like,
    operand,
    set_operand,
)
from skipc.compiler.network import Reference
from skipc.compiler.verify.sessions import GraphRunner, Optimise
from skipc.runtime.bundle.gates import DECISIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from skipc.compiler.cut import Cut, Narrowed
    from skipc.compiler.gating import Gating
    from skipc.compiler.verify.numerics import Case

_FILE = "reference.onnx"


@dataclass(frozen=True)
class OnnxReference(Reference):
    """Runs the supernet in ONNX Runtime without optimisation.

    Attributes:
        model: The supernet's graph; it is not changed.
        outputs: What it answers at its end; None for all that the graph gives, of which some
            may be exits of its own.
        check: Called with the first cases that are run; raises where the graph is not what the
            file holds.
    """

    name: ClassVar[str] = "onnx supernet"
    model: ir.Model
    outputs: tuple[str, ...] | None = None
    check: Callable[[Sequence[Case]], None] | None = None

    def run(self, cases: Sequence[Case]) -> list[Case]:
        """Returns the outputs by name for each case."""
        cases = [self.fed(case) for case in cases]
        if self.check is not None:
            self.check(cases)
        model = self._changed()
        ends = self.outputs if self.ends else ()
        if ends is None:
            ends = tuple(str(value.name) for value in model.graph.outputs)
        expose(model, {each.at for each in self.exits})
        if self.gating is not None:
            ran = run_gated(model, self.gating, cases)
            return [{name: case[name] for name in (*ends, *_decided(case))} for case in ran]
        return [
            {each.output: each.answer(found[each.at]) for each in self.exits}
            | {name: found[name] for name in ends}
            for found in run_graph(model, cases)
        ]

    def trace(self, inputs: Case) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields every intermediate tensor by its name in the graph, in order."""
        model = self._changed()
        expose_all(model)
        cases = [self.fed(inputs)]
        gating = self.gating
        ran = run_graph(model, cases) if gating is None else run_gated(model, gating, cases)
        yield from ran[0].items()

    def _changed(self) -> ir.Model:
        model = self.model.clone()
        zeros = operands_by_node(self.cuts)
        narrowed = {each.value: each for each in self.narrowed}
        scales = {cut.node: (cut.operand, factor) for cut, factor in self.scales.items()}
        for node in list(model.graph):
            name = str(node.outputs[0].name)
            if name in scales:
                _scale(node, *scales[name])
            for place in zeros.get(name, ()):
                _mask(node, place)
            if name in self.norms:
                epsilon = node.attributes.get_float("epsilon", 1e-5)
                set_operand(node, MEAN, self.norms[name].mean)
                set_operand(node, VARIANCE, self.norms[name].plain_variance(epsilon))
            if name in narrowed:
                _without_channels(node, narrowed[name])
        return model


def run_graph(model: ir.Model, cases: Sequence[Case]) -> list[Case]:
    """Returns what ONNX Runtime answers for each case, without optimising the graph."""
    with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
        path = Path(folder) / _FILE
        ir.save(model, path, external_data=f"{_FILE}.data")
        runner = GraphRunner(path, Optimise.NOTHING)
        return [runner.run(case) for case in cases]


def run_gated(model: ir.Model, gating: Gating, cases: Sequence[Case]) -> list[Case]:
    """Returns the same for a network with gates, which decide outside of the graph.

    Whether a unit runs is an input of the graph. It is run once for each gate, which reads
    what comes of the decisions before it, and once more.
    """
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    switches: dict[Cut | str, str] = {}
    for number, each in enumerate(gating.gates):
        switches[each.cut] = f"skipc.switch.{number}"
        join = values[each.cut.node].producer()
        assert join is not None
        _switch(model.graph, join, each.cut.operand, switches[each.cut])
        if each.inner is not None:
            value, axis = each.inner
            switches[value] = f"skipc.switch.{number}.parts"
            ((reader, place),) = values[value].uses()
            count = len(each.gate.parts)
            _switch(model.graph, reader, place, switches[value], (count,), axis)
    expose(model, {each.at for each in gating.gates})
    with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
        path = Path(folder) / _FILE
        ir.save(model, path, external_data=f"{_FILE}.data")
        runner = GraphRunner(path, Optimise.NOTHING)
        return [_decide(runner, gating, switches, case) for case in cases]


def _decide(
    runner: GraphRunner, gating: Gating, switches: Mapping[Cut | str, str], case: Case
) -> Case:
    deciding = Deciding(gating)
    rows = len(next(iter(case.values())))
    settings = {switches[each.cut]: np.zeros(rows, np.bool_) for each in gating.gates}
    settings |= {
        switches[each.inner.value]: np.zeros((rows, len(each.gate.parts)), np.bool_)
        for each in gating.gates
        if each.inner is not None
    }
    for each in gating.gates:
        found = {**case, **runner.run({**case, **settings})}
        deciding.see(each.at, found[each.at])
        settings |= {switches[cut]: runs for cut, runs in deciding.runs.items()}
        settings |= {switches[value]: stays for value, stays in deciding.stays.items()}
    return {**runner.run({**case, **settings}), **deciding.outputs(DECISIONS)}


def _decided(case: Case) -> list[str]:
    return [name for name in case if name in (DECISIONS, MARGINS)]


def _switch(
    graph: ir.Graph,
    node: ir.Node,
    place: int,
    name: str,
    channels: tuple[int, ...] = (),
    axis: int = 0,
) -> None:
    """Puts ``Where(switch, operand, 0)`` between an operand and its node.

    The switch, an input, is of each row, or of each row and each of so many channels.
    """
    value = operand(node, place)
    assert value.shape is not None
    kind = ir.TensorType(ir.DataType.BOOL)
    switch = ir.Value(name=name, type=kind, shape=ir.Shape([value.shape[0], *channels]))
    graph.inputs.append(switch)
    sizes = np.array(mask_shape((-1, *channels), len(value.shape), axis))
    shape = ir.node("Constant", [], {"value": ir.tensor(sizes)})
    mask = ir.node("Reshape", [switch, shape.outputs[0]])
    zero = ir.node("Constant", [], {"value": number_like(value, 0.0)})
    where = ir.node("Where", [mask.outputs[0], value, zero.outputs[0]])
    _insert(node, place, shape, mask, zero, where)


def _mask(node: ir.Node, place: int) -> None:
    """Puts ``Where(False, operand, 0)`` between an operand and its node."""
    value = operand(node, place)
    false = ir.node("Constant", [], {"value": ir.tensor(np.array(False))})
    zero = ir.node("Constant", [], {"value": number_like(value, 0.0)})
    where = ir.node("Where", [false.outputs[0], value, zero.outputs[0]])
    _insert(node, place, false, zero, where)


def _without_channels(node: ir.Node, narrowed: Narrowed) -> None:
    """Puts ``Where(stays, result, 0)`` between a node's result and all that reads it."""
    result = node.outputs[0]
    assert result.shape is not None
    kept = ir.tensor(narrowed.beside(len(result.shape)))
    stays = ir.node("Constant", [], {"value": kept})
    zero = ir.node("Constant", [], {"value": number_like(result, 0.0)})
    where = ir.node("Where", [stays.outputs[0], result, zero.outputs[0]])
    where.outputs[0].type = result.type
    graph_of(node).insert_after(node, (stays, zero, where))
    result.replace_all_uses_with(where.outputs[0])
    where.replace_input_with(1, result)


def _scale(node: ir.Node, place: int, factor: float) -> None:
    """Puts a multiplication between an operand and its node."""
    value = operand(node, place)
    number = ir.node("Constant", [], {"value": number_like(value, factor)})
    _insert(node, place, number, ir.node("Mul", [value, number.outputs[0]]))


def _insert(node: ir.Node, place: int, *before: ir.Node) -> None:
    """Inserts nodes before another, whose operand becomes the last one's result."""
    graph_of(node).insert_before(node, before)
    result = before[-1].outputs[0]
    result.type = operand(node, place).type
    node.replace_input_with(place, result)


def expose_all(model: ir.Model) -> None:
    """Makes every intermediate tensor of known type an output of the graph."""
    expose(model, {str(value.name) for node in model.graph for value in node.outputs})


def expose(model: ir.Model, names: AbstractSet[str]) -> None:
    """Makes these tensors outputs of the graph, as far as their types are known.

    But for bfloat16, which ONNX Runtime cannot return.
    """
    present = {id(value) for value in model.graph.outputs}
    for node in model.graph:
        for value in node.outputs:
            known = value.dtype not in (None, ir.DataType.BFLOAT16)
            if value.name in names and known and id(value) not in present:
                model.graph.outputs.append(value)

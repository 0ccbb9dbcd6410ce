"""The reference for an ONNX supernet: the whole graph, with skipped branches set to zero.

Nothing is removed, rewired or optimised, so it shares no mechanism with the pruner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from skipc.compiler.graph.passes.set_norms import MEAN, VARIANCE, set_operand
from skipc.compiler.verify.sessions import GraphRunner, Optimise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.norms.apply import NormsByOutput
    from skipc.compiler.verify.numerics import Case

# A configuration's name cannot start with "_", so no graph of the family is called this.
_FILE = "_reference.onnx"


@dataclass(frozen=True)
class OnnxReference:
    """Runs the supernet in ONNX Runtime without optimisation.

    Attributes:
        model: The supernet's graph; it is not changed.
        folder: Where the temporary graph file is written (and removed again).
        norms: The batch norms' statistics, where they are not the graph's own.
    """

    model: ir.Model
    folder: Path
    norms: NormsByOutput | None = None
    name: str = "onnx supernet"

    def run(self, skipped: tuple[Unit, ...], cases: Sequence[Case]) -> list[Case]:
        """Returns the outputs by name for each case, with ``skipped`` units left out."""
        return self._run(self._zeroed(skipped), cases)

    def trace(
        self, skipped: tuple[Unit, ...], inputs: Case
    ) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields every intermediate tensor by its name in the graph, in order."""
        model = self._zeroed(skipped)
        expose_all(model)
        yield from self._run(model, [inputs])[0].items()

    def _run(self, model: ir.Model, cases: Sequence[Case]) -> list[Case]:
        path = self.folder / _FILE
        try:
            ir.save(model, path, external_data=f"{_FILE}.data")
            runner = GraphRunner(path, Optimise.NOTHING)
            return [runner.run(case) for case in cases]
        finally:
            path.unlink(missing_ok=True)
            path.with_name(f"{_FILE}.data").unlink(missing_ok=True)

    def _zeroed(self, skipped: tuple[Unit, ...]) -> ir.Model:
        model = self.model.clone()
        branches = {unit.join: 1 - unit.shortcut for unit in skipped}
        norms = {} if self.norms is None else self.norms.effective()
        for node in list(model.graph):
            name = str(node.outputs[0].name)
            if name in branches:
                _mask(node, branches[name])
            if name in norms:
                epsilon = node.attributes.get_float("epsilon", 1e-5)
                set_operand(node, MEAN, norms[name].mean)
                set_operand(node, VARIANCE, norms[name].variance(epsilon))
        return model


def _mask(join: ir.Node, branch: int) -> None:
    """Puts ``Where(False, branch, 0)`` between the branch and the join."""
    value = join.inputs[branch]
    assert value is not None
    assert value.dtype is not None
    graph = join.graph
    assert graph is not None
    false = ir.node("Constant", [], {"value": ir.tensor(np.array(False))})
    zero = ir.node("Constant", [], {"value": ir.tensor(np.zeros((), value.dtype.numpy()))})
    where = ir.node("Where", [false.outputs[0], value, zero.outputs[0]])
    for node in (false, zero, where):
        graph.insert_before(join, node)
    join.replace_input_with(branch, where.outputs[0])


def expose_all(model: ir.Model) -> None:
    """Makes every intermediate tensor of known type an output of the graph.

    But for bfloat16, which ONNX Runtime cannot return.
    """
    present = {id(value) for value in model.graph.outputs}
    for node in model.graph:
        for value in node.outputs:
            known = value.dtype not in (None, ir.DataType.BFLOAT16)
            if value.name and known and id(value) not in present:
                model.graph.outputs.append(value)

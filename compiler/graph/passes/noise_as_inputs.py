"""What a graph draws at random becomes inputs: it can be fixed, and drawn elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.errors import PrologueError
from skipc.compiler.graph.operands import operand
from skipc.compiler.graph.passes import RewritePass
from skipc.runtime.bundle.prologue import Draw

if TYPE_CHECKING:
    from collections.abc import Sequence

_NORMAL = ("RandomNormal", "RandomNormalLike")
_UNIFORM = ("RandomUniform", "RandomUniformLike")


class NoiseAsInputsPass(RewritePass):
    """Replaces operators that draw numbers by inputs; ``draws`` tells how those are drawn.

    Sizes must have been inferred.
    """

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where
        self.draws: list[Draw] = []

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the main graph."""
        graph = model.graph
        for node in list(graph):
            if node.op_type not in _NORMAL + _UNIFORM:
                continue
            if "seed" in node.attributes:
                raise PrologueError(
                    f"{self._where}: {node.op_type} draws from the fixed seed"
                    f" {node.attributes['seed'].value}: whoever has the file can subtract its"
                    " noise. Export it without a seed."
                )
            drawn = node.outputs[0]
            name = f"noise.{len(self.draws)}"
            self.draws.append(_draw(node, name, self._where))
            noise = ir.Value(
                name=name,
                type=ir.TensorType(ir.DataType.FLOAT),
                shape=ir.Shape(_sizes(node, self._where)),
            )
            graph.inputs.append(noise)
            drawn.replace_all_uses_with(noise)
            for place, output in enumerate(graph.outputs):
                if output is drawn:
                    graph.outputs[place] = noise
            graph.remove(node, safe=True)


def _draw(node: ir.Node, name: str, where: str) -> Draw:
    read = node.attributes.get_float
    dtype = node.attributes.get_int("dtype", int(ir.DataType.FLOAT))
    if dtype != int(ir.DataType.FLOAT):
        raise PrologueError(
            f"{where}: {node.op_type} draws {ir.DataType(dtype).name}, expected float32."
        )
    if node.op_type in _NORMAL:
        return Draw(name, "normal", read("mean", 0.0), read("scale", 1.0))
    low, high = read("low", 0.0), read("high", 1.0)
    return Draw(name, "uniform", (low + high) / 2, (high - low) / 2)


def _sizes(node: ir.Node, where: str) -> Sequence[int | ir.SymbolicDim]:
    if node.inputs:
        shape = operand(node, 0).shape
        if shape is None:
            raise PrologueError(
                f"{where}: the size of what {node.op_type} draws is not known."
            )
        return list(shape)
    return list(node.attributes.get_ints("shape", ()))

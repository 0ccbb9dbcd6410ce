"""Parts of a branch's channels, made small branches of their own: what an ``If`` can hold.

The layer that reads the channels becomes a sum of layers, one for each part. It starts at the
shortcut, and ends with the part that runs whenever its unit does: what follows the addition,
such as an activation, is fused into that one's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.units import find_units
from skipc.compiler.axes.width_groups import find_groups
from skipc.compiler.cut import Cut
from skipc.compiler.graph.operands import operand
from skipc.compiler.graph.passes.fold_norms import FoldedKernels, FoldNormsPass
from skipc.compiler.graph.passes.split_channels import SplitChannelsPass
from skipc.compiler.targets.cpu.optimized import UnsuitedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.graph.passes.gate_units import Ungated


def split_parts(
    found: Ungated, gated: Sequence[Sequence[str]]
) -> tuple[ir.Model, dict[str, Unit]]:
    """Returns the graph with its branches in parts, and what gates decide about in it.

    Each part but the first lies, as a unit, within the unit itself.

    Args:
        found: The graph.
        gated: By unit the names of what is decided: its own, and those of further parts.

    Raises:
        UnsuitedError: The channels of a branch are not seen in it.
    """
    units = {unit.name: unit for unit in find_units(found.model).units}
    model = found.model.clone()
    FoldNormsPass(FoldedKernels())(model)
    inner = {part.value: part.parts for part in found.inner.values()}
    split = []
    for group in find_groups(model)[0]:
        # A scalar of norm statistics may stand between them and the layer that reads them.
        for value in {carrier.value for carrier in group.carriers} & inner.keys():
            parts = inner.pop(value)
            numbers = range(int(parts.max()), -1, -1)
            split.append((group, [np.flatnonzero(parts == number) for number in numbers]))
    unseen = [unit for unit, part in found.inner.items() if part.value in inner]
    if unseen:
        raise UnsuitedError(f"the channels of {unseen[0]!r} are not seen in its graph")
    SplitChannelsPass(split, biased=-1)(model)
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    made: dict[str, Unit] = {}
    for name, *further in gated:
        unit = units[name]
        if further:
            _, *cuts = _cuts(values[unit.join], 1 + len(further), name)
            for part, cut in reversed([*zip(further, cuts, strict=True)]):
                own = replace(unit, name=part, join=cut.node, shortcut=1, within=name)
                made[part] = own
            unit = replace(unit, shortcut=1, further=tuple(cuts))
        made[name] = unit
    return model, made


def _cuts(value: ir.Value, count: int, unit: str) -> list[Cut]:
    """Returns what each part, the first in front, adds to the stream that ends in a value."""
    cuts = []
    for _ in range(count):
        cuts.append(Cut(str(value.name), 0))
        join = value.producer()
        term = None if join is None else operand(join, 0).producer()
        if join is None or term is None or term.op_type != "Conv":
            raise UnsuitedError(
                f"the parts of {unit!r} are not added to its stream one by one"
            )
        value = operand(join, 1)
    return cuts

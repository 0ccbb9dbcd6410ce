"""Names for sizes that follow from free dimensions, where shape inference loses them.

ONNX's inference knows what a convolution makes of 32 pixels, and nothing of what it makes of
``H``. So shapes are inferred at some sizes of each dimension: two sizes that are the same at
all of them are one, and have one name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from skipc.compiler.graph.passes import RewritePass
from skipc.compiler.graph.passes.size_at_batch_one import shapes_at
from skipc.runtime.bundle.tensors import BATCH, typical_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime.bundle.tensors import Dimension


class FollowSizesPass(RewritePass):
    """Gives sizes a name or a number, where another dimension than the batch is free."""

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        super().__init__()
        usual = typical_sizes(dimensions)
        # In the range or not: what a size is made of does not change with it.
        self._probes = [usual] + [
            {**usual, each.name: size}
            for each in dimensions
            for more in (each.step, 3 * each.step, each.typical)
            for size in (each.typical + more,)
        ]
        self._free = any(each.name != BATCH for each in dimensions)

    def rewrite(self, model: ir.Model) -> None:
        """Rewrites the shapes of all values that nodes compute."""
        if not self._free:
            return
        found = [shapes_at(model, sizes) for sizes in self._probes]
        names: dict[tuple[int, ...], str] = {
            tuple(sizes[name] for sizes in self._probes): name for name in self._probes[0]
        }
        for node in model.graph:
            for value in node.outputs:
                name = str(value.name)
                shapes = [each[name] for each in found if name in each]
                if len(shapes) == len(found) and len(set(map(len, shapes))) == 1:
                    sizes = zip(*shapes, strict=True)
                    value.shape = ir.Shape([_named(seen, names) for seen in sizes])


def _named(seen: tuple[int, ...], names: dict[tuple[int, ...], str]) -> int | str:
    if len(set(seen)) == 1:
        return seen[0]
    return names.setdefault(seen, f"_{len(names)}")

"""Pruning: the subnet of one configuration from the supernet's graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.graph.passes.drop_repeated_activations import DropRepeatedActivationsPass
from skipc.compiler.graph.passes.skip_units import SkipUnitsPass

if TYPE_CHECKING:
    from skipc.compiler.axes.units import Unit


def subnet_from_units(supernet: ir.Model, skipped: tuple[Unit, ...]) -> ir.Model:
    """Returns a copy of ``supernet`` without the ``skipped`` units.

    The copy shares its tensors with ``supernet``, which is not changed. Input and output
    names stay; no node or initializer that only the skipped units used is left.
    """
    subnet = supernet.clone()
    passes = ir.passes.Sequential(
        SkipUnitsPass(skipped),
        common.RemoveUnusedNodesPass(),
        DropRepeatedActivationsPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
    )
    result: ir.Model = passes(subnet).model
    return result

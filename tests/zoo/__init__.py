"""Small real networks, each with an independent reference for its configurations.

A network says which units are expected and, for each, the module whose output a forward hook
sets to zero in eager PyTorch. What is found in graphs is compared with that.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.axes.units import find_units
from skipc.compiler.graph.passes.cut_operands import without
from tests.exports import ExportedOnce
from tests.zoo.image_nets import IMAGE_NETS
from tests.zoo.library_nets import LIBRARY_NETS
from tests.zoo.net import Net, assert_close, case_for, eager_outputs, module_of
from tests.zoo.rejected_nets import REJECTED_NETS
from tests.zoo.token_nets import TOKEN_NETS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir

    from skipc.compiler.axes.units import Unit, Units
    from skipc.compiler.network import Network

NETS = {net.name: net for net in (*IMAGE_NETS, *TOKEN_NETS, *LIBRARY_NETS, *REJECTED_NETS)}
WITH_UNITS = tuple(name for name, net in NETS.items() if net.units)

__all__ = [
    "NETS",
    "WITH_UNITS",
    "Net",
    "assert_close",
    "case_for",
    "eager_outputs",
    "exported",
    "module_of",
    "pruned",
    "skipping",
    "supernet",
]


def supernet(name: str) -> ExportedOnce:
    """Returns the network as the checkpoint reader would."""
    net = NETS[name]
    return ExportedOnce(
        source=module_of(net),
        inputs=net.inputs,
        dimensions=net.dimensions,
        output=net.output,
        model=name,
        survival={},
    )


@cache
def exported(name: str) -> tuple[Network, Units]:
    """Returns the network's graph and units; callers must not change the graph."""
    graph = supernet(name).exported()
    return graph, find_units(graph.model)


def skipping(network: Network, units: Iterable[Unit]) -> Network:
    """Returns the network without some units."""
    return SkipAxis().apply(network, tuple(units), find_units(network.model))


def pruned(model: ir.Model, units: Iterable[Unit]) -> ir.Model:
    """Returns the graph without some units."""
    return without(model, [cut for unit in units for cut in unit.cuts])

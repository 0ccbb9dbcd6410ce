"""The survival probability that original stochastic depth applies to kept branches.

Huang et al. 2016 ("Deep Networks with Stochastic Depth", section 3) train with unscaled
branches and multiply a branch by its survival probability at test time; most libraries
("inverted") divide by it while training instead and need nothing at test time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from skipc.compiler.axes.units import units_of_network
from skipc.compiler.errors import UnitError
from skipc.compiler.graph.index import is_inside
from skipc.compiler.graph.operands import multiply
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.cut import Cut
    from skipc.compiler.network import Network
    from skipc.compiler.read import Supernet


class ResidualScale(str, Enum):
    """How a kept branch is scaled at test time."""

    ORIGINAL = "original"
    INVERTED = "inverted"


@dataclass(frozen=True, slots=True)
class Scaling:
    """How the kept branches of a network are scaled at test time.

    Attributes:
        scale: As stochastic depth did it; None for what the checkpoint says.
        survival: Survival probability by unit name or module path, where the network does
            not carry them.
    """

    scale: ResidualScale | None = None
    survival: Mapping[str, float] = field(default_factory=dict)

    def of(self, network: Network | Supernet) -> ResidualScale:
        """Returns how a network is scaled: as asked, else as its checkpoint says."""
        return self.scale or ResidualScale(network.residual_scale)

    def check(self, supernet: Supernet) -> None:
        """Refuses probabilities that have no effect, before the network is exported."""
        if self.survival and self.of(supernet) is not ResidualScale.ORIGINAL:
            raise UnitError("--survival has no effect without --residual-scale original.")


def scaled(network: Network, scaling: Scaling) -> Network:
    """Returns the network, as it was exported, with its branches scaled.

    Raises:
        UnitError: What ``scale_branches`` refuses, or the network scales its branches itself.
    """
    if network.switching is not None:
        if scaling.scale is ResidualScale.ORIGINAL or scaling.survival:
            raise UnitError(
                f"--residual-scale: {network.description} is traced once per configuration and"
                " scales its branches itself. Leave --residual-scale and --survival out."
            )
        return network
    if scaling.of(network) is ResidualScale.ORIGINAL:
        return scale_branches(network, units_of_network(network).units, scaling.survival)
    return network


def scale_branches(
    network: Network, units: tuple[Unit, ...], given: Mapping[str, float]
) -> Network:
    """Returns the network with every unit's branch scaled by its survival probability.

    It is ``given`` by unit name or module path, else by stochastic-depth modules.

    Raises:
        UnitError: A unit's probability is unknown, or ``given`` names no unit or is none; or
            a branch is wider than the stream.
    """
    unknown = [path for path in given if not any(_names(path, unit) for unit in units)]
    if unknown:
        raise UnitError(
            f"--survival {unknown[0]!r}: no such unit."
            f" {choices_text(unknown[0], [unit.name for unit in units])}"
        )
    for path, probability in given.items():
        if not 0 < probability <= 1:
            raise UnitError(
                f"--survival {path}={probability:g}: a survival probability is above 0 and at"
                " most 1."
            )
    scales = {}
    for unit in units:
        kept = _probability(unit, given, network.survival)
        if kept is None:
            raise UnitError(
                f"unit {unit.name!r}: its survival probability is unknown: it holds no"
                " stochastic-depth module, or several that differ. Give it with --survival"
                f" {unit.name}=0.9, or train with the 'inverted' convention."
            )
        if kept != 1.0 and unit.features:
            raise UnitError(
                f"unit {unit.name!r}: its features are concatenated, not added, and are never"
                " scaled. Train with the 'inverted' convention."
            )
        if kept != 1.0 and unit.further:
            raise UnitError(
                f"unit {unit.name!r}: its branch is wider than what it is added to, and what"
                " is set beside that cannot be scaled. Train with the 'inverted' convention."
            )
        if kept != 1.0:
            scales[unit.cuts[0]] = kept
    return replace(
        network,
        model=_multiplied(network.model, scales),
        branches=network.branches and _multiplied(network.branches, scales),
        reference=network.reference.with_scales(scales),
    )


def _multiplied(model: ir.Model, scales: Mapping[Cut, float]) -> ir.Model:
    """Returns a copy in which these operands are multiplied by a factor each."""
    copy = model.clone()
    joins = {str(node.outputs[0].name): node for node in copy.graph}
    for (node, place, *_), factor in scales.items():
        multiply(joins[node], place, factor, f"{node}.survival")
    return copy


def _names(path: str, unit: Unit) -> bool:
    return unit.name == path or unit.module == path or is_inside(unit.name, path)


def _probability(
    unit: Unit, given: Mapping[str, float], modules: Mapping[str, float]
) -> float | None:
    """Returns what is said of the unit itself, else of a module around or inside it."""
    for said in (given, modules):
        if unit.name in said:
            return said[unit.name]
    for path, probability in given.items():
        if _names(path, unit):
            return probability
    if unit.module in modules:
        return modules[unit.module]
    found = {p for path, p in modules.items() if is_inside(path, unit.module or unit.name)}
    # A module with two units of different probability leaves it open which is which.
    return found.pop() if len(found) == 1 else None

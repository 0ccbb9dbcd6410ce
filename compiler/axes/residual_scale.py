"""The survival probability that original stochastic depth applies to kept branches.

Huang et al. 2016 ("Deep Networks with Stochastic Depth", section 3) train with unscaled
branches and multiply a branch by its survival probability at test time; most libraries
("inverted") divide by it while training instead and need nothing at test time.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.errors import UnitError
from skipc.compiler.graph.index import MODULE_KEY, is_inside
from skipc.compiler.verify.torch_reference import BranchScale, TorchReference
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.read.export import SupernetGraph


class ResidualScale(str, Enum):
    """How a kept branch is scaled at test time."""

    ORIGINAL = "original"
    INVERTED = "inverted"


class ScaleBranchesPass(ir.passes.InPlacePass):
    """Multiplies the branch of each join by a factor.

    Args:
        scales: The factor of the branch by join.
    """

    def __init__(self, scales: Mapping[str, BranchScale]) -> None:
        super().__init__()
        self._scales = scales

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Inserts one multiplication per branch."""
        graph = model.graph
        for node in list(graph):
            join = str(node.outputs[0].name)
            if join not in self._scales:
                continue
            scale = self._scales[join]
            operand = scale.operand
            branch = node.inputs[operand]
            assert branch is not None
            assert branch.dtype is not None
            number = np.asarray(scale.factor).astype(branch.dtype.numpy())
            factor = ir.val(f"{join}.survival", const_value=ir.tensor(number))
            graph.register_initializer(factor)
            product = ir.node("Mul", [branch, factor])
            product.outputs[0].name = f"{join}.scaled"
            product.outputs[0].shape = branch.shape
            product.outputs[0].type = branch.type
            if MODULE_KEY in node.metadata_props:
                product.metadata_props[MODULE_KEY] = node.metadata_props[MODULE_KEY]
            graph.insert_before(node, product)
            node.replace_input_with(operand, product.outputs[0])
        return ir.passes.PassResult(model, modified=bool(self._scales))


def scale_branches(
    supernet: SupernetGraph, units: tuple[Unit, ...], given: Mapping[str, float]
) -> SupernetGraph:
    """Returns the supernet with every unit's branch scaled by its survival probability.

    Args:
        supernet: The graph; it is changed in place. Its stochastic-depth modules give the
            probabilities that ``given`` does not.
        units: The units found in it.
        given: Survival probability by unit name or module path.

    Raises:
        UnitError: A unit's probability is unknown, or ``given`` names no unit or is none.
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
        kept = _probability(unit, given, supernet.survival)
        if kept is None:
            raise UnitError(
                f"unit {unit.name!r}: its survival probability is unknown: it holds no"
                " stochastic-depth module, or several that differ. Give it with --survival"
                f" {unit.name}=0.9, or train with the 'inverted' convention."
            )
        if kept != 1.0:
            scales[unit.join] = BranchScale(1 - unit.shortcut, kept)
    ScaleBranchesPass(scales)(supernet.model)
    reference = supernet.reference
    if isinstance(reference, TorchReference):
        reference = replace(reference, scales=scales)
    return replace(supernet, reference=reference)


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

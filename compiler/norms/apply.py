"""Entering a configuration's norm statistics into its graph, as its mode says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir.passes.common as common

from skipc.compiler.graph.passes.fold_norms import FoldNormsPass
from skipc.compiler.graph.passes.scale_norms import ScaleNormsPass
from skipc.compiler.graph.passes.set_norms import SetNormsPass
from skipc.compiler.norms.find import find_norms
from skipc.compiler.norms.mode import NormMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.norms.statistics import FamilyNorms, NetworkNorms, NormStatistics


@dataclass(frozen=True, slots=True)
class NormsByOutput:
    """Statistics by the name of the value that a norm computes in one particular graph."""

    base: Mapping[str, NormStatistics]
    own: Mapping[str, NormStatistics]

    def effective(self) -> dict[str, EffectiveNorm]:
        """Returns what a plain batch norm needs to compute the same, by output."""
        found = {}
        for output, norm in self.own.items():
            base = norm if norm.scale is None else self.base[output]
            found[output] = EffectiveNorm(norm.mean, base.variance, norm.scale or 1.0)
        return found


@dataclass(frozen=True, slots=True)
class EffectiveNorm:
    """A norm whose multiplier is ``scale / sqrt(unscaled_variance + epsilon)`` times gamma."""

    mean: NDArray[np.float32]
    unscaled_variance: NDArray[np.float32]
    scale: float

    def variance(self, epsilon: float) -> NDArray[np.float64]:
        """Returns the variance that gives this multiplier; it may be below zero."""
        variance = self.unscaled_variance.astype(np.float64)
        return (variance + epsilon) / self.scale**2 - epsilon


def apply_norms(subnet: ir.Model, norms: NormsByOutput, mode: NormMode) -> None:
    """Rewrites the batch norms of ``subnet`` in place.

    ``shared``: folded as they are. ``scalar``: folded with the base statistics, scaled by a
    multiplication per branch; kernels are the same in every configuration. ``full``: the
    statistics are set and the norms stay: engines fold them, and the bundle holds each kernel
    once.

    Raises:
        SupernetError: ``scalar``, and an activation does not let a scalar through.
    """
    if mode is not NormMode.SHARED:
        whole = {name: found for name, found in norms.own.items() if found.scale is None}
        ScaleNormsPass(norms.base, norms.own)(subnet)
        SetNormsPass(whole)(subnet)
        FoldNormsPass(kept=frozenset(whole))(subnet)
    else:
        FoldNormsPass()(subnet)
    common.RemoveUnusedNodesPass()(subnet)


def norms_by_output(
    supernet: ir.Model, family: FamilyNorms, configuration: NetworkNorms
) -> NormsByOutput:
    """Returns the statistics by output, for the graph in which the norms were named."""
    norms = find_norms(supernet)
    return NormsByOutput(
        {norm.output: family.base[norm.name] for norm in norms if norm.name in family.base},
        {
            norm.output: configuration[norm.name]
            for norm in norms
            if norm.name in configuration
        },
    )

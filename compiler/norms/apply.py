"""Entering a configuration's norm statistics into its graph, as its mode says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir.passes.common as common

from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.graph.passes.fold_norms import FoldedKernels, FoldNormsPass
from skipc.compiler.graph.passes.scale_norms import ScaleNormsPass
from skipc.compiler.graph.passes.set_norms import SetNormsPass
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.norms.statistics_file import check_statistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.network import Network
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


@dataclass(frozen=True)
class Norms:
    """The norm statistics of a family, as they enter its networks.

    Attributes:
        full: The full network, in which norms are named: what one is called must not depend
            on what else was chosen.
        family: The statistics.
        where: The file that they come from, for messages.
    """

    full: Network
    family: FamilyNorms
    where: str = "the statistics"
    _folded: FoldedKernels = field(default_factory=FoldedKernels, repr=False)

    def __post_init__(self) -> None:
        if self.full.switching is not None and self.family.mode is not NormMode.SHARED:
            raise SupernetError(
                f"--norm {self.family.mode.value}: {self.full.description} switches its norms"
                " with what it skips, so nothing is estimated anew. Use --norm shared."
            )

    @property
    def text(self) -> str:
        """How norms adapt to what is chosen, in a word."""
        return "switched" if self.full.switching is not None else self.family.mode.value

    def apply(self, network: Network, configuration: str) -> Network:
        """Returns the network with a configuration's statistics in it.

        ``shared``: norms are folded as they are. ``scalar``: folded with the base statistics,
        scaled by a multiplication per branch; kernels are the same in every configuration.
        ``full``: the statistics are set and the norms stay: engines fold them, and the bundle
        holds each kernel once; so it does where the network switches its norms itself.

        Raises:
            FrontError: Statistics are missing, or another network's.
            SupernetError: ``scalar``, and an activation does not let a scalar through.
        """
        if network.switching is not None:
            return network
        if self.family.mode is NormMode.SHARED:
            return replace(network, model=self._entered(network.model, NormsByOutput({}, {})))
        own = self.family.configurations.get(configuration, {})
        kept = {str(value.name) for node in network.model.graph for value in node.outputs}
        named = find_norms(self.full.model)
        channels = {norm.name: norm.channels for norm in named if norm.output in kept}
        check_statistics(own, channels, configuration, self.where)
        norms = norms_by_output(self.full.model, self.family, own)
        return replace(
            network,
            model=self._entered(network.model, norms),
            reference=network.reference.with_norms(norms),
        )

    def _entered(self, model: ir.Model, norms: NormsByOutput) -> ir.Model:
        changed = model.clone()
        apply_norms(changed, norms, self._folded)
        return changed


def apply_norms(model: ir.Model, norms: NormsByOutput, folded: FoldedKernels) -> None:
    """Rewrites the batch norms of ``model`` in place; see ``Norms.apply``."""
    whole = {name: found for name, found in norms.own.items() if found.scale is None}
    if norms.own:
        ScaleNormsPass(norms.base, norms.own)(model)
        SetNormsPass(whole)(model)
    FoldNormsPass(folded, kept=frozenset(whole))(model)
    common.RemoveUnusedNodesPass()(model)


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

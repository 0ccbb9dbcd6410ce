"""Entering a configuration's norm statistics into its graph, as its mode says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import onnx_ir.passes.common as common

from skipc.compiler.errors import FrontError, SupernetError
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.graph.passes.fold_norms import FoldedKernels, FoldNormsPass
from skipc.compiler.graph.passes.scale_norms import ScaleNormsPass
from skipc.compiler.norms.statistics import NormMode

if TYPE_CHECKING:
    import onnx_ir as ir

    from skipc.compiler.network import Network
    from skipc.compiler.norms.statistics import FamilyNorms, NetworkNorms


@dataclass(frozen=True)
class Norms:
    """The norm statistics of a family, as they enter its networks.

    Attributes:
        full: The full network, in which norms are named: what one is called must not depend
            on what else was chosen.
        family: The statistics.
    """

    full: Network
    family: FamilyNorms
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
        model = network.model.clone()
        whole: frozenset[str] = frozenset()
        if self.family.mode is not NormMode.SHARED:
            norms = self._by_output(model, configuration)
            network = replace(network, reference=network.reference.with_norms(norms))
            whole = frozenset(name for name, found in norms.items() if found.scale is None)
            channels = network.channels
            own = {n: f.only(channels[n]) if n in channels else f for n, f in norms.items()}
            ScaleNormsPass(own)(model)
        FoldNormsPass(self._folded, kept=whole)(model)
        common.RemoveUnusedNodesPass()(model)
        return replace(network, model=model)

    def _by_output(self, model: ir.Model, configuration: str) -> NetworkNorms:
        """Returns the statistics of the norms that ``model`` still has."""
        own = self.family.configurations.get(configuration, {})
        kept = {str(value.name) for node in model.graph for value in node.outputs}
        norms = [norm for norm in find_norms(self.full.model) if norm.output in kept]
        for norm in norms:
            if norm.name not in own:
                raise FrontError(
                    f"the statistics: there are none of the norm {norm.name!r} for the"
                    f" configuration {configuration!r}. Was the front changed by hand? Run"
                    " `skipc select` again, or give the data to estimate on with --reestimate."
                )
            found = len(own[norm.name].mean)
            if found != norm.channels:
                raise FrontError(
                    f"the statistics: the norm {norm.name!r} has {norm.channels} channels,"
                    f" those for {configuration!r} have {found}. They are another network's."
                )
        return {norm.output: own[norm.name] for norm in norms}

"""Where the subnets of a family come from: pruning one graph, or tracing each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from skipc.compiler.axes.prune import subnet_from_units
from skipc.compiler.graph.costs import parameters
from skipc.compiler.norms.apply import apply_norms, norms_by_output
from skipc.compiler.norms.find import find_norms
from skipc.compiler.norms.mode import NormMode
from skipc.compiler.norms.statistics_file import check_statistics
from skipc.compiler.verify.onnx_reference import OnnxReference

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from skipc.compiler.axes.units import UnitSearch
    from skipc.compiler.front import Configuration
    from skipc.compiler.norms.statistics import FamilyNorms
    from skipc.compiler.read.export import SupernetGraph
    from skipc.compiler.verify.torch_reference import Reference


@dataclass(frozen=True, slots=True)
class Subnet:
    """The supernet pruned for one configuration.

    Attributes:
        model: Its graph, which may be changed.
        parameters: Its trained parameters, counted before norms were folded.
    """

    model: ir.Model
    parameters: int


class SubnetSource(Protocol):
    """Gives each configuration its subnet and what the subnet is compared with."""

    @property
    def supernet(self) -> SupernetGraph:
        """The full network: its inputs, its outputs, its graph."""
        ...

    @property
    def search(self) -> UnitSearch:
        """The units that may be skipped."""
        ...

    @property
    def norm(self) -> str:
        """How norms adapt to what is skipped, in a word."""
        ...

    def subnet(self, configuration: Configuration) -> Subnet:
        """Returns the configuration's subnet."""
        ...

    def reference(self, configuration: Configuration, scratch: Path) -> Reference:
        """Returns what runs the configuration by other means.

        Args:
            configuration: The configuration.
            scratch: A folder for its temporary files.
        """
        ...


@dataclass(frozen=True)
class PrunedSubnets:
    """Prunes the supernet's graph and enters the configuration's norm statistics.

    Attributes:
        supernet: The graph, its batch norms unfolded.
        search: Its units.
        norms: The statistics of every configuration, unless the mode is ``shared``.
        where: The file that the statistics come from, for messages.
    """

    supernet: SupernetGraph
    search: UnitSearch
    norms: FamilyNorms
    where: str = "the statistics"

    @property
    def norm(self) -> str:
        """How norms adapt to what is skipped, in a word."""
        return self.norms.mode.value

    def subnet(self, configuration: Configuration) -> Subnet:
        """Returns the configuration's subnet.

        Raises:
            FrontError: Statistics are missing, or another network's.
            SupernetError: ``scalar``, and an activation does not let a scalar through.
        """
        subnet = subnet_from_units(self.supernet.model, configuration.units)
        count = parameters(subnet.graph)
        if self.norms.mode is NormMode.SHARED:
            return Subnet(subnet_from_units(self._folded, configuration.units), count)
        own = self.norms.configurations.get(configuration.name, {})
        # Named in the supernet: what a norm is called must not depend on what is skipped.
        kept = {str(value.name) for node in subnet.graph for value in node.outputs}
        channels = {
            norm.name: norm.channels
            for norm in find_norms(self.supernet.model)
            if norm.output in kept
        }
        check_statistics(own, channels, configuration.name, self.where)
        norms = norms_by_output(self.supernet.model, self.norms, own)
        apply_norms(subnet, norms, self.norms.mode)
        return Subnet(subnet, count)

    def reference(self, configuration: Configuration, scratch: Path) -> Reference:
        """Returns the supernet with its branches zeroed, its norms set."""
        reference = self.supernet.reference or OnnxReference(self.supernet.model, scratch)
        if self.norms.mode is NormMode.SHARED:
            return reference
        own = self.norms.configurations.get(configuration.name, {})
        norms = norms_by_output(self.supernet.model, self.norms, own)
        return replace(reference, norms=norms)  # type: ignore[type-var]

    @cached_property
    def _folded(self) -> ir.Model:
        """The supernet folded once: its subnets share the folded tensors."""
        folded = self.supernet.model.clone()
        apply_norms(folded, norms_by_output(folded, self.norms, {}), NormMode.SHARED)
        return folded

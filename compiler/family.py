"""A family: a network, what its axes offer, and how a configuration is made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from skipc.compiler import axes
from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.graph.costs import parameters
from skipc.compiler.norms.apply import Norms
from skipc.compiler.norms.statistics import FamilyNorms, NormMode
from skipc.compiler.read.resized import resized
from skipc.compiler.residual_scale import Scaling, scaled
from skipc.runtime.bundle.manifest import AxisEntry, OptionEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.compiler.axes.axis import Axis, Gene, Genes, Offer
    from skipc.compiler.calibration import Calibration
    from skipc.compiler.gates import Gates
    from skipc.compiler.heads import Head
    from skipc.compiler.network import Network
    from skipc.compiler.read import Supernet


@dataclass(frozen=True, slots=True)
class Subnet:
    """The network of one configuration.

    Attributes:
        network: The network.
        parameters: Its trained parameters, counted before norms were folded.
    """

    network: Network
    parameters: int


@dataclass(frozen=True)
class Family:
    """What the configurations of one network have in common.

    Attributes:
        network: The full network, its batch norms unfolded.
        offers: What may be chosen, by axis.
        norms: The norm statistics of every configuration.
        searched: The keys of the axes that a search decides.
    """

    network: Network
    offers: Mapping[str, Offer]
    norms: Norms
    searched: frozenset[str] = frozenset({SkipAxis.key})

    def with_norms(self, norms: FamilyNorms) -> Family:
        """Returns the family with other norm statistics; not where the network has several."""
        return replace(self, norms=Norms(self.network, norms))

    def subnet(self, choices: Mapping[str, object], configuration: str) -> Subnet:
        """Returns the network with choices made and a configuration's norm statistics.

        Args:
            choices: The choice by axis; an axis that is missing is left alone.
            configuration: The name under which its statistics are known.

        Raises:
            CompileError: A choice, or the statistics, do not fit the network.
        """
        network = self._applied(self.network, choices, after_norms=False)
        count = parameters(network.model.graph)
        network = self.norms.apply(network, configuration)
        # Last what reads: a kernel that is cut by what it makes can still be cut by that.
        for axis in reversed(axes.AXES):
            network = axis.share(network, choices.get(axis.key), self.offers[axis.key])
        return Subnet(self._applied(network, choices, after_norms=True), count)

    def structure(self, choices: Mapping[str, object]) -> Network:
        """Returns the network with those choices made that do not need its norms."""
        return self._applied(self.network, choices, after_norms=False)

    @property
    def genes(self) -> tuple[Gene, ...]:
        """What a search decides, axis by axis."""
        return tuple(
            gene for axis in self._searched for gene in axis.genes(self.offers[axis.key])
        )

    def decoded(self, genes: Genes) -> dict[str, object]:
        """Returns the choices by axis; an axis whose genes are all 0 is left alone."""
        found: dict[str, object] = {}
        for axis in self._searched:
            offer = self.offers[axis.key]
            count = len(axis.genes(offer))
            if any(genes[:count]):
                found[axis.key] = axis.decode(genes[:count], offer)
            genes = genes[count:]
        return found

    def texts(self, genes: Genes) -> dict[str, str]:
        """Returns the choices by axis for tables and pages, without those left alone."""
        choices = self.decoded(genes)
        return {a.key: a.text(choices[a.key]) for a in axes.AXES if a.key in choices}

    def axis_entries(self, named: set[str]) -> tuple[AxisEntry, ...]:
        """Returns for the manifest what may be chosen of the axes named, or searched over."""
        found = []
        for axis in axes.AXES:
            offer = self.offers[axis.key]
            if axis.key in named or (axis.key in self.searched and axis.genes(offer)):
                options = (OptionEntry(o.name, o.parameters, o.macs) for o in offer.options)
                found.append(AxisEntry(axis.key, tuple(options)))
        return tuple(found)

    @property
    def _searched(self) -> list[Axis[Any, Any]]:
        return [axis for axis in axes.AXES if axis.key in self.searched]

    def _applied(
        self, network: Network, choices: Mapping[str, object], after_norms: bool
    ) -> Network:
        for axis in axes.AXES:
            if axis.key in choices and axis.after_norms is after_norms:
                network = axis.apply(network, choices[axis.key], self.offers[axis.key])
        return network

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the choices applied so far."""
        return tuple(note for offer in self.offers.values() for note in offer.notes)


def family_of(network: Network) -> Family:
    """Returns the family of a network, with the norm statistics that it has."""
    offers = {axis.key: axis.offer(network) for axis in axes.AXES}
    return Family(network, offers, Norms(network, FamilyNorms(NormMode.SHARED)))


def open_family(
    supernet: Supernet,
    scaling: Scaling | None = None,
    heads: tuple[Head, ...] = (),
    name: str = "",
    gates: Gates | None = None,
    calibration: Calibration | None = None,
) -> Family:
    """Returns the family of the network in a checkpoint, its branches scaled.

    Args:
        supernet: The network.
        scaling: How kept branches are scaled; None for what the checkpoint says.
        heads: What was trained to answer before its end.
        name: The network's, where there are several.
        gates: What was trained to decide about its units.
        calibration: What ranges of activations are observed on, for int8.

    Raises:
        GatesError: A gate does not fit the network.
        HeadsError: A head does not fit the network.
        SupernetError: The network cannot be exported.
        UnitError: Its branches cannot be scaled so.
    """

    def made(each: Supernet) -> Network:
        network = scaled(each.exported(), scaling or Scaling())
        return replace(network, heads=heads, name=name, gates=gates, calibration=calibration)

    return family_of(replace(made(supernet), at=lambda size: made(resized(supernet, size))))

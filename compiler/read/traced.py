"""Subnets of a network that switches more than its units: each is traced on its own.

Tensors are stored by content, so what the configurations have in common is stored once,
kernels above all: batch norms stay unfolded, since two sets of them share one kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from skipc.compiler.axes.units import Unit, UnitSearch
from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.read.export import SupernetGraph, export_supernet
from skipc.compiler.read.switching import SwitchingNetwork
from skipc.compiler.subnets import Subnet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.front import Configuration
    from skipc.compiler.read import TorchSupernet
    from skipc.compiler.verify.numerics import Case
    from skipc.compiler.verify.torch_reference import Reference


@dataclass(frozen=True)
class TracedReference:
    """PyTorch running the program that one configuration was traced as.

    Attributes:
        traced: Interprets that program.
    """

    traced: Reference

    @property
    def name(self) -> str:
        """What it is."""
        return self.traced.name

    def run(self, skipped: tuple[Unit, ...], cases: Sequence[Case]) -> list[Case]:
        """Returns the outputs; ``skipped`` was left out when the program was traced."""
        return self.traced.run((), cases)

    def trace(
        self, skipped: tuple[Unit, ...], inputs: Case
    ) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields every intermediate tensor by its name in the graph, in order."""
        return self.traced.trace((), inputs)


@dataclass(frozen=True)
class TracedSubnets:
    """Traces a ``SwitchingNetwork`` once per configuration.

    Attributes:
        network: The checkpoint's network, whose module is a ``SwitchingNetwork``.
    """

    network: TorchSupernet
    norm: str = "switched"
    _graphs: dict[frozenset[str], SupernetGraph] = field(default_factory=dict, repr=False)

    @property
    def supernet(self) -> SupernetGraph:
        """The full network."""
        return self.graph(frozenset())

    @cached_property
    def search(self) -> UnitSearch:
        """The units: what the network says may be skipped, and what goes with each.

        Raises:
            SupernetError: The network names nothing, or one thing twice.
        """
        names = _skippable(self.network)
        full = self.supernet.model.graph
        macs, count = total_macs(full), parameters(full)
        units = []
        for name in names:
            without = self.graph(frozenset({name})).model.graph
            units.append(
                Unit(
                    name=name,
                    join="",
                    shortcut=0,
                    module=name,
                    parameters=count - parameters(without),
                    macs=macs - total_macs(without),
                )
            )
        return UnitSearch(tuple(units), (), count, macs)

    def subnet(self, configuration: Configuration) -> Subnet:
        """Returns the configuration's subnet."""
        model = self._of(configuration).model.clone()
        return Subnet(model, parameters(model.graph))

    def reference(self, configuration: Configuration, scratch: Path) -> Reference:
        """Returns PyTorch running the configuration."""
        reference = self._of(configuration).reference
        assert reference is not None
        return TracedReference(reference)

    def graph(self, skipped: frozenset[str]) -> SupernetGraph:
        """Returns the graph of the network without ``skipped``, traced when first asked."""
        if skipped not in self._graphs:
            module = self.network.module
            assert isinstance(module, SwitchingNetwork)
            module.set_skipped(skipped)
            try:
                self._graphs[skipped] = export_supernet(self.network)
            finally:
                module.set_skipped(())
        return self._graphs[skipped]

    def _of(self, configuration: Configuration) -> SupernetGraph:
        return self.graph(frozenset(unit.name for unit in configuration.units))


def _skippable(network: TorchSupernet) -> tuple[str, ...]:
    module = network.module
    assert isinstance(module, SwitchingNetwork)
    names = tuple(module.skippable())
    if not names:
        raise SupernetError(
            f"{network.model}: its skippable() names nothing. Return the names of what"
            " set_skipped() can leave out, in network order."
        )
    if len(set(names)) < len(names):
        raise SupernetError(f"{network.model}: its skippable() gives a name twice: {names}.")
    return names

"""Skipping: which units a configuration leaves out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from skipc.compiler.axes.axis import Axis, Gene, Genes, first_names
from skipc.compiler.axes.dense import shared_by_presence, without_features
from skipc.compiler.axes.units import Unit, Units, units_of_network
from skipc.compiler.axes.width_groups import SPLIT
from skipc.compiler.errors import FrontError
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.graph.index import is_inside
from skipc.compiler.graph.passes.cut_operands import without
from skipc.runtime.errors import choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.family import Family
    from skipc.compiler.network import Network, Switching

Skipped = tuple[Unit, ...]
"""The units that are left out, in network order."""


class SkipAxis(Axis[Skipped, Units]):
    """Leaves out branches: additions become their shortcuts, concatenations get fewer."""

    key = "skip"
    after_norms = False

    def offer(self, network: Network) -> Units:
        """Returns the units."""
        if network.switching is not None:
            return _switched_units(network, network.switching)
        return units_of_network(network)

    def check(self, record: object, where: str) -> None:
        """Refuses what is neither a bit string nor a list of different names."""
        if isinstance(record, str):
            if set(record) - {"0", "1"} or not record:
                raise FrontError(
                    f"{where}: 'skip' is the text {record[:80]!r}; a text must be a bit"
                    " string over the units (1 = skipped). For names write a list."
                )
            return
        names = record if isinstance(record, list) else [None]
        for name in names:
            if not isinstance(name, str):
                raise FrontError(
                    f"{where}: 'skip' must be a list of strings, found {shown(record)}."
                )
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise FrontError(f"{where}: 'skip' names {twice[0]!r} twice.")

    def read(self, record: object, offer: Units, where: str) -> Skipped:
        """Returns the units of a bit string, or those that a list of module paths names."""
        units = offer.units
        if isinstance(record, str):
            if len(record) != len(units):
                raise FrontError(
                    f"{where}: the bit string has {len(record)} bits, but the network has"
                    f" {len(units)} units. Give one bit per unit, in the order of"
                    " `skipc units`."
                )
            return _noted(
                offer, tuple(u for u, bit in zip(units, record, strict=True) if bit == "1")
            )
        assert isinstance(record, list)
        found = {path: units_at(path, units) for path in record}
        unknown = [path for path, matching in found.items() if not matching]
        if unknown:
            paths = {unit.name for unit in units} | {u.module for u in units if u.module}
            nearest = choices_text(unknown[0], paths)
            if len(unknown) < len(found):
                raise FrontError(f"{where}: {unknown[0]!r} is no unit. {nearest}")
            raise FrontError(
                f"{where}: none of the {len(unknown)} module paths it skips"
                f" ({first_names(unknown)}) is a unit of this network"
                f" ({first_names(offer.names)}). Is it the front of another network? {nearest}"
            )
        chosen = {unit.name for matching in found.values() for unit in matching}
        return _noted(offer, tuple(unit for unit in units if unit.name in chosen))

    def apply(self, network: Network, choice: Skipped, offer: Units) -> Network:
        """Returns the network without the units."""
        if network.switching is not None:
            return network.switching.without(frozenset(self.taken(choice)))
        features = {unit.features for unit in choice if unit.features}
        if features:
            network = without_features(network, features, offer.tensors)
        cuts = [cut for unit in choice if not unit.features for cut in unit.cuts]
        return replace(
            network,
            model=without(network.model, cuts),
            reference=network.reference.with_cuts(cuts),
        )

    def share(self, network: Network, choice: Skipped | None, offer: Units) -> Network:
        """Returns the network with a kernel for each class of dense layers' features.

        Those are a class that the same configurations are without.
        """
        if network.switching is not None or offer.widest < SPLIT:
            return network
        skips = {
            unit.features: [n for n, skip in enumerate(offer.skips) if unit.name in skip]
            for unit in offer.dense
        }
        return shared_by_presence(network, skips)

    def genes(self, offer: Units) -> tuple[Gene, ...]:
        """Returns one gene for each unit: 1 skips it."""
        return tuple(Gene(self.key, unit.name, 2) for unit in offer.units)

    def decode(self, genes: Genes, offer: Units) -> Skipped:
        """Returns the units whose genes are 1."""
        return tuple(unit for unit, gene in zip(offer.units, genes, strict=True) if gene)

    def taken(self, choice: Skipped) -> tuple[str, ...]:
        """Returns the units' names."""
        return tuple(unit.name for unit in choice)

    def text(self, choice: Skipped) -> str:
        """Returns how many are skipped."""
        return f"{len(choice)} skipped"


def units_of(family: Family) -> Units:
    """Returns what the axis offers of a family's network."""
    return cast("Units", family.offers[SkipAxis.key])


def units_at(path: str, units: Sequence[Unit]) -> list[Unit]:
    """Returns the unit of that name, or all units inside the module of that path."""
    exact = [unit for unit in units if unit.name == path]
    return exact or [
        u for u in units if path and (is_inside(u.name, path) or u.module == path)
    ]


def _noted(offer: Units, choice: Skipped) -> Skipped:
    """Returns the choice; the offer knows it from then on."""
    names = frozenset(unit.name for unit in choice)
    if names not in offer.skips:
        offer.skips.append(names)
    return choice


def _switched_units(network: Network, switching: Switching) -> Units:
    """Returns what the network says may be skipped, and what goes with each."""
    macs, count = total_macs(network.model.graph), parameters(network.model.graph)
    units = []
    for name in switching.names:
        rest = switching.without(frozenset({name})).model.graph
        gone = count - parameters(rest), macs - total_macs(rest)
        units.append(Unit(name, "", 0, name, *gone))
    return Units(tuple(units), (), count, macs)

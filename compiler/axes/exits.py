"""Early exits: where a configuration answers, at heads or at the network's end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skipc.compiler.axes.axis import Axis, Offer
from skipc.compiler.axes.exit_places import places_of
from skipc.compiler.errors import FrontError, HeadsError
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.graph.index import GraphIndex
from skipc.compiler.graph.passes.answer_early import answering
from skipc.compiler.network import Exit, LinearHead
from skipc.runtime.errors import choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.network import Network

END = "end"
"""What an entry calls the network's own end."""


@dataclass(frozen=True, slots=True)
class ExitOption:
    """A head, or an exit of the network's own, that a configuration may answer at.

    Attributes:
        exit: Where it is; what its answer will be called depends on the choice.
        parameters: Its own.
        macs: Operations of the network that are spared by an answer there, batch 1.
    """

    exit: Exit
    parameters: int
    macs: int

    @property
    def name(self) -> str:
        """The unit that it comes after, or the output."""
        return self.exit.name


@dataclass(frozen=True, slots=True)
class Exits(Offer):
    """The heads and own exits of a network, in network order."""

    exits: tuple[ExitOption, ...]

    @property
    def options(self) -> Sequence[ExitOption]:
        """The heads."""
        return self.exits


class ExitsAxis(Axis[tuple[str, ...], Exits]):
    """Answers at heads, in network order; the last one named is where a configuration ends."""

    key = "exits"
    after_norms = False

    def offer(self, network: Network) -> Exits:
        """Returns the exits of the network's own, and the heads that were trained for it.

        Raises:
            HeadsError: One does not fit it.
        """
        found = [*_own(network), *(_trained(network) if network.heads else ())]
        return Exits(tuple(sorted(found, key=lambda option: -option.macs)))

    def check(self, record: object, where: str) -> None:
        """Refuses what is not a list of different names."""
        names = record if isinstance(record, list) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise FrontError(
                f"{where}: 'exits' must be a list of heads, at least one, found"
                f" {shown(record)}. {END!r} is the network's own end."
            )
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise FrontError(f"{where}: 'exits' names {twice[0]!r} twice.")

    def read(self, record: object, offer: Exits, where: str) -> tuple[str, ...]:
        """Returns the names in network order."""
        assert isinstance(record, list)
        known = (*offer.names, END)
        for name in record:
            if name not in known:
                train = (
                    ""
                    if offer.exits
                    else " No heads lie beside the checkpoint: train them with `skipc heads`."
                )
                raise FrontError(
                    f"{where}: {name!r} is no head. {choices_text(name, known)}{train}"
                )
        return tuple(name for name in known if name in record)

    def record(self, choice: tuple[str, ...]) -> object:
        """Returns the names, the end among them."""
        return list(choice)

    def apply(self, network: Network, choice: tuple[str, ...], offer: Exits) -> Network:
        """Returns the network that answers there, without what no answer needs."""
        ends = END in choice
        (spec,) = network.outputs
        output = spec.name
        exits = tuple(
            replace(
                option.exit,
                output=output if len(choice) == 1 else f"{output}@{option.name}",
            )
            for option in offer.exits
            if option.name in choice
        )
        if not exits:
            return network
        return replace(
            network,
            model=answering(network.branches or network.model, exits, ends),
            reference=network.reference.with_exits(exits, ends),
            exits=exits,
            ends=ends,
        )

    def taken(self, choice: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the heads; nothing where only the end answers."""
        return tuple(name for name in choice if name != END)

    def text(self, choice: tuple[str, ...]) -> str:
        """Returns where it answers: all of several, or the one that ends it."""
        if choice == (END,):
            return "to the end"
        if len(choice) == 1:
            return f"ends at {choice[0]}"
        return f"{len(choice)} exits"


def _own(network: Network) -> list[ExitOption]:
    """Returns the outputs of a network that are exits."""
    if network.branches is None:
        return []
    index = GraphIndex(network.branches.graph)
    whole = total_macs(network.model.graph)
    stream = {str(value.name) for node in network.model.graph for value in node.outputs}
    dtype = network.outputs[0].dtype
    found = []
    for value in network.branches.graph.outputs[:-1]:
        nodes = index.members(index.ancestors(value))
        own = [node for node in nodes if str(node.outputs[0].name) not in stream]
        spared = whole - total_macs(nodes)
        name = str(value.name)
        found.append(ExitOption(Exit(name, name, None, "", dtype), parameters(own), spared))
    return found


def _trained(network: Network) -> list[ExitOption]:
    """Returns the heads that were trained for a network."""
    places = {place.name: place for place in places_of(network)}
    whole = total_macs(network.model.graph)
    (spec,) = network.outputs
    classes, found = spec.shape[1], []
    for head in network.heads:
        place = places.get(head.name)
        if place is None:
            raise HeadsError(
                f"the head {head.name!r} is attached nowhere in this network."
                f" {choices_text(head.name, places)}"
            )
        if head.weight.shape != (classes, place.channels):
            raise HeadsError(
                f"the head {head.name!r} maps {head.weight.shape[1]} channels to"
                f" {head.weight.shape[0]} classes; there are {place.channels} channels and"
                f" {classes} classes. Train the heads again with `skipc heads`."
            )
        size = head.weight.size + head.bias.size
        layer = LinearHead(place.axis, head.weight, head.bias)
        made = Exit(head.name, place.at, layer, "", spec.dtype)
        found.append(ExitOption(made, size, whole - place.macs))
    return found

"""Several networks of one family: what they take, and what they answer, must be the same."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.passes.feed_inputs import feeding
from skipc.compiler.network import Feed, Switching
from skipc.runtime.bundle.tensors import typical_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.compiler.network import Network, Size
    from skipc.compiler.read import Supernet
    from skipc.runtime.bundle.tensors import Dimension, TensorSpec

_IMAGES = 4
"""Dimensions of what can be resized: batch, channels, height, width."""


def fed_alike(supernets: Mapping[str, Supernet]) -> dict[str, Supernet]:
    """Returns the networks as those of one family, all of which take the same inputs.

    Those are the inputs of the network with the largest ones. Where another network takes
    images of another size it begins by resizing them.

    Args:
        supernets: The networks by name.

    Raises:
        SupernetError: They cannot take the same inputs.
    """
    name, largest = max(supernets.items(), key=lambda pair: _elements(pair[1]))
    made: dict[str, Supernet] = {}
    for other, supernet in supernets.items():
        if {*supernet.dimensions} != {*largest.dimensions}:
            raise SupernetError(
                f"the networks of one bundle have the same free dimensions: those of {name!r}"
                f" are {_ranges(largest)}, of {other!r} {_ranges(supernet)}. Give them with"
                " --batch, --dim and --input."
            )
        made[other] = fed(supernet, largest.inputs, f"{other!r} after {name!r}")
    return made


def fed(supernet: Supernet, inputs: tuple[TensorSpec, ...], whose: str) -> Supernet:
    """Returns a network as one that takes a family's inputs; itself where it does already.

    Args:
        supernet: The network.
        inputs: The family's inputs.
        whose: The networks' names, for messages.

    Raises:
        SupernetError: It cannot take them.
    """
    feeds = _feeds(supernet.inputs, inputs, whose)
    return FedSupernet(supernet, feeds, inputs, whose) if feeds else supernet


def check_answers(networks: Mapping[str, Network]) -> None:
    """Raises ``SupernetError`` where networks do not answer the same; see ``own_outputs``."""
    (first, wanted), *others = networks.items()
    for name, network in others:
        kinds = [sorted(_kinds(one.outputs)) for one in (wanted, network)]
        if kinds[0] != kinds[1]:
            raise SupernetError(
                f"the networks of one bundle answer the same: {first!r} answers"
                f" {_specs_text(wanted.outputs)}, {name!r} {_specs_text(network.outputs)}."
                " Give networks of one task, with the same classes."
            )


@dataclass(frozen=True)
class FedSupernet:
    """A network that takes the inputs of its family.

    Attributes:
        supernet: The network as it was read.
        feeds: What its own inputs are made of.
        inputs: The family's inputs.
        whose: The networks' names, for messages.
    """

    supernet: Supernet
    feeds: tuple[Feed, ...]
    inputs: tuple[TensorSpec, ...]
    whose: str

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The free dimensions."""
        return self.supernet.dimensions

    @property
    def residual_scale(self) -> str:
        """How the checkpoint says that kept branches are scaled at test time."""
        return self.supernet.residual_scale

    @property
    def exit_outputs(self) -> tuple[str, ...]:
        """Outputs that are exits of the network's own."""
        return self.supernet.exit_outputs

    def exported(self) -> Network:
        """Returns the network; see ``Supernet``."""
        return self._fed(self.supernet.exported())

    def with_rows(self, rows: int) -> FedSupernet:
        """Returns the same network with a free batch of up to ``rows``."""
        batched = self.supernet.with_rows(rows)
        leads = {spec.name: spec.shape[:1] for spec in batched.inputs}
        own = {feed.source: feed.name for feed in self.feeds}
        inputs = tuple(
            replace(spec, shape=(*leads[own.get(spec.name, spec.name)], *spec.shape[1:]))
            for spec in self.inputs
        )
        return replace(self, supernet=batched, inputs=inputs)

    def at(self, size: Size) -> Supernet:
        """Returns the same network, of the same family, for images of another size."""
        return fed(self.supernet.at(size), self.inputs, self.whose)

    def _fed(self, network: Network) -> Network:
        taken = {str(value.name) for node in network.model.graph for value in node.outputs}
        for feed in self.feeds:
            if feed.source in taken:
                raise SupernetError(
                    f"{network.description}: its input {feed.name!r} is to be called"
                    f" {feed.source!r} as the other network's, but a tensor inside it has that"
                    " name. Rename the other network's input."
                )
        switching = network.switching
        if switching is not None:
            without = switching.without
            switching = Switching(switching.names, lambda names: self._fed(without(names)))
        return replace(
            network,
            model=feeding(network.model, self.feeds, self.inputs),
            branches=network.branches and feeding(network.branches, self.feeds, self.inputs),
            reference=network.reference.with_feeds(self.feeds),
            inputs=self.inputs,
            switching=switching,
        )


def _feeds(
    own: tuple[TensorSpec, ...], family: tuple[TensorSpec, ...], whose: str
) -> tuple[Feed, ...]:
    """Returns what a network's inputs are made of, where they are not the family's."""
    sources = {spec.name: spec for spec in family}
    if len(own) == len(family) == 1:
        sources = {own[0].name: family[0]}
    if {spec.name for spec in own} != sources.keys():
        raise SupernetError(
            f"{whose}: it takes {_specs_text(own)}, the other {_specs_text(family)}. Networks"
            " of one bundle have one input each, or inputs of the same names."
        )
    feeds = []
    for spec in own:
        source = sources[spec.name]
        size = _size(spec, source, whose)
        if size is not None or source.name != spec.name:
            feeds.append(Feed(spec.name, source.name, size))
    return tuple(feeds)


def _size(spec: TensorSpec, source: TensorSpec, whose: str) -> tuple[int, int] | None:
    """Returns what an input is resized to; None where it is not."""
    if (spec.dtype, spec.shape) == (source.dtype, source.shape):
        return None
    *lead, height, width = spec.shape
    if (
        len(spec.shape) != _IMAGES
        or spec.dtype != source.dtype
        or not spec.dtype.startswith("float")
        or tuple(lead) != source.shape[:-2]
        or not isinstance(height, int)
        or not isinstance(width, int)
    ):
        raise SupernetError(
            f"{whose}: its input {spec.name!r} is {spec.kind}, the other's {source.kind}. Only"
            " the height and width of images (N, channels, height, width) of floats are"
            " resized."
        )
    return height, width


def _elements(supernet: Supernet) -> int:
    typical = typical_sizes(supernet.dimensions)
    return sum(math.prod(spec.shape_at(typical)) for spec in supernet.inputs)


def _kinds(specs: tuple[TensorSpec, ...]) -> list[str]:
    """Returns what outputs are; their names count only where there are several."""
    return [f"{spec.name if len(specs) > 1 else ''} {spec.kind}" for spec in specs]


def _specs_text(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{spec.name} ({spec.kind})" for spec in specs)


def _ranges(supernet: Supernet) -> str:
    return ", ".join(f"{each.name}={each.range}" for each in supernet.dimensions) or "none"

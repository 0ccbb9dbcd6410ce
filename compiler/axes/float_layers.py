"""The layers that stay float32 in a network that computes in int8."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from skipc.compiler.axes.axis import Axis, Offer
from skipc.compiler.errors import FrontError
from skipc.compiler.graph.index import is_inside
from skipc.compiler.graph.int8_layers import layer_name, layers_of
from skipc.runtime.errors import choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.network import Network

FloatLayers = tuple[str, ...]
"""Names of layers, or of modules that hold several."""


class LayerOption(NamedTuple):
    """A layer as something that may be chosen; nothing goes with it."""

    name: str
    parameters: int = 0
    macs: int = 0


@dataclass(frozen=True, slots=True)
class FloatLayersOffer(Offer):
    """The layers of a network, in its order."""

    layers: tuple[str, ...] = ()

    @property
    def options(self) -> Sequence[LayerOption]:
        """All of them, also what is float32 in any case."""
        return tuple(LayerOption(name) for name in self.layers)


class FloatLayersAxis(Axis[FloatLayers, FloatLayersOffer]):
    """Tells what precision is applied to which layers it leaves alone."""

    key = "float32"
    after_norms = True

    def offer(self, network: Network) -> FloatLayersOffer:
        """Returns the layers with weights."""
        layers = layers_of(network.model.graph)
        return FloatLayersOffer(tuple(dict.fromkeys(map(layer_name, layers))))

    def check(self, record: object, where: str) -> None:
        """Refuses what is no list of names."""
        named = isinstance(record, list) and all(
            isinstance(name, str) and name for name in record
        )
        if not named or not record:
            raise FrontError(
                f"{where}: 'float32' is {shown(record)}; expected a list of layers, or modules"
                ' that hold several, e.g. ["head"].'
            )

    def read(self, record: object, offer: FloatLayersOffer, where: str) -> FloatLayers:
        """Returns the names, each once, as they were given."""
        assert isinstance(record, list)
        for name in record:
            if not any(is_inside(layer, name) for layer in offer.layers):
                raise FrontError(
                    f"{where}: 'float32' names no layer: {name!r}."
                    f" {choices_text(name, offer.layers)}"
                )
        return tuple(dict.fromkeys(record))

    def apply(self, network: Network, choice: FloatLayers, offer: FloatLayersOffer) -> Network:
        """Returns the network with these layers noted; int8 comes after."""
        return replace(network, floating=choice)

    def taken(self, choice: FloatLayers) -> tuple[str, ...]:
        """Returns the names."""
        return choice

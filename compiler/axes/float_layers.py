"""The layers that stay float32 in a network that computes in int8."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from skipc.compiler.axes.axis import Axis, Gene, Genes, Offer
from skipc.compiler.axes.precision import Precision, PrecisionAxis, quantized
from skipc.compiler.errors import FrontError
from skipc.compiler.graph.index import is_inside
from skipc.compiler.graph.int8_layers import layer_name, layers_of, rounded_layers
from skipc.compiler.int8_parts import by_noise
from skipc.runtime.errors import choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.network import Network

FloatLayers = tuple[str, ...]
"""Names of layers, or of modules that hold several."""

_SHARES = (8, 4, 2)


class LayerOption(NamedTuple):
    """A layer as something that may be chosen; nothing goes with it."""

    name: str
    parameters: int = 0
    macs: int = 0


@dataclass(frozen=True)
class FloatLayersOffer(Offer):
    """The layers of a network, in its order.

    Attributes:
        network: The full network.
        layers: Their names.
    """

    network: Network | None = None
    layers: tuple[str, ...] = ()

    @property
    def options(self) -> Sequence[LayerOption]:
        """All of them, also what is float32 in any case."""
        return tuple(LayerOption(name) for name in self.layers)

    @property
    def nothing(self) -> str:
        """Why a search has nothing to decide."""
        return "it is of int8, so beside 'precision', and of networks with several layers"

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many layers a search leaves in float32: one, an eighth, a quarter, a half."""
        network = self.network
        if network is None or network.calibration is None or not network.calibration.cases:
            return ()
        layers = len({*map(layer_name, rounded_layers(network.model.graph))})
        counts = (1, *(-(-layers // share) for share in _SHARES))
        return tuple(sorted({count for count in counts if count < layers}))

    @cached_property
    def sensitive(self) -> list[str]:
        """The layers that int8 rounds, the one first whose result it changes most."""
        network = self.network
        assert network is not None
        assert network.calibration is not None
        int8 = quantized(network, Precision.INT8, (), keep=True)
        return by_noise(network.model, int8, network.calibration.cases)


class FloatLayersAxis(Axis[FloatLayers, FloatLayersOffer]):
    """Tells what precision is applied to which layers it leaves alone."""

    key = "float32"
    after_norms = True

    def offer(self, network: Network) -> FloatLayersOffer:
        """Returns the layers with weights."""
        layers = layers_of(network.model.graph)
        return FloatLayersOffer(network, tuple(dict.fromkeys(map(layer_name, layers))))

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

    def genes(self, offer: FloatLayersOffer) -> tuple[Gene, ...]:
        """Returns one gene, whose values are more and more of the most sensitive layers."""
        labels = tuple(f"float{count}" for count in offer.counts)
        if not labels:
            return ()
        return (Gene(self.key, self.key, 1 + len(labels), labels, PrecisionAxis.key),)

    def decode(self, genes: Genes, offer: FloatLayersOffer) -> FloatLayers:
        """Returns the layers, in network order."""
        kept = offer.sensitive[: offer.counts[genes[0] - 1]]
        return tuple(name for name in offer.layers if name in kept)

"""Gates with random weights, which decide otherwise from row to row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.gate_channels import BranchChannels
from skipc.compiler.axes.gates import places_before
from skipc.compiler.axes.units import units_of_network
from skipc.compiler.errors import GatesError
from skipc.compiler.gates import Gate, Gates

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from skipc.compiler.network import Network

HIDDEN = 4


def random_gates(
    network: Network, without: Collection[str] = (), scale: float = 1.0, channels: int = 1
) -> Gates:
    """Returns a gate for each unit that may have one, but for some.

    The larger ``scale``, the more it depends on the input what a gate decides. Where that is
    possible they decide about so many parts of the branches' ``channels``.
    """
    rng = np.random.default_rng(1)

    def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.normal(size=shape).astype(np.float32)

    places, _ = places_before(network)

    def parts(name: str) -> NDArray[np.int64]:
        try:
            return inner.parts(inner.of(known[name]), channels)
        except GatesError:
            return np.zeros(0, np.int64)

    known = {unit.name: unit for unit in units_of_network(network).units}
    inner = BranchChannels(network)
    found = []
    for name, place in places.items():
        if name not in without:
            weights = scale * normal(HIDDEN, place.channels), normal(HIDDEN)
            own = parts(name)
            count = len(np.unique(own)) or 1
            thresholds = tuple(0.5 * number for number in range(count))
            found.append(Gate(name, *weights, thresholds, (0.5,) * count, own))
    gates = tuple(found)
    return Gates(gates, normal(HIDDEN, HIDDEN), normal(HIDDEN), 0.5)

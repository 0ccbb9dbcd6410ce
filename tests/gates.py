"""Gates with random weights, which decide otherwise from row to row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.gates import places_before
from skipc.compiler.gates import Gate, Gates

if TYPE_CHECKING:
    from collections.abc import Collection

    from skipc.compiler.network import Network

HIDDEN = 4


def random_gates(network: Network, without: Collection[str] = (), scale: float = 1.0) -> Gates:
    """Returns a gate for each unit that may have one, but for some.

    The larger ``scale``, the more it depends on the input what a gate decides.
    """
    rng = np.random.default_rng(1)

    def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.normal(size=shape).astype(np.float32)

    places, _ = places_before(network)
    gates = tuple(
        Gate(name, scale * normal(HIDDEN, place.channels), normal(HIDDEN), 0.0, 0.5)
        for name, place in places.items()
        if name not in without
    )
    return Gates(gates, normal(HIDDEN, HIDDEN), normal(HIDDEN), 0.5)

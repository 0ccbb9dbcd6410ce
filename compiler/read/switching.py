"""Networks that skip parts of themselves, and change more than that when they do.

Adaptive Depth Networks (arXiv 2312.16392, section 3) give every mandatory block two sets of
norms and pick one by whether its stage's skippable half runs. No graph of the full network
holds both, so such a network is traced once per configuration. Tensors are stored by content,
so what the configurations have in common is stored once, kernels above all: batch norms stay
unfolded, since two sets of them share one kernel.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from skipc.compiler.errors import SupernetError
from skipc.compiler.network import Switching

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from skipc.compiler.network import Network


@runtime_checkable
class SwitchingNetwork(Protocol):
    """What a ``torch.nn.Module`` offers to be compiled that way."""

    def skippable(self) -> tuple[str, ...]:
        """Returns the names of what may be skipped, in network order."""

    def set_skipped(self, names: Collection[str]) -> None:
        """Makes the next forward pass leave out ``names``, and run everything else."""


def in_forms(network: SwitchingNetwork, model: str, trace: Callable[[], Network]) -> Network:
    """Returns a switching network whole; each of its forms is traced when first asked for.

    Raises:
        SupernetError: It does not name what may be skipped, each once.
    """
    names = tuple(network.skippable())
    if not names:
        raise SupernetError(
            f"{model}: its skippable() names nothing. Return the names of what"
            " set_skipped() can leave out, in network order."
        )
    if len(set(names)) < len(names):
        raise SupernetError(f"{model}: its skippable() gives a name twice: {names}.")

    @functools.cache
    def without(skipped: frozenset[str]) -> Network:
        network.set_skipped(skipped)
        try:
            return replace(trace(), switching=switching)
        finally:
            network.set_skipped(())

    switching = Switching(names, without)
    return without(frozenset())

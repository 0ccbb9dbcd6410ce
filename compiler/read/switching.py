"""Networks that skip parts of themselves, and change more than that when they do.

Adaptive Depth Networks (arXiv 2312.16392, section 3) give every mandatory block two sets of
norms and pick one by whether its stage's skippable half runs. No graph of the full network
holds both, so such a network is traced once per configuration. Tensors are stored by content,
so what the configurations have in common is stored once, kernels above all: batch norms stay
unfolded, since two sets of them share one kernel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from skipc.compiler.errors import SupernetError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from skipc.compiler.network import Network


@runtime_checkable
class SwitchingNetwork(Protocol):
    """What a ``torch.nn.Module`` offers to be compiled that way."""

    def skippable(self) -> tuple[str, ...]:
        """Returns the names of what may be skipped, in network order."""
        ...

    def set_skipped(self, names: Collection[str]) -> None:
        """Makes the next forward pass leave out ``names``, and run everything else."""
        ...


class Forms:
    """The forms of a switching network, each traced when it is first asked for.

    Args:
        module: The network.
        trace: Traces it as it is.
    """

    def __init__(self, module: SwitchingNetwork, trace: Callable[[], Network]) -> None:
        self._module = module
        self._trace = trace
        self._known: dict[frozenset[str], Network] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What may be left out.

        Raises:
            SupernetError: The network names nothing, or one thing twice.
        """
        model = self.without(frozenset()).description
        names = tuple(self._module.skippable())
        if not names:
            raise SupernetError(
                f"{model}: its skippable() names nothing. Return the names of what"
                " set_skipped() can leave out, in network order."
            )
        if len(set(names)) < len(names):
            raise SupernetError(f"{model}: its skippable() gives a name twice: {names}.")
        return names

    def without(self, names: frozenset[str]) -> Network:
        """Returns the network without ``names``."""
        if names not in self._known:
            self._module.set_skipped(names)
            try:
                self._known[names] = replace(self._trace(), switching=self)
            finally:
                self._module.set_skipped(())
        return self._known[names]

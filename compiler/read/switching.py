"""Networks that skip parts of themselves, and change more than that when they do.

Adaptive Depth Networks (arXiv 2312.16392, section 3) give every mandatory block two sets of
norms and pick one by whether its stage's skippable half runs. No graph of the full network
holds both, so such a network is traced once per configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Collection


@runtime_checkable
class SwitchingNetwork(Protocol):
    """What a ``torch.nn.Module`` offers to be compiled that way."""

    def skippable(self) -> tuple[str, ...]:
        """Returns the names of what may be skipped, in network order."""
        ...

    def set_skipped(self, names: Collection[str]) -> None:
        """Makes the next forward pass leave out ``names``, and run everything else."""
        ...

"""What an axis is: a kind of decision that is made when building."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.network import Network

C = TypeVar("C")
F = TypeVar("F", bound="Offer")

Genes = tuple[int, ...]
"""A choice as a search changes it: one value for each gene of its axis."""


@dataclass(frozen=True, slots=True)
class Gene:
    """One decision that a search makes.

    Attributes:
        axis: The axis' key.
        name: What is decided, e.g. a unit's name.
        values: How many values there are, 0 and up; 0 is the full network's.
        labels: What values from 1 on are called in the names of configurations; nothing where
            they are counted.
        beside: The axis without whose choice it means nothing; "" where there is none.
    """

    axis: str
    name: str
    values: int
    labels: tuple[str, ...] = ()
    beside: str = ""


class Option(Protocol):
    """Something that may be chosen."""

    @property
    def name(self) -> str:
        """What a front calls it."""

    @property
    def parameters(self) -> int:
        """Parameters that go when it alone is chosen."""

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations that go."""


class Offer(Protocol):
    """What may be chosen of a network.

    It lasts for one build: an axis keeps there what configurations have in common.
    """

    @property
    def options(self) -> Sequence[Option]:
        """What may be chosen, in network order; empty where the network is not asked."""
        return ()

    @property
    def names(self) -> tuple[str, ...]:
        """The options' names."""
        return tuple(option.name for option in self.options)

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know of the choices applied so far."""
        return ()

    @property
    def nothing(self) -> str:
        """Why a search has nothing to decide, where it has no genes."""
        return "`skipc units --all` says why"


class Axis(Protocol[C, F]):
    """A kind of decision. One that a configuration does not name is left alone.

    Attributes:
        key: Its key in a front's entries.
        after_norms: Whether it is applied after the configuration's norm statistics, which
            belong to the network's structure.
    """

    key: str
    after_norms: bool = False

    def offer(self, network: Network) -> F:
        """Returns what may be chosen."""

    def check(self, record: object, where: str) -> None:
        """Refuses with a ``FrontError`` at ``where`` what means nothing for any network."""
        return

    def read(self, record: object, offer: F, where: str) -> C:
        """Returns the choice that a front's entry names; a ``FrontError``: it is not offered.

        Args:
            record: What stands under the axis' key, checked.
            offer: What may be chosen.
            where: Names the entry, for messages.
        """

    def record(self, choice: C) -> object:
        """Returns what ``read`` returns ``choice`` for, as JSON."""
        return list(self.taken(choice))

    def apply(self, network: Network, choice: C, offer: F) -> Network:
        """Returns the network with the choice made: its graph and reference, by two means.

        Another choice may have been applied to it; ``offer`` is of the full network.
        """

    def share(self, network: Network, choice: C | None, offer: F) -> Network:
        """Returns the network, its norms folded, with tensors that more configurations share.

        It is asked for every configuration that is written; ``choice`` is None where it leaves
        the axis alone.
        """
        return network

    def genes(self, offer: F) -> tuple[Gene, ...]:
        """Returns what a search decides; nothing where it leaves the axis alone."""
        return ()

    def decode(self, genes: Genes, offer: F) -> C:
        """Returns the choice that a search made, a value for each gene."""
        raise LookupError(
            f"the axis {self.key!r} offers no genes, so there is nothing to decode."
        )

    def taken(self, choice: C) -> tuple[str, ...]:
        """Returns the choice in words, names of options where there are some."""

    def text(self, choice: C) -> str:
        """Returns the choice for tables and pages."""
        return ", ".join(self.taken(choice))


def first_names(names: Sequence[str]) -> str:
    """Returns the first two names, quoted."""
    shown_names = ", ".join(repr(name) for name in names[:2])
    return f"{shown_names} ..." if len(names) > 2 else shown_names or "none"

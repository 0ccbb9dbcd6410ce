"""Configurations while they are searched for: bits, what they scored, what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.compiler.select.pareto import ReferencePoint

Bits = tuple[bool, ...]
"""One configuration: an entry per unit in network order, True where it is skipped."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An evaluated configuration.

    Attributes:
        bits: The units it skips.
        score: The metric on the selection part; more is better (top-1: a fraction).
        cost: What is minimised, in the unit of the chosen cost.
    """

    bits: Bits
    score: float
    cost: float


@dataclass(frozen=True, slots=True)
class Space:
    """What a search may choose from.

    Attributes:
        units: The units' names in network order; ``Bits`` has one entry for each.
        free: Indices of the units that may be skipped (the others are kept by ``--keep``).
        stages: Where the network itself says so, the units that go together.
    """

    units: tuple[str, ...]
    free: tuple[int, ...]
    stages: tuple[tuple[int, ...], ...] = ()

    @property
    def full(self) -> Bits:
        """The configuration that skips nothing."""
        return (False,) * len(self.units)

    def skipping(self, indices: Sequence[int]) -> Bits:
        """Returns the configuration that skips the units with these indices."""
        chosen = set(indices)
        return tuple(index in chosen for index in range(len(self.units)))


class Evaluate(Protocol):
    """What a search is given to judge configurations with."""

    def __call__(self, batch: Sequence[Bits]) -> list[Candidate]:
        """Returns the candidates in the order of ``batch``.

        Those evaluated before cost nothing. Configurations that share a prefix are cheaper
        in one batch than apart.

        Raises:
            EvaluationsSpentError: The search's evaluations are used up; what was evaluated
                until then is kept.
            SelectError: A score is not a finite number.
        """
        ...

    @property
    def left(self) -> int:
        """How many configurations may still be evaluated."""
        ...

    @property
    def candidates(self) -> Mapping[Bits, Candidate]:
        """What was evaluated so far, by configuration."""
        ...

    @property
    def reference(self) -> ReferencePoint:
        """What bounds the hypervolume."""
        ...

    def cost(self, bits: Bits) -> float:
        """Returns what a configuration costs; this is no evaluation."""
        ...

    @property
    def front(self) -> tuple[Candidate, ...]:
        """What no other configuration beats so far, the cheapest first."""
        ...

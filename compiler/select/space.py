"""What a search chooses from, and configurations while they are searched for."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.axes.width import WidthAxis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skipc.compiler.axes.axis import Gene, Genes

MAX_CONFIGURATIONS = 1 << 12
"""So many are evaluated one and all, as those of twelve units; no more."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An evaluated configuration.

    Attributes:
        genes: What it is.
        score: The metric on the selection part; more is better (top-1: a fraction).
        cost: What is minimised, in the unit of the chosen cost.
    """

    genes: Genes
    score: float
    cost: float


@dataclass(frozen=True, slots=True)
class Space:
    """What a search may choose from.

    A *step* is a gene's place and a value of it other than 0.

    Attributes:
        genes: Every axis' genes; ``Genes`` has one value for each, 0 in the full network.
        free: Places of the genes that may be other than 0 (the others are kept by ``--keep``).
        stages: Where the network itself says so, the places of genes that go together.
    """

    genes: tuple[Gene, ...]
    free: tuple[int, ...]
    stages: tuple[tuple[int, ...], ...] = ()

    @property
    def full(self) -> Genes:
        """The full network."""
        return (0,) * len(self.genes)

    @property
    def units(self) -> tuple[int, ...]:
        """Places of the genes that say which units are skipped."""
        return tuple(g for g, gene in enumerate(self.genes) if gene.axis == SkipAxis.key)

    def skipped(self, genes: Genes) -> Genes:
        """Returns the values of the units' genes alone."""
        return tuple(genes[unit] for unit in self.units)

    def skipping(self, genes: Genes, skipped: Genes) -> Genes:
        """Returns a configuration with other values of the units' genes."""
        changed = dict(zip(self.units, skipped, strict=True))
        return tuple(changed.get(place, value) for place, value in enumerate(genes))

    def whole(self, genes: Genes) -> Genes:
        """Returns a configuration with no unit skipped, at full width: one network.

        Those with the same one are evaluated and counted together.
        """
        together = (SkipAxis.key, WidthAxis.key)
        return tuple(
            0 if gene.axis in together else value
            for gene, value in zip(self.genes, genes, strict=True)
        )

    def is_narrow(self, genes: Genes) -> bool:
        """Tells whether a configuration has fewer channels somewhere."""
        both = zip(self.genes, genes, strict=True)
        return any(value and gene.axis == WidthAxis.key for gene, value in both)

    def narrowing(self, genes: Genes) -> list[Genes]:
        """Returns a configuration narrower and narrower, by all that may be at once."""
        widths = [g for g in self.free if self.genes[g].axis == WidthAxis.key]
        most = max((self.genes[gene].values for gene in widths), default=1)
        return [
            tuple(
                min(step, self.genes[place].values - 1) if place in widths else value
                for place, value in enumerate(genes)
            )
            for step in range(1, most)
        ]

    @property
    def steps(self) -> tuple[tuple[int, int], ...]:
        """Every step that may be taken, gene by gene."""
        return tuple((g, v) for g in self.free for v in range(1, self.genes[g].values))

    @property
    def size(self) -> int:
        """How many configurations there are."""
        return math.prod(self.genes[gene].values for gene in self.free)

    @property
    def text(self) -> str:
        """How many genes are free, for messages."""
        count = Counter(self.genes[gene].axis for gene in self.free)
        return f"{len(self.free)} {'units' if set(count) == {SkipAxis.key} else 'decisions'}"

    def taking(self, steps: Iterable[tuple[int, int]]) -> Genes:
        """Returns the configuration of these steps, of those of one gene the largest."""
        values = [0] * len(self.genes)
        for gene, value in steps:
            values[gene] = max(values[gene], value)
        return self.sensible(tuple(values))

    def sensible(self, genes: Genes) -> Genes:
        """Returns a configuration without what means nothing beside its other choices."""
        taken = {gene.axis for gene, value in zip(self.genes, genes, strict=True) if value}
        return tuple(
            0 if gene.beside and gene.beside not in taken else value
            for gene, value in zip(self.genes, genes, strict=True)
        )

    def everything(self) -> list[Genes]:
        """Returns all configurations, the full network first."""
        values = (range(self.genes[gene].values) for gene in self.free)
        found = (
            self.taking(zip(self.free, chosen, strict=True))
            for chosen in itertools.product(*values)
        )
        return [*dict.fromkeys(found)]

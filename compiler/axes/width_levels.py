"""Widths that a search tries: groups that are alike become narrower together, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.graph.costs import parameters, total_macs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from skipc.compiler.axes.width_groups import Group

SHARES = (7 / 8, 3 / 4, 1 / 2)
"""What stays of a group's channels, step by step: each is rounded to what may stay."""

LEAST_SHARE = 0.02
"""Groups that together take less of a network, in operations and parameters, are left alone:
trying them would cost as much as trying those that matter."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Groups with as many channels, or heads, each: one decision of a search.

    Attributes:
        groups: The groups, in network order.
        counts: How many channels stay, the most first; all of them are none of these.
    """

    groups: tuple[Group, ...]
    counts: tuple[int, ...]

    @property
    def name(self) -> str:
        """The first group, and the counts, which scores depend on, too."""
        return f"{self.groups[0].name}:{'/'.join(map(str, self.counts))}"

    @property
    def text(self) -> str:
        """The same in words."""
        first, more = self.groups[0], len(self.groups) - 1
        counts = ", ".join(map(str, self.counts))
        like = f" and {more} like it" if more else ""
        return f"{first.name}{like}, {counts} of {first.channels} {first.kind}"


def alike_of(groups: Sequence[Group], model: ir.Model) -> tuple[Alike, ...]:
    """Returns what a search decides of the groups of a network."""
    by_size: dict[tuple[int, int], list[Group]] = {}
    for group in groups:
        by_size.setdefault((group.channels, group.size), []).append(group)
    macs, count = total_macs(model.graph), parameters(model.graph)
    return tuple(
        Alike(tuple(some), _counts(some[0]))
        for some in by_size.values()
        if sum(each.macs for each in some) >= LEAST_SHARE * macs
        or sum(each.parameters for each in some) >= LEAST_SHARE * count
    )


def _counts(group: Group) -> tuple[int, ...]:
    """Returns the counts that are nearest to the shares, each once; of two the larger."""
    possible = sorted(group.counts, reverse=True)
    near = [min(possible, key=lambda n: abs(n - share * group.channels)) for share in SHARES]
    return tuple(dict.fromkeys(near))

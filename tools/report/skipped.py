"""Whether the graphs skip what the manifest says: nodes of a unit, where kept and skipped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.runtime.bundle.manifest import Manifest
    from skipc.tools.report.subnets import Subnet


SKIP = "skip"
"""The key of the axis that this is about."""


class Evidence(Enum):
    """What the graphs say of a unit in a configuration; the value is shown."""

    KEPT = "kept"
    GONE = "skipped, no node left"
    LESS = "skipped, shortcut left"
    WRONG = "said to be skipped, but all its nodes are there"
    UNSEEN = "skipped, but the graph does not name its nodes"


@dataclass(frozen=True, slots=True)
class UnitInSubnet:
    """A unit in one configuration.

    Attributes:
        evidence: What the graph says.
        left: The operators left of a unit that is skipped, e.g. a projection's ``Conv``.
    """

    evidence: Evidence
    left: Mapping[str, int]


def states(manifest: Manifest, subnets: Mapping[str, Subnet]) -> dict[str, list[UnitInSubnet]]:
    """Returns by configuration a cell for each unit, in network order.

    What stays of a skipped unit is its shortcut, where that is a layer of its own, and what
    follows the join. It is compared with the configurations that keep the unit: fewer nodes,
    or the unit was not skipped.
    """
    units = manifest.options(SKIP)
    modules = [unit.name.partition("#")[0] for unit in units]
    held = {
        entry.name: _operators([subnets[graph.name] for graph in manifest.graphs_of(entry)])
        for entry in manifest.configurations
    }
    kept = [
        max(
            (
                sum(held[entry.name].get(module, {}).values())
                for entry in manifest.configurations
                if unit.name not in entry.taken(SKIP)
            ),
            default=0,
        )
        for unit, module in zip(units, modules, strict=True)
    ]
    shared = {module for module in modules if modules.count(module) > 1}
    rows = {}
    for entry in manifest.configurations:
        operators, skip = held[entry.name], set(entry.taken(SKIP))
        row = []
        for unit, module, before in zip(units, modules, kept, strict=True):
            if unit.name not in skip:
                row.append(UnitInSubnet(Evidence.KEPT, {}))
            else:
                seen = bool(operators) and module not in shared
                row.append(_skipped(operators.get(module, {}), before, seen))
        rows[entry.name] = row
    return rows


def _operators(subnets: Sequence[Subnet]) -> Mapping[str, Mapping[str, int]]:
    """Returns by module path the operators of all graphs that a configuration runs."""
    if len(subnets) == 1:
        return subnets[0].operators
    found: dict[str, Counter[str]] = {}
    for subnet in subnets:
        for module, operators in subnet.operators.items():
            found.setdefault(module, Counter()).update(operators)
    return found


def _skipped(left: Mapping[str, int], before: int, seen: bool) -> UnitInSubnet:
    count = sum(left.values())
    if not seen or (count and not before):
        return UnitInSubnet(Evidence.UNSEEN, {})
    if not count:
        return UnitInSubnet(Evidence.GONE, {})
    return UnitInSubnet(Evidence.LESS if count < before else Evidence.WRONG, left)

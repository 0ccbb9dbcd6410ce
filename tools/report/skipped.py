"""Whether the graphs skip what the manifest says: nodes of a unit, where kept and skipped."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.runtime.bundle.manifest import Manifest
    from skipc.tools.report.subnets import Subnet


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


def states(manifest: Manifest, subnets: Sequence[Subnet]) -> list[list[UnitInSubnet]]:
    """Returns a row for each configuration with a cell for each unit, in network order.

    What stays of a skipped unit is its shortcut, where that is a layer of its own, and what
    follows the join. It is compared with the subnets that keep the unit: fewer nodes, or the
    unit was not skipped.
    """
    modules = [unit.name.partition("#")[0] for unit in manifest.units]
    kept = [
        max(
            (
                sum(subnet.operators.get(module, {}).values())
                for entry, subnet in zip(manifest.configurations, subnets, strict=True)
                if unit.name not in entry.skip
            ),
            default=0,
        )
        for unit, module in zip(manifest.units, modules, strict=True)
    ]
    shared = {module for module in modules if modules.count(module) > 1}
    rows = []
    for entry, subnet in zip(manifest.configurations, subnets, strict=True):
        skip = set(entry.skip)
        row = []
        for unit, module, before in zip(manifest.units, modules, kept, strict=True):
            left = subnet.operators.get(module, {})
            if unit.name not in skip:
                row.append(UnitInSubnet(Evidence.KEPT, {}))
            else:
                seen = bool(subnet.operators) and module not in shared
                row.append(_skipped(left, before, seen))
        rows.append(row)
    return rows


def _skipped(left: Mapping[str, int], before: int, seen: bool) -> UnitInSubnet:
    count = sum(left.values())
    if not seen or (count and not before):
        return UnitInSubnet(Evidence.UNSEEN, {})
    if not count:
        return UnitInSubnet(Evidence.GONE, {})
    return UnitInSubnet(Evidence.LESS if count < before else Evidence.WRONG, left)

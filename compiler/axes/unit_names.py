"""Names of units: module paths that a reader recognises, the same for every export."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from skipc.compiler.graph.costs import node_macs
from skipc.compiler.graph.index import WORKING_OPS, common_calls, module_calls, numbered

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from skipc.compiler.axes.unit_rules import Candidate


def containers(found: Sequence[Candidate]) -> list[int | None]:
    """Returns for each unit the smallest one in whose branch it lies, by its place."""
    joins = [{cut.node for cut in unit.cuts} for unit in found]
    around: list[int | None] = [None] * len(found)
    for place in sorted(range(len(found)), key=lambda place: -len(found[place].gone)):
        gone = {str(node.outputs[0].name) for node in found[place].gone}
        for other, nodes in enumerate(joins):
            if nodes <= gone:
                around[other] = place
    return around


class UnitNames:
    """Names the units of a network.

    A unit is called after its module. Where others work there, too, it is called after the
    outermost module below that does its work alone: a block that the parent's forward joins,
    or a part of a block. One module that is used several times gives its name to each use.
    """

    def __init__(self, found: Sequence[Candidate], around: Sequence[int | None]) -> None:
        self._around = around
        inner = [
            {
                n
                for other, a in zip(found, around, strict=True)
                if a == place
                for n in other.gone
            }
            for place in range(len(found))
        ]
        # A helper node may carry another module's path: the exporter merges equal ones.
        workers = [[n for n in unit.gone if n.op_type in WORKING_OPS] for unit in found]
        own = [
            [node for node in nodes if node not in inside] or nodes
            for nodes, inside in zip(workers, inner, strict=True)
        ]
        self.modules = [
            # What is concatenated is so where it is read: in the next layer, for one.
            common_calls(map(module_calls, nodes if unit.features else [*nodes, unit.join]))
            for nodes, unit in zip(workers, found, strict=True)
        ]
        self._paths = [_paths(nodes) for nodes in own]
        self._users: dict[str, set[int]] = {}
        for place, nodes in enumerate(workers):
            for path in {path for node in nodes for path in module_calls(node)}:
                self._users.setdefault(path, set()).add(place)
        self._joins = [str(unit.join.outputs[0].name) for unit in found]

    def names(self) -> list[str]:
        """Returns one name per unit; what nothing tells apart is numbered."""
        names: dict[int, str] = {}
        for place in sorted(
            range(len(self._joins)), key=lambda place: len(self._outer(place))
        ):
            names[place] = self._name(place, names)
        return numbered([names[place] for place in range(len(names))])

    def _name(self, place: int, names: dict[int, str]) -> str:
        module = self.modules[place]
        candidates = [*module[-1:], *self._below(place, len(module))]
        for path in candidates:
            taken = any(
                name == path and not self._alike(place, other) for other, name in names.items()
            )
            if not taken and all(self._related(place, o) for o in self._users.get(path, ())):
                return path
        return next(iter(candidates), self._joins[place])

    def _below(self, place: int, depth: int) -> list[str]:
        """Returns the modules below the unit's own, outermost and then hardest first."""
        work = self._paths[place]
        below = [calls for calls in work if len(calls) > depth]
        ranked: list[str] = []
        for level in range(depth, max(map(len, below), default=0)):
            macs: Counter[str] = Counter()
            for calls in below:
                if len(calls) > level:
                    macs[calls[level]] += work[calls]
            ranked += [path for path, _ in macs.most_common()]
        return ranked

    def _related(self, place: int, other: int) -> bool:
        return (
            self._alike(place, other)
            or other in self._outer(place)
            or place in self._outer(other)
        )

    def _alike(self, place: int, other: int) -> bool:
        """Tells whether two units are the same modules, called again."""
        return self._paths[place].keys() == self._paths[other].keys()

    def _outer(self, place: int) -> list[int]:
        found = []
        around = self._around[place]
        while around is not None:
            found.append(around)
            around = self._around[around]
        return found


def _paths(nodes: Sequence[ir.Node]) -> Counter[tuple[str, ...]]:
    """Returns the work by module, called as it was."""
    work: Counter[tuple[str, ...]] = Counter()
    for node in nodes:
        work[module_calls(node)] += node_macs(node) + 1
    return work

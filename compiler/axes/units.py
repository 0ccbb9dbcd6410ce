"""Finding units: the joins ``Add(shortcut, branch)`` whose branch can be removed.

No table of architectures is needed: a join is recognised by how its operands depend on each
other in the exported graph.

* One operand is computed from the other (or from the value that an earlier join added to): it
  is the branch, the other the shortcut.
* Both are computed from one value, and one of them by at most one linear layer (a projection):
  that one is the shortcut.

The branch must do real work, must be read by nothing but the join, and the shortcut must have
the join's shape.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skipc.compiler.axes.axis import Offer
from skipc.compiler.cut import Cut
from skipc.compiler.graph.costs import node_macs, parameters, total_macs
from skipc.compiler.graph.index import (
    ACTIVATION_OPS,
    POOLING_OPS,
    WEIGHTED_OPS,
    GraphIndex,
    common_module,
    is_inside,
    module_path,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the supernet that may be skipped.

    Attributes:
        name: The module path, made unique where a module holds several units.
        join: Name of the join's output value.
        shortcut: Which operand of the join (0 or 1) stays when the unit is skipped.
        module: The innermost module that holds the branch and the join.
        parameters: Parameters that go when the unit alone is skipped.
        macs: Multiply-accumulate operations that go.
    """

    name: str
    join: str
    shortcut: int
    module: str
    parameters: int
    macs: int

    @property
    def cut(self) -> Cut:
        """The branch: the operand of the join that counts as zero when it is skipped."""
        return Cut(self.join, 1 - self.shortcut)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A join that is no unit, and why."""

    module: str
    join: str
    reason: str


@dataclass(frozen=True, slots=True)
class Units(Offer):
    """What was found in a supernet graph.

    Attributes:
        units: The units in network order.
        rejected: The joins that cannot be units, in network order.
        total_parameters: Parameters of the whole network.
        total_macs: Multiply-accumulate operations of the whole network.
    """

    units: tuple[Unit, ...]
    rejected: tuple[Rejected, ...]
    total_parameters: int
    total_macs: int

    @property
    def options(self) -> Sequence[Unit]:
        """The units."""
        return self.units


class _RejectionError(Exception):
    """Carries the reason why a join is no unit."""


@dataclass(frozen=True, slots=True)
class _Found:
    join: ir.Node
    shortcut: int
    branch_nodes: tuple[ir.Node, ...]


def find_units(model: ir.Model) -> Units:
    """Returns the units of ``model``, whose main graph must be topologically sorted.

    Nothing is changed. Adds of a constant (biases, position embeddings) are not listed.
    """
    index = GraphIndex(model.graph)
    finder = _Finder(index)
    found: list[_Found] = []
    rejected: list[Rejected] = []
    for node in index.nodes:
        if node.op_type != "Add" or node.domain not in ("", "ai.onnx"):
            continue
        left, right = node.inputs
        if (
            left is None
            or right is None
            or index.is_constant(left)
            or index.is_constant(right)
        ):
            continue
        try:
            found.append(finder.unit(node))
        except _RejectionError as rejection:
            rejected.append(
                Rejected(module_path(node), _name(node.outputs[0]), str(rejection))
            )
    return Units(
        units=_named(found),
        rejected=tuple(rejected),
        total_parameters=parameters(index.nodes),
        total_macs=total_macs(index.nodes),
    )


class _Finder:
    """Judges one join after the other, in network order, and remembers the units."""

    def __init__(self, index: GraphIndex) -> None:
        self._index = index
        # Join output -> its shortcut: a later branch may start from the stream before it
        # (parallel attention and MLP: (x + attention(x)) + mlp(x)).
        self._stream: dict[int, ir.Value] = {}

    def unit(self, join: ir.Node) -> _Found:
        """Returns the unit that ``join`` closes, or raises ``_RejectionError``."""
        left, right = join.inputs
        assert left is not None
        assert right is not None
        if left is right:
            raise _RejectionError("both operands are the same value")
        shortcut, region = self._shortcut(left, right)
        kept = join.inputs[shortcut]
        branch = join.inputs[1 - shortcut]
        assert kept is not None
        assert branch is not None
        _check_shapes(kept, join.outputs[0])
        dead = self._index.only_for(join, 1 - shortcut)
        self._check_single_exit(region & ~dead, dead, join)
        nodes = tuple(self._index.members(dead))
        if not any(node.op_type in WEIGHTED_OPS | POOLING_OPS for node in nodes):
            raise _RejectionError(
                "the branch does no work of its own (no convolution, matrix product or"
                " pooling goes when it is removed)"
            )
        self._stream[id(join.outputs[0])] = kept
        return _Found(join, shortcut, nodes)

    def _shortcut(self, left: ir.Value, right: ir.Value) -> tuple[int, int]:
        """Returns the shortcut's operand index and the nodes between it and the join."""
        index = self._index
        for operand, (kept, branch) in enumerate(((left, right), (right, left))):
            start: ir.Value | None = kept
            while start is not None:
                if index.bit(start) & index.ancestors(branch):
                    return operand, index.between(start, branch)
                start = self._stream.get(id(start))
        return self._projection(left, right)

    def _projection(self, left: ir.Value, right: ir.Value) -> tuple[int, int]:
        index = self._index
        common = index.ancestors(left) & index.ancestors(right)
        if not common:
            raise _RejectionError("the operands are computed from different inputs")
        sides = [index.members(index.ancestors(value) & ~common) for value in (left, right)]
        if not any(node.op_type in ACTIVATION_OPS for nodes in sides for node in nodes):
            raise _RejectionError(
                "both operands are linear projections of one value: neither is the branch"
            )
        linear = [_is_projection(nodes) for nodes in sides]
        if not any(linear):
            raise _RejectionError("two working branches are added: neither is a shortcut")
        branch = right if linear[0] else left
        return (0 if linear[0] else 1), index.ancestors(branch) & ~common

    def _check_single_exit(self, read_elsewhere: int, dead: int, join: ir.Node) -> None:
        """Refuses a branch whose work is also read by something other than the join.

        A norm or an activation may be shared, as parallel branches share their norm.
        """
        members = self._index.members(read_elsewhere)
        for node in reversed(members):
            if node.op_type in WEIGHTED_OPS | POOLING_OPS:
                inside = {id(member) for member in (*members, *self._index.members(dead))}
                raise _RejectionError(_exit_text(node, inside | {id(join)}))


def _exit_text(node: ir.Node, inside: set[int]) -> str:
    """Returns where the work of ``node`` leaves the branch other than through its join."""
    where = module_path(node) or _name(node.outputs[0])
    pending, seen = list(node.outputs), set(inside)
    for value in pending:
        if value.is_graph_output():
            return f"more than one exit: {where!r} also leads to the output {value.name!r}"
        for user in value.consumers():
            if id(user) not in inside:
                reader = module_path(user) or user.op_type
                return f"the branch is read elsewhere: {where!r} is also used in {reader!r}"
            if id(user) in seen:
                seen.discard(id(user))
                pending.extend(user.outputs)
    return f"the branch is read elsewhere: {where!r}"


def _is_projection(nodes: list[ir.Node]) -> bool:
    weighted = sum(node.op_type in WEIGHTED_OPS for node in nodes)
    return weighted <= 1 and not any(node.op_type in ACTIVATION_OPS for node in nodes)


def _check_shapes(shortcut: ir.Value, joined: ir.Value) -> None:
    if shortcut.shape is None or joined.shape is None:
        raise _RejectionError("a shape is unknown, so it cannot be seen whether it changes")
    if shortcut.shape != joined.shape:
        raise _RejectionError(
            f"the shape changes: shortcut {_dims(shortcut.shape)}, join {_dims(joined.shape)}"
        )


def _dims(shape: ir.Shape) -> str:
    return "x".join("?" if str(dim) == "None" else str(dim) for dim in shape)


def _named(found: list[_Found]) -> tuple[Unit, ...]:
    units = []
    for item in found:
        # A helper node may carry another module's path: the exporter merges equal ones.
        workers = [n for n in item.branch_nodes if n.op_type in WEIGHTED_OPS | POOLING_OPS]
        paths = [module_path(node) for node in (*workers, item.join)]
        units.append(
            Unit(
                name="",
                join=_name(item.join.outputs[0]),
                shortcut=item.shortcut,
                module=common_module(paths),
                parameters=parameters(item.branch_nodes),
                macs=total_macs(item.branch_nodes),
            )
        )
    names = _unique_names(units, found)
    return tuple(replace(unit, name=name) for unit, name in zip(units, names, strict=True))


def _unique_names(units: list[Unit], found: list[_Found]) -> list[str]:
    """Returns a name per unit: its module, or its working child where units share a module.

    What neither tells apart is numbered in network order.
    """
    names: dict[int, str] = {}
    for i, (unit, item) in enumerate(zip(units, found, strict=True)):
        if unit.module and not _shares_module(unit, item, units):
            names[i] = unit.module
    own = set(names.values())
    for i, (unit, item) in enumerate(zip(units, found, strict=True)):
        if i not in names:
            children = _children(unit.module, item.branch_nodes)
            free = [child for child in children if child not in own]
            names[i] = free[0] if free else unit.module
    bases = []
    for i, unit in enumerate(units):
        # One module used several times (tied weights) is called by its own name.
        alike = {names[j] for j, u in enumerate(units) if is_inside(u.module, unit.module)}
        repeated = sum(name == names[i] for name in names.values()) > 1
        bases.append(unit.module if repeated and len(alike) == 1 else names[i])
    return _numbered([base or unit.join for base, unit in zip(bases, units, strict=True)])


def _shares_module(unit: Unit, item: _Found, units: list[Unit]) -> bool:
    """Tells whether another unit lies in the module of ``unit`` and not in its branch."""
    inner = {_name(node.outputs[0]) for node in item.branch_nodes}
    return any(
        other is not unit and is_inside(other.module, unit.module) and other.join not in inner
        for other in units
    )


def _children(module: str, nodes: tuple[ir.Node, ...]) -> list[str]:
    """Returns the paths of the children of ``module`` that work, the hardest first."""
    work: Counter[str] = Counter()
    start = len(module) + 1 if module else 0
    for node in nodes:
        path = module_path(node)
        if path != module and node.op_type in WEIGHTED_OPS | POOLING_OPS:
            child = path[start:].split(".")[0]
            work[f"{module}.{child}" if module else child] += node_macs(node) + 1
    return [child for child, _ in work.most_common()]


def _numbered(names: list[str]) -> list[str]:
    """Returns ``names`` with ``#1``, ``#2`` ... behind those that occur more than once."""
    counts = Counter(names)
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name}#{seen[name]}" if counts[name] > 1 else name)
    return unique


def _name(value: ir.Value) -> str:
    return value.name or ""

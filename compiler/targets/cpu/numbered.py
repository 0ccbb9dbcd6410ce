"""A graph whose values are known by what they are, and what a unit is to one of them.

Values are numbered as compilers do it: a value's number is made of the operator that computes
it, its attributes, and the numbers of what that reads; a weight's of what it holds. So equal
numbers in two graphs, whatever their names, are the same computation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from skipc.compiler.targets.cpu.optimized import UnsuitedError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_NUMBER_BYTES = 16


class NumberedGraph:
    """An ONNX graph with its values' numbers.

    Attributes:
        model: The model; its external data stays where it is.
        nodes: The graph's nodes, in order.
        weights: The initializers, by name.
        numbers: The number of each value.
        makers: By value, the place of the node that computes it.
    """

    def __init__(self, path: Path, data: Path | None = None) -> None:
        """Reads a graph.

        Args:
            path: The graph.
            data: Its external data, which is read; None where a place in it says enough.
        """
        self.model = onnx.load(str(path), load_external_data=False)
        graph = self.model.graph
        self.nodes = tuple(graph.node)
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        blob = _mapped(data)
        self.numbers = {value.name: _number("input", value.name) for value in graph.input}
        self.numbers |= {n: _weight_number(t, blob) for n, t in self.weights.items()}
        self.numbers[""] = b""
        self.makers: dict[str, int] = {}
        self._kinds: list[tuple[object, ...]] = []
        for place, node in enumerate(self.nodes):
            attributes = sorted(_attribute(each) for each in node.attribute)
            kind = (node.domain, node.op_type, *attributes, *map(bool, node.output))
            number = _number(*kind, *(self.numbers[name] for name in node.input))
            self._kinds.append(kind)
            for index, name in enumerate(node.output):
                if name:
                    self.numbers[name] = number + bytes([index])
                    self.makers[name] = place
        self.ends = tuple(value.name for value in graph.output)

    def same(self, other: NumberedGraph) -> bool:
        """Tells whether both compute the same outputs in the same way."""
        mine, theirs = ([g.numbers[e] for e in g.ends] for g in (self, other))
        return mine == theirs and self.ends == other.ends

    def names(self) -> dict[bytes, str]:
        """Returns the first value of each number."""
        found: dict[bytes, str] = {}
        for name, number in self.numbers.items():
            found.setdefault(number, name)
        return found

    def form(self, name: str) -> tuple[object, ...] | None:
        """Returns how a value is computed, whatever data goes in; None if no node does."""
        if name not in self.makers:
            return None
        place = self.makers[name]
        node = self.nodes[place]
        read = (self.numbers[n] if n in self.weights or not n else b"data" for n in node.input)
        return (*self._kinds[place], *read, [*node.output].index(name))

    def data_of(self, name: str) -> tuple[str, ...]:
        """Returns what the node that computes a value reads, without weights."""
        node = self.nodes[self.makers[name]]
        return tuple(n for n in node.input if n and n not in self.weights)


@dataclass(frozen=True, slots=True)
class Replacement:
    """What stands for a value where a unit is skipped.

    Attributes:
        nodes: Computes it; reads values of the full graph and ``weights``.
        weights: What the full graph does not have.
        value: Its name: made by ``nodes``, or a value of the full graph.
    """

    nodes: tuple[onnx.NodeProto, ...]
    weights: tuple[onnx.TensorProto, ...]
    value: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it reads, its own and weights included."""
        return (*(name for node in self.nodes for name in node.input if name), self.value)


@dataclass(frozen=True, slots=True)
class Difference:
    """What skipping a unit changes.

    Attributes:
        region: The nodes of the full graph that are needed only with it.
        replaced: What stands for the values where its region ends.
    """

    region: frozenset[int]
    replaced: Mapping[str, Replacement]


def difference(
    full: NumberedGraph, without: NumberedGraph, unit: str, earlier: Container[str]
) -> Difference:
    """Returns what skipping a unit changes in an optimised graph.

    Both graphs are followed from their outputs, towards the inputs, as long as both do the
    same: there the region ends.

    Args:
        full: The full network's graph.
        without: The graph without the unit.
        unit: Its name.
        earlier: Where the regions of units before it end.

    Raises:
        UnsuitedError: The graphs cannot be laid side by side.
    """
    known, there = full.names(), set(without.numbers.values())
    paired: dict[str, str] = {}
    behind: set[int] = set()
    ends: dict[str, str] = {}
    pending = [(name, name) for name in full.ends]
    while pending:
        mine, theirs = pending.pop()
        if full.numbers[mine] == without.numbers[theirs]:
            continue
        if mine in paired:
            if paired[mine] != theirs:
                raise UnsuitedError(f"skipping {unit!r} makes {mine!r} two different values")
            continue
        paired[mine] = theirs
        inner = _inner_pairs(full, mine, without, theirs)
        # A value that both graphs have is where the stream goes on without the unit. What only
        # looks alike because one norm or activation follows both is followed up further.
        shared = known.get(without.numbers[theirs])
        if not inner or shared in earlier or (shared and len(inner) > 1):
            ends[mine] = theirs
            continue
        behind.add(full.makers[mine])
        pending += inner
    region = frozenset(
        place
        for place, node in enumerate(full.nodes)
        if place not in behind
        and not any(full.numbers[name] in there for name in node.output if name)
    )
    outside = [name for name in ends if full.makers.get(name) not in region]
    if outside or not ends:
        raise UnsuitedError(f"skipping {unit!r} changes the network in an unknown way")
    replaced = {
        mine: _replacement(f"{unit}:{mine}", known, without, theirs)
        for mine, theirs in ends.items()
    }
    return Difference(region, replaced)


def _inner_pairs(
    full: NumberedGraph, mine: str, without: NumberedGraph, theirs: str
) -> list[tuple[str, str]]:
    """Returns what two values differ in, where they are computed alike; none where not."""
    form = full.form(mine)
    if form is None or form != without.form(theirs):
        return []
    both = zip(full.data_of(mine), without.data_of(theirs), strict=True)
    return [(a, b) for a, b in dict.fromkeys(both) if full.numbers[a] != without.numbers[b]]


def _replacement(
    prefix: str, known: Mapping[bytes, str], without: NumberedGraph, value: str
) -> Replacement:
    """Returns what computes a value of the smaller graph from those of the full one."""
    new: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    for place in sorted(_needed(known, without, value)):
        node = onnx.NodeProto()
        node.CopyFrom(without.nodes[place])
        for index, name in enumerate(node.input):
            number = without.numbers[name]
            if name in without.weights and number not in known and name not in new:
                weights.append(_own(without.weights[name], f"{prefix}:{name}"))
                new[name] = weights[-1].name
            node.input[index] = known.get(number, new.get(name, ""))
        for index, name in enumerate(node.output):
            if name:
                new[name] = node.output[index] = f"{prefix}:{name}"
        nodes.append(node)
    found = known.get(without.numbers[value]) or new[value]
    return Replacement(tuple(nodes), tuple(weights), found)


def _needed(known: Mapping[bytes, str], without: NumberedGraph, value: str) -> set[int]:
    """Returns the nodes between the values that both graphs have and one that they do not."""
    found: set[int] = set()
    pending = [value]
    while pending:
        name = pending.pop()
        place = without.makers.get(name)
        if without.numbers[name] not in known and place is not None and place not in found:
            found.add(place)
            pending += [each for each in without.nodes[place].input if each]
    return found


def _own(weight: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """Returns a weight under a new name."""
    if weight.data_location == onnx.TensorProto.EXTERNAL:
        raise UnsuitedError(f"without the unit ONNX Runtime wants {weight.name!r} otherwise")
    copy = onnx.TensorProto()
    copy.CopyFrom(weight)
    copy.name = name
    return copy


def _number(*parts: object) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=_NUMBER_BYTES).digest()


def _weight_number(tensor: onnx.TensorProto, data: NDArray[np.uint8] | None) -> bytes:
    shape = (*tensor.dims, tensor.data_type)
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return _number("weight", shape, onnx.numpy_helper.to_array(tensor).tobytes())
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place, size = int(entries.get("offset", "0")), int(entries.get("length", "0"))
    if data is None:
        return _number("weight", shape, entries["location"], place, size)
    content = hashlib.blake2b(data[place : place + size].data, digest_size=_NUMBER_BYTES)
    return _number("weight", shape, content.digest())


def _attribute(attribute: onnx.AttributeProto) -> bytes:
    copy = onnx.AttributeProto()
    copy.CopyFrom(attribute)
    copy.ClearField("doc_string")
    return bytes(copy.SerializeToString(deterministic=True))


def _mapped(path: Path | None) -> NDArray[np.uint8] | None:
    if path is None:
        return None
    if not path.exists() or not path.stat().st_size:  # all tensors are small
        return np.zeros(0, np.uint8)
    return np.memmap(path, np.uint8, "r")


def subgraphs_in(nodes: Sequence[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    """Returns the nodes that hold graphs themselves."""
    return (n for n in nodes if any(a.HasField("g") or a.graphs for a in n.attribute))

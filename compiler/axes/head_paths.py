"""Following heads of attention through a graph, from what makes them to what mixes them.

A head is a slice of every tensor between: of the queries, keys and values, which one layer may
make together, of the scores, and of what they weigh. Where one tensor's head is known, those
of its neighbours follow, until layers with weights end it on all sides.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

from skipc.compiler.axes.channel_paths import ONE_BY_ONE
from skipc.compiler.axes.channels import Carrier, Channels, PerChannel, entries
from skipc.compiler.graph.costs import shape_at_batch_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx_ir as ir


class HeadsRefusedError(Exception):
    """Carries why heads cannot be followed."""


class Place(NamedTuple):
    """Where heads lie in a tensor.

    Attributes:
        axis: The dimension.
        outer: How often all heads follow each other there: 3 in queries, keys and values that
            are made together.
        inner: How many entries of a head lie side by side.
    """

    axis: int
    outer: int = 1
    inner: int = 1


def find_heads(graph: ir.Graph) -> Iterator[Channels]:
    """Yields the heads of each attention that can be followed, in network order."""
    seen: set[ir.Value] = set()
    for node in graph:
        if _mixes_data(node) and node.outputs[0] not in seen:
            sizes = shape_at_batch_one(node.outputs[0]) or []
            for axis, size in enumerate(sizes[:-2]):
                if size > 1:
                    try:
                        paths = HeadPaths(graph, node.outputs[0], Place(axis), size)
                    except HeadsRefusedError:
                        continue
                    seen |= paths.places.keys()
                    yield paths.found


class HeadPaths:
    """Follows the heads of one attention.

    Args:
        graph: The graph, topologically sorted.
        start: A product of data, one for each head.
        place: Where they lie in it.
        count: How many there are.

    Raises:
        HeadsRefusedError: They cannot be followed to layers on all sides.
    """

    def __init__(self, graph: ir.Graph, start: ir.Value, place: Place, count: int) -> None:
        self.found = Channels(count, [], [])
        self.places: dict[ir.Value, Place] = {}
        self._pending: list[ir.Node] = []
        self._done: set[tuple[str, str, int]] = set()
        self._put(start, place)
        while self._pending:
            node = self._pending.pop()
            known = node.domain in ("", "ai.onnx")
            rule = _RULES.get(node.op_type) if known else None
            if rule is None:
                raise HeadsRefusedError(f"they meet the operator {node.op_type}")
            rule(self, node)
        if not self.found.makers or not self.found.mixed:
            raise HeadsRefusedError("no layers make and mix them")
        order = {node: number for number, node in enumerate(graph)}
        self.found.makers.sort(key=order.__getitem__)
        self.found.carriers = [Carrier(_name(v), *place) for v, place in self.places.items()]
        self.found.size = max(each.inner for each in self.found.read)

    def _put(self, value: ir.Value | None, place: Place) -> None:
        """Notes where heads lie in a tensor, which must fit what is known of it."""
        assert value is not None
        if value in self.places:
            if self.places[value] != place:
                raise HeadsRefusedError("heads are mixed with each other")
            return
        sizes = shape_at_batch_one(value)
        producer = value.producer()
        if sizes is None or producer is None or value.is_graph_output():
            raise HeadsRefusedError("they are an input or an output")
        if sizes[place.axis] != place.outer * self.found.channels * place.inner:
            raise HeadsRefusedError("a part of the heads alone is read")
        self.places[value] = place
        self._pending += [producer, *value.consumers()]

    def _note(
        self, where: list[PerChannel], node: ir.Node, operand: int, place: Place
    ) -> bool:
        """Notes a constant operand once; tells whether it is new."""
        key = _name(node.outputs[0]), node.op_type, operand
        new = key not in self._done
        if new:
            self._done.add(key)
            if where is not self.found.sizes:
                self.found.entries += entries(
                    node, [PerChannel(_name(node.outputs[0]), operand, 0)]
                )
            where.append(PerChannel(_name(node.outputs[0]), operand, *place))
        return new

    def moved(self, node: ir.Node) -> None:
        """What treats each number alone, or those beside each other within a head."""
        self._same(node.inputs[0], node.outputs[0])

    def beside(self, node: ir.Node) -> None:
        """What looks at all numbers along other dimensions: softmax, a norm."""
        data, result = node.inputs[0], node.outputs[0]
        place = self.places[data if data in self.places else result]
        rank = len(_sizes(result))
        axis = node.attributes.get_int("axis", -1) % rank
        over = axis == place.axis if node.op_type in _SOFTMAX else axis <= place.axis
        if over:
            raise HeadsRefusedError(f"{node.op_type} looks at all heads")
        self._same(data, result)

    def joined(self, node: ir.Node) -> None:
        """What treats numbers of several operands together, one by one."""
        result = node.outputs[0]
        rank = len(_sizes(result))
        if result not in self.places:
            held = next(v for v in node.inputs if v is not None and v in self.places)
            axis, outer, inner = self.places[held]
            self._put(result, Place(axis + rank - len(_sizes(held)), outer, inner))
        axis, outer, inner = self.places[result]
        for operand, value in enumerate(node.inputs):
            if value is None:
                continue
            sizes = _sizes(value)
            there = axis - (rank - len(sizes))
            if there < 0 or sizes[there] == 1:
                continue
            if value.const_value is None:
                self._put(value, Place(there, outer, inner))
            else:
                self._note(self.found.passed, node, operand, Place(there, outer, inner))

    def transposed(self, node: ir.Node) -> None:
        """Dimensions in another order."""
        data, result = node.inputs[0], node.outputs[0]
        order = list(node.attributes.get_ints("perm", ()))
        order = order or list(range(len(_sizes(result))))[::-1]
        if data in self.places:
            axis, *rest = self.places[data]
            self._put(result, Place(order.index(axis), *rest))
        else:
            axis, *rest = self.places[result]
            self._put(data, Place(order[axis], *rest))

    def reshaped(self, node: ir.Node) -> None:
        """The same numbers in other dimensions."""
        data, result = node.inputs[0], node.outputs[0]
        assert data is not None
        for before, after in ((data, result), (result, data)):
            if before in self.places:
                place = self.places[before]
                sizes = _sizes(before), _sizes(after)
                self._put(after, _replaced(*sizes, place, self.found.channels))
        if node.op_type == "Reshape":
            target = node.inputs[1]
            shape = None if target is None else target.const_value
            if shape is None:
                raise HeadsRefusedError("they are brought to a computed shape")
            place = self.places[result]
            if int(shape.numpy()[place.axis]) > 0:
                self._note(self.found.sizes, node, 1, place)

    def sliced(self, node: ir.Node) -> None:
        """A part along another dimension, or one of the parts in which all heads lie."""
        data, result = node.inputs[0], node.outputs[0]
        numbers = [_numbers(value) for value in node.inputs[1:]]
        if len(numbers) < 3 or any(len(each) != 1 for each in numbers):
            raise HeadsRefusedError("they meet a computed slice")
        (start,), (end,), (axis,), *steps = numbers
        if steps not in ([], [[1]]):
            raise HeadsRefusedError("they meet a slice with steps")
        axis %= len(_sizes(result))
        self._parted(data, result, axis, start)
        place = self.places[result]
        if place.axis == axis:
            once, whole = self.found.channels * place.inner, _sizes(data)[axis]
            for operand, edge in ((1, start), (2, end)):
                if 0 < edge <= whole:
                    self._note(
                        self.found.sizes, node, operand, Place(0, edge // once, place.inner)
                    )

    def split(self, node: ir.Node) -> None:
        """Parts along a dimension, as of a slice each."""
        data, start = node.inputs[0], 0
        assert data is not None
        axis = node.attributes.get_int("axis", 0) % len(_sizes(data))
        for result in node.outputs:
            if data in self.places or result in self.places:
                self._parted(data, result, axis, start)
            start += _sizes(result)[axis]
        sizes = node.inputs[1] if len(node.inputs) > 1 else None
        if self.places[data].axis == axis and sizes is not None:
            raise HeadsRefusedError("they are split by sizes that are given")

    def gathered(self, node: ir.Node) -> None:
        """One place along another dimension."""
        data, result, index = node.inputs[0], node.outputs[0], node.inputs[1]
        if index is None or index.const_value is None or index.const_value.size != 1:
            raise HeadsRefusedError("they meet a gathering")
        at = node.attributes.get_int("axis", 0) % len(_sizes(data))
        gone = len(_sizes(data)) - len(_sizes(result))
        if data in self.places:
            axis, *rest = self.places[data]
            if axis == at:
                raise HeadsRefusedError("one head alone is read")
            self._put(result, Place(axis - gone * (axis > at), *rest))
        else:
            axis, *rest = self.places[result]
            self._put(data, Place(axis + gone * (axis >= at), *rest))

    def product(self, node: ir.Node) -> None:
        """A product of data, head by head; or a layer, which makes heads or mixes them."""
        data, weight = node.inputs[:2]
        if _is_data(data) and _is_data(weight):
            self._data_product(node)
        elif not _is_data(weight) and len(_sizes(weight)) == 2:
            self._layer(node, len(_sizes(node.outputs[0])) - 1, 0, 1)
        else:
            raise HeadsRefusedError("they are multiplied by a constant")

    def gemm(self, node: ir.Node) -> None:
        """A linear layer on rows."""
        if _is_data(node.inputs[1]) or _turned(node, "transA"):
            raise HeadsRefusedError("they are multiplied by data")
        made = 0 if _turned(node, "transB") else 1
        self._layer(node, 1, 1 - made, made)
        result, bias = node.outputs[0], node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None and result in self.places:
            if bias.const_value is None:
                raise HeadsRefusedError("they have a computed bias")
            _, outer, inner = self.places[result]
            self._note(self.found.made, node, 2, Place(len(_sizes(bias)) - 1, outer, inner))

    def _layer(self, node: ir.Node, last: int, mixed: int, made: int) -> None:
        """Ends heads at a layer with weights: it makes them, or mixes them."""
        data, result, found = node.inputs[0], node.outputs[0], self.found
        held = [self.places[value] for value in (data, result) if value in self.places]
        if len(held) > 1 or held[0].axis != last:
            raise HeadsRefusedError("a layer has them in another dimension")
        (place,) = held
        if result in self.places:
            if self._note(found.made, node, 1, place._replace(axis=made)):
                found.makers.append(node)
        elif self._note(found.mixed, node, 1, place._replace(axis=mixed)):
            found.read.append(Carrier(_name(data), *place))
            found.mixers.append(node)

    def _data_product(self, node: ir.Node) -> None:
        operands, result = node.inputs, node.outputs[0]
        rank = len(_sizes(result))
        if any(len(_sizes(value)) != rank for value in operands):
            raise HeadsRefusedError("they are multiplied by what has fewer dimensions")
        place = next(self.places[v] for v in (*operands, result) if v in self.places)
        if place.axis >= rank - 2:
            raise HeadsRefusedError("heads are mixed with each other")
        for value in (*operands, result):
            if _sizes(value)[place.axis] != 1:
                self._put(value, place)
        if node not in self.found.mixers:
            self.found.mixers.append(node)

    def _same(self, data: ir.Value | None, result: ir.Value) -> None:
        if data in self.places:
            self._put(result, self.places[data])
        else:
            self._put(data, self.places[result])

    def _parted(self, data: ir.Value | None, result: ir.Value, axis: int, start: int) -> None:
        """Follows heads through a part of a tensor along a dimension."""
        known = self.places[data if data in self.places else result]
        if known.axis != axis:
            self._same(data, result)
            return
        whole, part = _sizes(data)[axis], _sizes(result)[axis]
        once = self.found.channels * known.inner
        if whole % once or part % once or start % once:
            raise HeadsRefusedError("a part of the heads alone is read")
        self._put(data, known._replace(outer=whole // once))
        self._put(result, known._replace(outer=part // once))


def _replaced(before: list[int], after: list[int], place: Place, count: int) -> Place:
    """Returns where heads lie once the same numbers have other dimensions."""
    front = prod(before[: place.axis]) * place.outer
    behind = place.inner * prod(before[place.axis + 1 :])
    for axis, size in enumerate(after):
        above, below = prod(after[:axis]), prod(after[axis + 1 :])
        if front % above or behind % below:
            continue
        outer, inner = front // above, behind // below
        if outer * count * inner == size:
            return Place(axis, outer, inner)
    raise HeadsRefusedError("they are reshaped across their bounds")


def _turned(node: ir.Node, name: str) -> bool:
    return bool(node.attributes.get_int(name, 0))


def _numbers(value: ir.Value | None) -> list[int]:
    """Returns the numbers of a constant; none of what is computed."""
    tensor = None if value is None else value.const_value
    return [] if tensor is None else [int(each) for each in tensor.numpy().reshape(-1)]


def _mixes_data(node: ir.Node) -> bool:
    """Tells whether a node multiplies data with data, as scores are made."""
    return node.op_type == "MatMul" and all(
        value is not None and _is_data(value) and value.producer() is not None
        for value in node.inputs
    )


def _is_data(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is None


def _sizes(value: ir.Value | None) -> list[int]:
    sizes = shape_at_batch_one(value)
    if sizes is None:
        raise HeadsRefusedError("a shape is unknown")
    return sizes


def _name(value: ir.Value | None) -> str:
    assert value is not None
    return str(value.name)


_SOFTMAX = frozenset({"LogSoftmax", "Softmax"})

_RULES: dict[str, Callable[[HeadPaths, ir.Node], None]] = {
    **dict.fromkeys(ONE_BY_ONE | {"IsNaN", "Not"}, HeadPaths.moved),
    **dict.fromkeys(
        ("Add", "And", "Div", "Max", "Min", "Mul", "Or", "Pow", "Sub", "Where"),
        HeadPaths.joined,
    ),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), HeadPaths.reshaped),
    **dict.fromkeys((*_SOFTMAX, "LayerNormalization", "RMSNormalization"), HeadPaths.beside),
    "Gather": HeadPaths.gathered,
    "Gemm": HeadPaths.gemm,
    "MatMul": HeadPaths.product,
    "Slice": HeadPaths.sliced,
    "Split": HeadPaths.split,
    "Transpose": HeadPaths.transposed,
}
"""By operator, where heads lie in its other tensors."""

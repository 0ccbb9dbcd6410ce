"""Following channels through a graph: from the layer that makes them to what mixes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.axes.channels import Carrier, Channels, PerChannel, entries
from skipc.compiler.graph.batch_norms import is_norm
from skipc.compiler.graph.index import (
    ACTIVATION_OPS,
    WORKING_OPS,
    GraphIndex,
    inner_nodes,
    module_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx_ir as ir

_OVER_AN_AXIS = frozenset({"LogSoftmax", "Softmax"})
ONE_BY_ONE = (ACTIVATION_OPS - _OVER_AN_AXIS - {"PRelu"}) | {
    "Abs", "Cast", "Dropout", "Identity", "Log", "Neg", "Reciprocal", "Sqrt",
}  # fmt: skip
_TWO_BY_TWO = frozenset({"Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub"})
_SUMS = frozenset({"Add", "Sub"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool"})
_REDUCTIONS = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}
)


class ChannelPaths:
    """Follows channels, node by node in network order."""

    def __init__(self, graph: ir.Graph) -> None:
        self._index = GraphIndex(graph)
        self._at: dict[ir.Value, tuple[Channels, int]] = {}
        self._all: list[Channels] = []
        self._joined: dict[int, Channels] = {}

    @property
    def found(self) -> list[Channels]:
        """What was followed, in network order."""
        return [each for each in self._all if id(each) not in self._joined]

    def follow(self, node: ir.Node) -> None:
        """Follows channels through a node, and those that it makes."""
        held = [v for v in node.inputs if v is not None and v in self._at]
        known = node.domain in ("", "ai.onnx")
        rule = _RULES.get(node.op_type, ChannelPaths.moved) if known else None
        if rule is None or not rule(self, node):
            for value in held:
                self.refuse(value, _meets(node))
        for inner in inner_nodes(node):
            for outer in inner.inputs:
                if outer is not None:
                    self.refuse(outer, _meets(node))

    def refuse(self, value: ir.Value, reason: str) -> None:
        """Says why the channels of a tensor, if it has some, cannot be followed."""
        if value in self._at:
            found = self._of(value)[0]
            found.reason = found.reason or reason

    def moved(self, node: ir.Node) -> bool:
        """What treats each channel alone, by nothing of its own."""
        axis, where = self._axis(node), _PLACES.get(node.op_type)
        place = None if axis is None or where is None else where(node, axis)
        return place is not None and self._pass(node, axis=place)

    def conv(self, node: ir.Node) -> bool:
        """A convolution mixes channels and makes others, or filters each alone."""
        weight, groups = _shape(node, 1), node.attributes.get_int("group", 1)
        if weight is None or not _is_constant(node, 1, 2):
            return False
        if groups == 1:
            mixed = self._mix(node, 1, PerChannel(_name(node), 1, 1))
            self._make(node, 1, weight[0], 0)
            return mixed
        if groups != weight[0] or weight[1] != 1 or self._axis(node) != 1:
            return False
        self._of(node.inputs[0])[0].depthwise.append(node)
        return self._pass(node, _own(node, 1, 2))

    def conv_transpose(self, node: ir.Node) -> bool:
        """A transposed convolution; what it reads comes first in its weight."""
        weight = _shape(node, 1)
        if weight is None or not _is_constant(node, 1, 2):
            return False
        if node.attributes.get_int("group", 1) != 1:
            return False
        mixed = self._mix(node, 1, PerChannel(_name(node), 1, 0))
        self._make(node, 1, weight[1], 1)
        return mixed

    def gemm(self, node: ir.Node) -> bool:
        """A linear layer on rows."""
        weight = _shape(node, 1)
        if weight is None or not _is_constant(node, 1, 2):
            return False
        if node.attributes.get_int("transA", 0):
            return False
        made = 0 if node.attributes.get_int("transB", 0) else 1
        mixed = self._mix(node, 1, PerChannel(_name(node), 1, 1 - made))
        self._make(node, 1, weight[made], made)
        return mixed

    def matmul(self, node: ir.Node) -> bool:
        """A linear layer on the last dimension."""
        weight, result = _shape(node, 1), node.outputs[0].shape
        if weight is None or len(weight) != 2 or result is None or not _is_constant(node, 1):
            return False
        last = len(result) - 1
        mixed = self._mix(node, last, PerChannel(_name(node), 1, 0))
        self._make(node, last, weight[1], 1)
        return mixed

    def binary(self, node: ir.Node) -> bool:
        """What treats pairs of numbers: of channels that go together, or with one for each."""
        result = node.outputs[0].shape
        values = [value for value in node.inputs if value is not None]
        held = [value for value in values if value in self._at]
        if result is None or not held or any(value.shape is None for value in values):
            return False
        places = {self._of(v)[1] + len(result) - len(v.shape or ()) for v in held}
        if len(places) > 1 or (node.op_type in _SUMS and self._works_between(held)):
            return False
        (axis,) = places
        found, _ = self._of(held[0])
        if any(self._of(value)[0].channels != found.channels for value in held):
            return False
        own = []
        for place, value in enumerate(values):
            there = axis - (len(result) - len(value.shape or ()))
            if value in held or there < 0 or (value.shape or ())[there] == 1:
                continue
            if value.const_value is None:
                return False
            own.append(PerChannel(_name(node), place, there))
        for value in held[1:]:
            self._unite(found, self._of(value)[0])
        return self._pass(node, own, axis)

    def norm(self, node: ir.Node) -> bool:
        """A batch norm."""
        if not is_norm(node) or self._axis(node) != 1:
            return False
        self._of(node.inputs[0])[0].norms.append(node)
        return self._pass(node, _own(node, 1, 2, 3, 4))

    def instance_norm(self, node: ir.Node) -> bool:
        """A norm over the positions of each channel."""
        channels = _is_constant(node, 1, 2) and self._axis(node) == 1
        return channels and self._pass(node, _own(node, 1, 2))

    def reshape(self, node: ir.Node) -> bool:
        """Dimensions of size 1 that come or go."""
        axis, before, after = self._axis(node), _shape(node, 0), node.outputs[0].shape
        if axis is None or before is None or after is None:
            return False
        here, there = ([p for p, d in enumerate(s) if d != 1] for s in (before, after))
        if axis not in here or _texts(before, here) != _texts(list(after), there):
            return False
        place = there[here.index(axis)]
        if node.op_type == "Reshape":
            target = node.inputs[1].const_value if node.inputs[1] is not None else None
            if target is None:
                return False
            size = int(target.numpy()[place])
            found, _ = self._of(node.inputs[0])
            if size == found.channels:
                found.sizes.append(PerChannel(_name(node), 1, place))
            elif size != -1 and (size != 0 or place != axis):
                return False
        return self._pass(node, axis=place)

    def _axis(self, node: ir.Node) -> int | None:
        """Returns where the channels of the first operand lie; None: another has some, too."""
        held = [v for v in node.inputs if v is not None and v in self._at]
        first = node.inputs[0] if node.inputs else None
        return self._of(first)[1] if len(held) == 1 and held[0] is first else None

    def _of(self, value: ir.Value | None) -> tuple[Channels, int]:
        assert value is not None
        found, axis = self._at[value]
        while id(found) in self._joined:
            found = self._joined[id(found)]
        return found, axis

    def _make(self, node: ir.Node, axis: int, channels: object, weight_axis: int) -> None:
        if not isinstance(channels, int) or self._index.is_constant(node.outputs[0]):
            return
        made = [PerChannel(_name(node), 1, weight_axis)]
        bias = _shape(node, 2)
        if bias is not None and bias[-1] == channels:
            made.append(PerChannel(_name(node), 2, len(bias) - 1))
        found = Channels(channels, [node], made, entries=entries(node, made))
        self._all.append(found)
        self._carry(node, found, axis)

    def _mix(self, node: ir.Node, axis: int, weight: PerChannel) -> bool:
        """Ends the channels of a layer's operand, if it has some: the layer mixes them."""
        if all(value not in self._at for value in node.inputs if value is not None):
            return True
        if self._axis(node) != axis:
            return False
        found, _ = self._of(node.inputs[0])
        found.mixed.append(weight)
        found.mixers.append(node)
        found.entries += entries(node, [weight])
        assert node.inputs[0] is not None
        found.read.append(Carrier(str(node.inputs[0].name), axis))
        return True

    def _pass(
        self, node: ir.Node, own: Sequence[PerChannel] = (), axis: int | None = None
    ) -> bool:
        """Lets channels through, with the constants that the node has for each of them."""
        first = next(v for v in node.inputs if v is not None and v in self._at)
        found, before = self._of(first)
        found.passed += own
        found.entries += entries(node, own)
        self._carry(node, found, before if axis is None else axis)
        return True

    def _carry(self, node: ir.Node, found: Channels, axis: int) -> None:
        self._at[node.outputs[0]] = found, axis
        found.carriers.append(Carrier(_name(node), axis))

    def _unite(self, first: Channels, second: Channels) -> None:
        if first is second:
            return
        if self._all.index(second) < self._all.index(first):  # the first gives the name
            first, second = second, first
        self._joined[id(second)] = first
        first.join(second)

    def _works_between(self, values: Sequence[ir.Value]) -> bool:
        """Tells whether a sum joins branches: arithmetic has no work between its operands."""
        if len(values) < 2:
            return False
        left, right = (self._index.ancestors(value) for value in values[:2])
        return any(n.op_type in WORKING_OPS for n in self._index.members(left ^ right))


_RULES: dict[str, Callable[[ChannelPaths, ir.Node], bool]] = {
    "BatchNormalization": ChannelPaths.norm,
    "Conv": ChannelPaths.conv,
    "ConvTranspose": ChannelPaths.conv_transpose,
    "Flatten": ChannelPaths.reshape,
    "Gemm": ChannelPaths.gemm,
    "InstanceNormalization": ChannelPaths.instance_norm,
    "MatMul": ChannelPaths.matmul,
    "Reshape": ChannelPaths.reshape,
    "Squeeze": ChannelPaths.reshape,
    "Unsqueeze": ChannelPaths.reshape,
    **dict.fromkeys(_TWO_BY_TWO, ChannelPaths.binary),
}
"""By operator, what becomes of channels; False where they cannot be followed through it."""


def _same(node: ir.Node, axis: int) -> int | None:
    return axis


def _beside_softmax(node: ir.Node, axis: int) -> int | None:
    shape = node.outputs[0].shape
    if shape is None:
        return None
    return None if node.attributes.get_int("axis", -1) % len(shape) == axis else axis


def _pooled(node: ir.Node, axis: int) -> int | None:
    return axis if axis == 1 and len(node.outputs) == 1 else None


def _padded(node: ir.Node, axis: int) -> int | None:
    sizes = node.inputs[1] if len(node.inputs) > 1 else None
    if sizes is None or sizes.const_value is None or len(node.inputs) > 3:
        return None
    pads = sizes.const_value.numpy()
    return None if pads[[axis, axis + len(pads) // 2]].any() else axis


def _resized(node: ir.Node, axis: int) -> int | None:
    """By factors; where sizes are given, they name the number of channels."""
    before, after = _shape(node, 0), node.outputs[0].shape
    if before is None or after is None or _shape(node, 3) is not None:
        return None
    return axis if before[axis] == after[axis] else None


def _reduced(node: ir.Node, axis: int) -> int | None:
    shape, axes = _shape(node, 0), _axes(node)
    if shape is None or not axes:
        return None
    over = {one % len(shape) for one in axes}
    if axis in over:
        return None
    kept = node.attributes.get_int("keepdims", 1)
    return axis if kept else axis - sum(one < axis for one in over)


def _transposed(node: ir.Node, axis: int) -> int | None:
    shape = node.outputs[0].shape
    if shape is None:
        return None
    turned = tuple(reversed(range(len(shape))))
    return list(node.attributes.get_ints("perm", turned)).index(axis)


_PLACES: dict[str, Callable[[ir.Node, int], int | None]] = {
    "Pad": _padded,
    "Resize": _resized,
    "Transpose": _transposed,
    "Upsample": _resized,
    **dict.fromkeys(ONE_BY_ONE, _same),
    **dict.fromkeys(_OVER_AN_AXIS, _beside_softmax),
    **dict.fromkeys(_POOLS, _pooled),
    **dict.fromkeys(_REDUCTIONS, _reduced),
}
"""By operator, in which dimension channels lie afterwards; None where they are mixed."""


def _meets(node: ir.Node) -> str:
    where = module_path(node)
    what = f"the operator {node.op_type}"
    if node.op_type in _SUMS:
        what = "a residual sum"
    elif node.op_type == "Conv":
        what = "a grouped convolution"
    return f"they meet {what}{f' in module {where!r}' if where else ''}"


def _own(node: ir.Node, *places: int) -> list[PerChannel]:
    """Returns those operands that are there; channels lie in their first dimension."""
    return [PerChannel(_name(node), place, 0) for place in places if _shape(node, place)]


def _shape(node: ir.Node, place: int) -> list[int | ir.SymbolicDim] | None:
    value = node.inputs[place] if len(node.inputs) > place else None
    return None if value is None or value.shape is None else list(value.shape)


def _texts(sizes: Sequence[object], places: Sequence[int]) -> list[str]:
    return [str(sizes[place]) for place in places]


def _is_constant(node: ir.Node, *places: int) -> bool:
    """Tells whether these operands, where they are there, are constant."""
    return all(
        value is None or value.const_value is not None
        for value in (node.inputs[place] for place in places if place < len(node.inputs))
    )


def _axes(node: ir.Node) -> list[int]:
    """Returns what a reduction goes over; nothing where that is all, or not known."""
    if "axes" in node.attributes:
        return list(node.attributes.get_ints("axes", ()))
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or value.const_value is None:
        return []
    return [int(axis) for axis in value.const_value.numpy().reshape(-1)]


def _name(node: ir.Node) -> str:
    return str(node.outputs[0].name)

"""The rules by which a join is a unit: which operand is the branch, and what may not be one.

A join is an addition (or a subtraction) of two computed values. No table of architectures is
needed: it is recognised by how its operands depend on each other in the exported graph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.cut import Cut
from skipc.compiler.graph.index import (
    ACTIVATION_OPS,
    STREAM_KEY,
    WORKING_OPS,
    GraphIndex,
    constant_outputs,
    module_path,
)
from skipc.compiler.graph.operands import operand

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


_JOIN_OPS = frozenset({"Add", "Sub"})

_PRODUCTS = frozenset({"Div", "Einsum", "Gemm", "MatMul", "Mul"})

_ELEMENTWISE = frozenset(
    {
        "Add", "Cast", "Clip", "Div", "Dropout", "Expand", "Identity", "Max", "Min", "Mul",
        "Neg", "Pad", "Reshape", "Slice", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
        "Where",
    }
)  # fmt: skip


def is_addition(node: ir.Node) -> bool:
    """Tells whether ``node`` is ONNX's addition."""
    return node.op_type == "Add" and node.domain in ("", "ai.onnx")


class RefusedError(Exception):
    """Carries the reason why a join is no unit."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A join whose operands have their roles.

    Attributes:
        join: The addition, or the first concatenation.
        shortcut: Which operand stays; None of a concatenation: all others.
        own: What the shortcut is computed by from what both operands are computed from.
        branch: What the branch is computed by from there.
        cuts: What counts as zero when it is skipped.
        gone: What nothing needs any more then, in order.
        features: The name of what is concatenated; "" of an addition.
        lost: Parameters and operations that go with that elsewhere.
    """

    join: ir.Node
    shortcut: int | None
    own: tuple[ir.Node, ...]
    branch: tuple[ir.Node, ...]
    cuts: tuple[Cut, ...] = ()
    gone: tuple[ir.Node, ...] = ()
    features: str = ""
    lost: tuple[int, int] = (0, 0)

    @property
    def kept(self) -> ir.Value:
        """The shortcut of an addition."""
        assert self.shortcut is not None
        return operand(self.join, self.shortcut)


class Rules:
    """Judges one join after the other, in network order, and remembers the streams."""

    def __init__(self, index: GraphIndex) -> None:
        self._index = index
        # A join's output -> its shortcut: a later branch may start from the stream before it
        # (parallel attention and MLP: (x + attention(x)) + mlp(x)).
        self._streams: dict[ir.Value, ir.Value] = {}
        self._beside: set[Cut] = set()

    def is_join(self, node: ir.Node) -> bool:
        """Tells whether ``node`` adds two values of which either may be a branch.

        A constant is a bias or a position embedding, unless the other operand is computed from
        it: a stream may start from a parameter (queries, a class token). A difference without
        work between its operands is arithmetic (``x - mean(x)``).
        """
        if node.op_type not in _JOIN_OPS or node.domain not in ("", "ai.onnx"):
            return False
        left, right = operand(node, 0), operand(node, 1)
        index = self._index
        if index.is_constant(left) or index.is_constant(right):
            constant, other = (left, right) if index.is_constant(left) else (right, left)
            return (
                not index.is_constant(other)
                and constant.shape == node.outputs[0].shape
                and (STREAM_KEY in node.metadata_props or index.reads(other, constant))
            )
        between = index.members(index.ancestors(left) ^ index.ancestors(right))
        return node.op_type == "Add" or works(between)

    def unit(self, join: ir.Node) -> Candidate:
        """Returns the unit that ``join`` closes; a ``RefusedError`` says why there is none."""
        left, right = operand(join, 0), operand(join, 1)
        if left is right:
            raise RefusedError("both operands are the same value")
        found = self._from_stream(join) or self._projected(join)
        if join.op_type == "Sub" and found.shortcut == 1:
            raise RefusedError("the shortcut is subtracted: without the branch it is negated")
        for rule in BEFORE_CUTTING:
            if reason := rule(found, self._index):
                raise RefusedError(reason)
        found = _cut(found, self._index, self._beside)
        for rule in AFTER_CUTTING:
            if reason := rule(found, self._index):
                raise RefusedError(reason)
        self._streams[join.outputs[0]] = found.kept
        self._beside.update(found.cuts[1:])
        return found

    def _from_stream(self, join: ir.Node) -> Candidate | None:
        """One operand is computed from the other, or from the stream that this continues."""
        for shortcut in (0, 1):
            branch = operand(join, 1 - shortcut)
            start: ir.Value | None = operand(join, shortcut)
            if start is not None and self._index.is_constant(start):
                return Candidate(join, shortcut, (), ())
            while start is not None:
                if self._index.reads(branch, start):
                    return Candidate(
                        join, shortcut, (), tuple(self._index.between(start, branch))
                    )
                start = self._streams.get(start)
        return None

    def _projected(self, join: ir.Node) -> Candidate:
        """Both are computed from one value, one by linear layers alone: the shortcut."""
        reached = [self._index.ancestors(operand(join, side)) for side in (0, 1)]
        common = reached[0] & reached[1]
        if not common:
            raise RefusedError("the operands are computed from different inputs")
        sides = [tuple(self._index.members(side & ~common)) for side in reached]
        if not any(map(_activates, sides)):
            raise RefusedError(
                "both operands are linear projections of one value: neither is the branch"
            )
        for shortcut in (0, 1):
            if not _activates(sides[shortcut]):
                return Candidate(join, shortcut, sides[shortcut], sides[1 - shortcut])
        raise RefusedError("two working branches are added: neither is a shortcut")


def keeps_the_shape(found: Candidate, index: GraphIndex) -> str | None:
    """What reads the sum must be able to read the shortcut."""
    kept, joined = found.kept.shape, found.join.outputs[0].shape
    if kept is None or joined is None:
        return "a shape is unknown, so it cannot be seen whether it changes"
    if kept != joined:
        return f"the shape changes: shortcut {_dims(kept)}, join {_dims(joined)}"
    return None


def is_no_score(found: Candidate, index: GraphIndex) -> str | None:
    """What a softmax makes weights of (attention scores) is no stream of data."""
    pending, softmax = list(found.join.outputs), []
    for value in pending:
        for user in value.consumers():
            if user.op_type == "Softmax":
                softmax.append(user)
            elif user.op_type in _ELEMENTWISE:
                pending += [each for each in user.outputs if each not in pending]
            else:
                return None
    # Weights are read by a product; what reaches an output as it is are probabilities.
    behind = [user.outputs[0] for user in softmax]
    for value in behind:
        if value.is_graph_output():
            return None
        passed = [user for user in value.consumers() if user.op_type in _ELEMENTWISE]
        behind += [user.outputs[0] for user in passed if user.outputs[0] not in behind]
    if not softmax:
        return None
    return "the sum is turned into weights by a softmax (attention scores): it is no stream"


def is_not_gated(found: Candidate, index: GraphIndex) -> str | None:
    """A gate would go on scaling the shortcut: ``(1 - g) x`` is no stream without a block."""
    for node in found.own:
        factors = [v for v in node.inputs if v is not None and not index.is_constant(v)]
        if node.op_type not in _PRODUCTS or len(factors) < 2:
            continue
        between = index.members(index.ancestors(factors[0]) ^ index.ancestors(factors[1]))
        if _has(between, WORKING_OPS | ACTIVATION_OPS):
            return (
                "the shortcut is multiplied by a computed value (a gate), which would stay"
                " without the branch"
            )
    return None


def does_work(found: Candidate, index: GraphIndex) -> str | None:
    """Skipping must save something that nothing else needs."""
    if works(found.gone):
        return None
    stays = [node for node in found.branch if node.op_type in WORKING_OPS]
    if stays:
        return _exit_text(stays[-1], {*found.branch, found.join})
    return (
        "the branch does no work of its own (no convolution, matrix product or pooling goes"
        " when it is removed)"
    )


def still_reads_an_input(found: Candidate, index: GraphIndex) -> str | None:
    """Where the shortcut is constant, the outputs must depend on the inputs by other ways."""
    if not index.is_constant(found.kept):
        return None
    if all(map(index.is_constant, constant_outputs(index.graph, found.cuts))):
        return None
    return "the shortcut is constant: without the branch an output would ignore the inputs"


BEFORE_CUTTING = (keeps_the_shape, is_no_score, is_not_gated)
AFTER_CUTTING = (does_work, still_reads_an_input)
"""What a join must be, one rule after the other; each returns why it is not."""


def _cut(found: Candidate, index: GraphIndex, before: Collection[Cut]) -> Candidate:
    """Returns the candidate with what is cut, and what goes with it."""
    assert found.shortcut is not None
    branch = 1 - found.shortcut
    cuts = [Cut(str(found.join.outputs[0].name), branch)]
    gone = index.only_for(cuts)
    if not works(gone):
        cuts += _further_parts(operand(found.join, branch), before)
        gone = index.only_for(cuts)
    return replace(found, cuts=tuple(cuts), gone=gone)


def _further_parts(value: ir.Value, before: Collection[Cut]) -> list[Cut]:
    """Returns where the other parts of a branch end that is wider than the stream.

    One part is added to the stream, the others are set beside it: ``cat(f(x)[:, :c] + x,
    f(x)[:, c:])``. Nothing is returned where one of them is read by anything else, or has
    nothing beside it but what other units cut ``before``.
    """
    part = value.producer()
    whole = part.inputs[0] if part is not None and part.op_type in ("Slice", "Split") else None
    if whole is None or whole.is_graph_output():
        return []
    cuts = []
    parts = {output for user in whole.consumers() for output in user.outputs}
    for user in whole.consumers():
        for output in user.outputs:
            for reader, place in () if output is value else output.uses():
                name = str(reader.outputs[0].name)
                alone = all(
                    each in parts or Cut(name, at) in before
                    for at, each in enumerate(reader.inputs)
                )
                if reader.op_type != "Concat" or alone or output.shape is None:
                    return []
                if not isinstance(output.shape[reader.attributes.get_int("axis", 0)], int):
                    return []
                cuts.append(Cut(name, place))
        if user.op_type not in ("Slice", "Split"):
            return []
    return cuts


def works(nodes: Iterable[ir.Node]) -> bool:
    """Tells whether there is work among nodes: convolutions, matrix products, pooling."""
    return _has(nodes, WORKING_OPS)


def _activates(nodes: Iterable[ir.Node]) -> bool:
    return _has(nodes, ACTIVATION_OPS) or any(map(_clips, nodes))


def _clips(node: ir.Node) -> bool:
    """Tells whether rounding to integers cuts off what is below 0, as the Relu there did."""
    if node.op_type != "QuantizeLinear" or len(node.inputs) < 3:
        return False
    point = ir.convenience.get_const_tensor(operand(node, 2))
    if point is None or point.size != 1:
        return False
    return int(point.numpy().reshape(-1)[0]) == np.iinfo(point.dtype.numpy()).min


def _has(nodes: Iterable[ir.Node], operators: Collection[str]) -> bool:
    return any(node.op_type in operators for node in nodes)


def _dims(shape: ir.Shape) -> str:
    return "x".join("?" if str(dim) == "None" else str(dim) for dim in shape)


def _exit_text(node: ir.Node, inside: set[ir.Node]) -> str:
    """Returns where the work of ``node`` leaves the branch other than through its join."""
    where = module_path(node) or node.outputs[0].name
    pending, seen = list(node.outputs), set(inside)
    for value in pending:
        if value.is_graph_output():
            return f"more than one exit: {where!r} also leads to the output {value.name!r}"
        for user in value.consumers():
            if user not in inside:
                reader = module_path(user) or user.op_type
                return f"the branch is read elsewhere: {where!r} is also used in {reader!r}"
            if user in seen:
                seen.discard(user)
                pending.extend(user.outputs)
    return f"the branch is read elsewhere: {where!r}"

"""Dense layers: what is concatenated for later layers, found, left out, and stored once.

A layer's *features* are a tensor that is set beside what it is computed from. Without them,
what mixes the concatenated channels reads as many fewer: norms and activations before it treat
each channel alone, so the others are the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.concatenations import find_concatenations
from skipc.compiler.axes.unit_rules import Candidate, RefusedError, does_work, works
from skipc.compiler.cut import Cut, Narrowed
from skipc.compiler.errors import UnitError
from skipc.compiler.graph.passes.drop_operands import DropOperandsPass
from skipc.compiler.graph.passes.narrow import NarrowPass
from skipc.compiler.graph.passes.split_channels import SplitChannelsPass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import onnx_ir as ir

    from skipc.compiler.axes.concatenations import Concatenations
    from skipc.compiler.graph.index import GraphIndex
    from skipc.compiler.graph.passes.narrow import NarrowTensors
    from skipc.compiler.network import Network, Reference


class DenseRules:
    """Judges what is concatenated, each tensor where it first is, in network order."""

    def __init__(self, index: GraphIndex, found: Concatenations) -> None:
        self._index = index
        self._found = found
        self._judged: set[ir.Value] = set()

    def features(self, join: ir.Node) -> Iterator[ir.Value]:
        """Yields the operands of a concatenation that layers compute from other operands."""
        for value in dict.fromkeys(join.inputs):
            if value is None or value in self._judged:
                continue
            self._judged.add(value)
            if any(
                works(self._index.between(start, value)) for start in self._starts(join, value)
            ):
                yield value

    def unit(self, join: ir.Node, features: ir.Value) -> Candidate:
        """Returns the unit that makes features; a ``RefusedError`` says why there is none."""
        cuts, users = [], {}
        for user, place in features.uses():
            if user.op_type == "Concat":
                cuts.append(Cut(str(user.outputs[0].name), place))
                users[cuts[-1].node] = user
        for name, user in users.items():
            known = self._found.by_name.get(name)
            if known is None:
                raise RefusedError(
                    "a size is unknown that its features are concatenated along"
                )
            if known.reason:
                raise RefusedError(f"what its features become cannot be fewer: {known.reason}")
            if not any(True for _ in self._starts(user, features)):
                raise RefusedError(f"its features are not computed from what is in {name!r}")
        starts = [*self._starts(join, features)]
        if self._goes_on(features, starts):
            raise RefusedError("it is a residual stream, which goes on from something else")
        start = starts[0]
        lost = [0, 0]
        kept = self._found.spread({str(features.name): 0}, 1)
        for name, each in self._found.by_name.items():
            gone = 1 - kept[name].mean()
            lost[0] += round(gone * each.group.parameters)
            lost[1] += round(gone * each.group.macs)
        found = Candidate(
            join,
            None,
            (),
            tuple(self._index.between(start, features)),
            tuple(cuts),
            self._index.only_for(cuts),
            str(features.name),
            (lost[0], lost[1]),
        )
        if reason := does_work(found, self._index):
            raise RefusedError(reason)
        return found

    def beside(self, join: ir.Node) -> bool:
        """Tells whether branches are concatenated that all work on the same."""
        values = [v for v in join.inputs if v is not None and not self._index.is_constant(v)]
        if len(values) < 2 or any(any(self._starts(join, value)) for value in values):
            return False
        index = self._index
        reached = [index.ancestors(value) for value in values]
        return all(
            works(index.members(reached[0] & ~other))
            and works(index.members(other & ~reached[0]))
            for other in reached[1:]
        )

    def _goes_on(self, value: ir.Value, starts: Sequence[ir.Value]) -> bool:
        """Tells whether something is added that comes from none of the other operands."""
        producer = value.producer()
        if producer is None or producer.op_type != "Add":
            return False
        return not all(
            self._index.is_constant(each)
            or any(each is start or self._index.reads(each, start) for start in starts)
            for each in producer.inputs
            if each is not None
        )

    def _starts(self, join: ir.Node, value: ir.Value) -> Iterator[ir.Value]:
        """Yields the other operands that one is computed from."""
        for other in join.inputs:
            if other is None or other is value or self._index.is_constant(other):
                continue
            if self._index.reads(value, other):
                yield other


def readable(model: ir.Model, reference: Reference) -> Collection[str]:
    """Returns the features that the reference can be without, too, by name."""
    found = find_concatenations(model)
    unknown = {
        each.name
        for each in found.by_name.values()
        if not all(reference.can_narrow(carrier.value) for carrier in each.group.read)
    }
    names = {name for each in found.by_name.values() for name in each.operands}
    return {
        name
        for name in names
        if all(
            kept.all() for each, kept in found.spread({name: 0}, 1).items() if each in unknown
        )
    }


def without_features(
    network: Network, features: Collection[str], tensors: NarrowTensors
) -> Network:
    """Returns the network without some features; nothing of what computed them is removed.

    In the reference the channels are zero in every tensor that has them.

    Raises:
        UnitError: A head reads them in a way that does not let them go.
    """
    found = find_concatenations(network.model)
    for each in found.by_name.values():
        if each.reason and set(each.operands) & set(features):
            raise UnitError(f"{each.name!r} cannot have fewer channels: {each.reason}.")
    kept = found.spread(dict.fromkeys(features, 0), 1)
    narrow, zero, channels = [], [], dict(network.channels)
    for name, each in found.by_name.items():
        stays = kept[name] != 0
        if stays.all():
            continue
        narrow.append((each.group, stays))
        channels |= dict.fromkeys(each.group.norms, stays)
        zero += [
            Narrowed(carrier.value, carrier.axis, stays)
            for carrier in each.group.carriers
            if network.reference.can_narrow(carrier.value)
        ]
    model = network.model.clone()
    NarrowPass(narrow, tensors)(model)
    DropOperandsPass(features)(model)
    return replace(
        network,
        model=model,
        reference=network.reference.with_narrowed(zero),
        channels=channels,
    )


def shared_by_presence(network: Network, skips: Mapping[str, Collection[int]]) -> Network:
    """Returns the network with a kernel for each class of channels that come and go together.

    Args:
        network: The network, its norms folded.
        skips: By features' name, the configurations that are without them.
    """
    classes = {frozenset[int](): 0}
    for configurations in sorted(skips.values(), key=len):
        classes.setdefault(frozenset(configurations), len(classes))
    numbers = {name: classes[frozenset(skips[name])] for name in skips}
    if len(classes) < 2:
        return network
    found = find_concatenations(network.model)
    by_channel = found.spread(numbers, 0)
    split = []
    for name, each in found.by_name.items():
        present = np.unique(by_channel[name])
        if not each.reason and len(present) > 1:
            parts = [np.flatnonzero(by_channel[name] == number) for number in present]
            split.append((each.group, parts))
    if not split:
        return network
    model = network.model.clone()
    SplitChannelsPass(split)(model)
    return replace(network, model=model)

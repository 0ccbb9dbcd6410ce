"""Width: how many channels of its inner layers a configuration has."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from skipc.compiler.axes.axis import Axis, Gene, Genes, Offer
from skipc.compiler.axes.width_groups import SPLIT, find_groups
from skipc.compiler.axes.width_levels import alike_of
from skipc.compiler.cut import Narrowed
from skipc.compiler.errors import FrontError
from skipc.compiler.graph.index import is_inside
from skipc.compiler.graph.operands import GAMMA, constant_array
from skipc.compiler.graph.passes.narrow import NarrowPass, NarrowTensors
from skipc.compiler.graph.passes.split_channels import SplitChannelsPass
from skipc.runtime.errors import choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.axes.channels import PerChannel
    from skipc.compiler.axes.width_groups import Group
    from skipc.compiler.axes.width_levels import Alike
    from skipc.compiler.family import Family
    from skipc.compiler.network import Network


class Width(NamedTuple):
    """How many channels of a group stay.

    Attributes:
        group: The group's name.
        kept: How many stay.
        channels: How many the full network has.
    """

    group: str
    kept: int
    channels: int

    @property
    def name(self) -> str:
        """What it is called: the group and the number."""
        return f"{self.group}:{self.kept}"


class WidthOption(NamedTuple):
    """A width as something that may be chosen, and what goes with it."""

    name: str
    parameters: int
    macs: int


Widths = tuple[Width, ...]
"""The groups that are narrowed, in network order."""


@dataclass(frozen=True)
class WidthOffer(Offer):
    """The groups of a network.

    Attributes:
        groups: In network order.
        refused: By name why other channels are no group.
        model: The full network's graph.
        tensors: Makes narrow tensors, once for all configurations.
        counts: By group how many channels the configurations that were read keep.
    """

    groups: tuple[Group, ...]
    refused: Mapping[str, str]
    model: ir.Model
    tensors: NarrowTensors = field(default_factory=NarrowTensors)
    counts: dict[str, set[int]] = field(default_factory=dict)
    _orders: dict[str, NDArray[np.intp]] = field(default_factory=dict)

    @property
    def options(self) -> Sequence[WidthOption]:
        """The widths that configurations have: there are too many more."""
        found = []
        for group in self.groups:
            for count in sorted(self.counts.get(group.name, ()), reverse=True):
                gone = 1 - count / group.channels
                found.append(
                    WidthOption(
                        Width(group.name, count, group.channels).name,
                        round(gone * group.parameters),
                        round(gone * group.macs),
                    )
                )
        return found

    @cached_property
    def alike(self) -> tuple[Alike, ...]:
        """What a search decides."""
        return alike_of(self.groups, self.model)

    def kept(self, group: Group, count: int) -> NDArray[np.bool_]:
        """Returns which channels of a group stay: the ``count`` most important ones.

        The order is the same for every configuration: a narrow one's are among a wide one's.
        """
        kept = np.zeros(group.channels, bool)
        kept[self._order(group)[:count]] = True
        return kept

    def parts(self, group: Group, count: int) -> list[NDArray[np.intp]]:
        """Returns the kept channels, numbered from 0, in parts that configurations share.

        A part ends where a configuration's channels do: a common refinement of all.
        """
        rank = np.argsort(self._order(group))[self.kept(group, count)]
        ends = sorted(self.counts.get(group.name, ()))
        part = np.searchsorted(ends, rank, "right")
        return [np.flatnonzero(part == number) for number in np.unique(part)]

    def _order(self, group: Group) -> NDArray[np.intp]:
        if group.name not in self._orders:
            score = importance(group, self.model)
            self._orders[group.name] = np.argsort(-score, kind="stable")
        return self._orders[group.name]


class WidthAxis(Axis[Widths, WidthOffer]):
    """Leaves channels of inner layers out: what reads them is as if they were zero."""

    key = "width"
    after_norms = False

    def offer(self, network: Network) -> WidthOffer:
        """Returns the groups that the network's reference knows, too."""
        if network.switching is not None:
            return WidthOffer((), {}, network.model)
        # What a network's own early exits read must be seen, too.
        graph = network.branches or network.model
        found, refused = find_groups(graph)
        reference, groups, refused = network.reference, [], dict(refused)
        for group in found:
            if not group.counts:
                refused[group.name] = f"there are only {group.channels}"
            elif all(reference.can_narrow(carrier.value) for carrier in group.read):
                groups.append(group)
            else:
                refused[group.name] = f"{reference.name} has them within another operator"
        return WidthOffer(tuple(groups), refused, graph)

    def check(self, record: object, where: str) -> None:
        """Refuses what does not give module paths numbers of channels, or shares."""
        if not isinstance(record, dict) or not record:
            raise FrontError(
                f"{where}: 'width' must give module paths what stays of their channels, e.g."
                f' {{"layer1": 0.5, "layer2.0.conv1": 48}}, found {shown(record)}.'
            )
        for path, number in record.items():
            whole = isinstance(number, int) and not isinstance(number, bool) and number > 0
            if not whole and not (isinstance(number, float) and 0 < number < 1):
                raise FrontError(
                    f"{where}: 'width' of {path!r} is {shown(number)}, expected a number of"
                    " channels, or a share of them between 0 and 1."
                )

    def read(self, record: object, offer: WidthOffer, where: str) -> Widths:
        """Returns how many channels stay of each group; the longest path counts for it."""
        assert isinstance(record, dict)
        for path in record:
            if not any(is_inside(group.name, path) for group in offer.groups):
                raise FrontError(f"{where}: 'width': {_unknown(path, offer)}")
        widths: list[Width] = []
        for group in offer.groups:
            paths = [path for path in record if is_inside(group.name, path)]
            if paths:
                count = _count(record[max(paths, key=len)], group, where)
                if count < group.channels:
                    widths.append(Width(group.name, count, group.channels))
                    offer.counts.setdefault(group.name, set()).add(count)
        return tuple(widths)

    def record(self, choice: Widths) -> object:
        """Returns the number of channels by group."""
        return {width.group: width.kept for width in choice}

    def apply(self, network: Network, choice: Widths, offer: WidthOffer) -> Network:
        """Returns the network with fewer channels."""
        groups = {group.name: group for group in offer.groups}
        narrow = [
            (groups[width.group], offer.kept(groups[width.group], width.kept))
            for width in choice
        ]
        model = network.model.clone()
        NarrowPass(narrow, offer.tensors)(model)
        zero = [
            Narrowed(carrier.value, carrier.axis, carrier.entries(kept))
            for group, kept in narrow
            for carrier in group.read
        ]
        return replace(
            network,
            model=model,
            reference=network.reference.with_narrowed(zero),
            channels={
                **network.channels,
                **{norm: kept for group, kept in narrow for norm in group.norms},
            },
        )

    def share(self, network: Network, choice: Widths | None, offer: WidthOffer) -> Network:
        """Returns the network with a kernel for each part of channels that is shared.

        Groups are found again by the tensors that they had, since folding norms has changed
        their layers.
        """
        kept = {width.group: width.kept for width in choice or ()}
        before = {
            carrier.value: group
            for group in offer.groups
            if group.name in offer.counts and group.channels * group.size >= SPLIT
            for carrier in group.carriers
        }
        split = []
        for found in find_groups(network.model)[0] if before else ():
            groups = [before[c.value] for c in found.carriers if c.value in before]
            if groups:
                count = kept.get(groups[0].name, groups[0].channels)
                parts = offer.parts(groups[0], count)
                if len(parts) > 1 and found.channels == count:
                    split.append((found, parts))
        if not split:
            return network
        model = network.model.clone()
        SplitChannelsPass(split)(model)
        return replace(network, model=model)

    def genes(self, offer: WidthOffer) -> tuple[Gene, ...]:
        """Returns a gene for groups that are alike: its values are ever fewer channels."""
        return tuple(Gene(self.key, one.name, 1 + len(one.counts)) for one in offer.alike)

    def decode(self, genes: Genes, offer: WidthOffer) -> Widths:
        """Returns how wide the groups are, in network order."""
        counts = {
            group.name: alike.counts[value - 1]
            for alike, value in zip(offer.alike, genes, strict=True)
            for group in alike.groups
            if value
        }
        return tuple(
            Width(group.name, counts[group.name], group.channels)
            for group in offer.groups
            if group.name in counts
        )

    def taken(self, choice: Widths) -> tuple[str, ...]:
        """Returns the groups that are narrowed, each with its number of channels."""
        return tuple(width.name for width in choice)

    def text(self, choice: Widths) -> str:
        """Returns how wide they are."""
        if not choice:
            return "full width"
        shares = sorted({round(100 * width.kept / width.channels) for width in choice})
        ends = "-".join(str(share) for share in dict.fromkeys((shares[0], shares[-1])))
        return f"{len(choice)} group{'s' * (len(choice) > 1)} {ends} % wide"


def widths_of(family: Family) -> WidthOffer:
    """Returns what the axis offers of a family's network."""
    return cast("WidthOffer", family.offers[WidthAxis.key])


def _unknown(path: str, offer: WidthOffer) -> str:
    """Returns why a path names no group."""
    for name, reason in offer.refused.items():
        if is_inside(name, path):
            return f"the channels of {name!r} cannot be fewer: {reason}."
    parents = {group.name.rpartition(".")[0] for group in offer.groups} - {""}
    known = {*(group.name for group in offer.groups), *parents}
    return f"{path!r} makes no channels that can be fewer. {choices_text(path, known)}"


def _count(number: float, group: Group, where: str) -> int:
    """Returns how many channels stay."""
    count = number if isinstance(number, int) else number * group.channels
    if count == group.channels or count in group.counts:
        return int(count)
    share = f" ({number:g} of them)" if isinstance(number, float) else ""
    near = sorted([*group.counts, group.channels], key=lambda each: abs(each - count))[:2]
    raise FrontError(
        f"{where}: 'width' keeps {count:g} {group.kind} of {group.name!r}{share}, expected"
        f" {_expected(group)}. The nearest: {' or '.join(map(str, sorted(near)))}."
    )


def _expected(group: Group) -> str:
    if group.size > 1:
        return f"a whole number of its {group.channels}"
    blocks = "since engines compute in blocks"
    return f"a multiple of {group.step} below its {group.channels}, {blocks}"


def importance(group: Group, model: ir.Model) -> NDArray[np.float64]:
    """Returns a number per channel: what goes into it times what is made of it.

    The first is the scale of the last batch norm (Network Slimming, Liu et al., 2017), else
    the norm of the weights that make it; the second the norm of the weights that read it.
    """
    nodes = {str(node.outputs[0].name): node for node in model.graph}

    def squares(one: PerChannel) -> NDArray[np.float64]:
        array = np.moveaxis(constant_array(nodes[one.node], one.operand), one.axis, 0)
        whole = np.square(array).reshape(one.outer, group.channels, -1)
        found: NDArray[np.float64] = whole.sum((0, 2))
        return found

    score = np.sqrt(sum((squares(one) for one in group.mixed), np.zeros(group.channels)))
    if group.norms:
        return score * np.abs(constant_array(nodes[group.norms[-1]], GAMMA))
    for one in group.made:
        if one.operand == 1:
            score = score * np.sqrt(squares(one))
    return score

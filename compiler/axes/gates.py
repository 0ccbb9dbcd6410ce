"""Gates: units that run or not as each input asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skipc.compiler.axes.axis import Axis, Offer, first_names
from skipc.compiler.axes.exit_places import channel_axis
from skipc.compiler.axes.gate_channels import BranchChannels
from skipc.compiler.axes.units import units_of_network
from skipc.compiler.errors import FrontError, GatesError
from skipc.compiler.gating import Gating, PlacedGate
from skipc.compiler.graph.index import GraphIndex
from skipc.compiler.graph.operands import operand
from skipc.compiler.graph.passes.gate_units import gated
from skipc.runtime.errors import choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from skipc.compiler.axes.gate_channels import InnerChannels
    from skipc.compiler.axes.units import Unit
    from skipc.compiler.gates import Gate, Gates
    from skipc.compiler.network import Network

_KEYS = ("cap", "bias")


class GateOption(NamedTuple):
    """What a gate decides about: a unit, or a part of its channels behind the first.

    Attributes:
        name: The unit's name; with the part's number behind a colon.
        parameters: The gate's own; none for a further part.
        macs: Operations that are spared where it alone does not run, batch 1.
    """

    name: str
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class GatesOffer(Offer):
    """The gates that were trained for a network, in network order.

    Attributes:
        gates: The gates; None where there are none.
        placed: Each in its place.
        options: What they decide about.
        always: The units that run whatever the gates say.
    """

    gates: Gates | None
    placed: tuple[PlacedGate, ...] = ()
    options: tuple[GateOption, ...] = ()
    always: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gated:
    """How the gates of a network decide.

    Attributes:
        units: What they decide about: units, and parts of their channels.
        cap: How many units run at most, those that always do included; None for all.
        bias: What is added to each score: above 0 more units run.
    """

    units: tuple[str, ...]
    cap: int | None = None
    bias: float = 0.0


class GatesAxis(Axis[Gated, GatesOffer]):
    """Lets gates decide, input by input, which units run."""

    key = "gates"
    after_norms = False

    def offer(self, network: Network) -> GatesOffer:
        """Returns the gates that were trained for a network.

        Raises:
            GatesError: One does not fit it.
        """
        if network.gates is None:
            return GatesOffer(None)
        units = [unit for unit in units_of_network(network).units if not unit.within]
        known = {unit.name: unit for unit in units}
        for gate in network.gates.gates:
            if gate.name not in known:
                raise GatesError(
                    f"the gate {gate.name!r} is of no unit of this network, or of one within"
                    f" another. {choices_text(gate.name, known)}"
                )
        order = [unit.name for unit in units]
        gates = sorted(network.gates.gates, key=lambda gate: order.index(gate.name))
        if [gate.name for gate in gates] != [gate.name for gate in network.gates.gates]:
            raise GatesError(
                "the gates are not in the network's order, in which each knows what the one"
                " before it saw. Train them again with `skipc gates`."
            )
        placed: list[PlacedGate] = []
        options: list[GateOption] = []
        index = GraphIndex(network.model.graph)
        channels = BranchChannels(network) if any(len(g.parts) for g in gates) else None
        for gate in gates:
            unit = known[gate.name]
            found = channels.of(unit) if channels is not None and len(gate.parts) else None
            placed.append(_placed(gate, unit, place_before(unit, network, index), found))
            sizes = np.bincount(gate.parts).tolist()
            macs = (unit.macs,) if found is None else found.macs(sizes)
            sizes = [gate.weight.size + gate.bias.size, *[0] * len(macs[1:])]
            options += map(GateOption, gate.decided, sizes, macs)
        gated_names = {gate.name for gate in gates}
        always = tuple(unit.name for unit in units if unit.name not in gated_names)
        return GatesOffer(network.gates, tuple(placed), tuple(options), always)

    def check(self, record: object, where: str) -> None:
        """Refuses what is not an object of a cap and a bias."""
        if not isinstance(record, dict) or set(record) - {*_KEYS}:
            raise FrontError(
                f"{where}: 'gates' must be an object with 'cap' and 'bias', or one of them, or"
                f" none, found {shown(record)}."
            )
        cap, bias = record.get("cap"), record.get("bias", 0.0)
        if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 0):
            raise FrontError(
                f"{where}: 'cap' must be how many units may run, a whole number from 0, found"
                f" {shown(cap)}."
            )
        number = isinstance(bias, int | float) and not isinstance(bias, bool)
        if not number or not math.isfinite(bias):
            raise FrontError(
                f"{where}: 'bias' must be a number that is added to each gate's score, found"
                f" {shown(bias)}."
            )

    def read(self, record: object, offer: GatesOffer, where: str) -> Gated:
        """Returns the cap and the bias; a cap of all units is none."""
        assert isinstance(record, dict)
        if offer.gates is None:
            raise FrontError(
                f"{where}: 'gates' is given, but no gates lie beside the checkpoint: train"
                " them with `skipc gates`."
            )
        cap, units = record.get("cap"), len(offer.placed) + len(offer.always)
        if cap is not None and cap < len(offer.always):
            raise FrontError(
                f"{where}: 'cap' is {cap}, but {len(offer.always)} units always run, as no"
                f" gate decides about them ({first_names(offer.always)}). Write at least"
                f" {len(offer.always)}."
            )
        if cap is not None and cap > units:
            raise FrontError(
                f"{where}: 'cap' is {cap}, but the network has {units} units. Write at most"
                f" {units}, or leave it out."
            )
        cap = None if cap == units else cap
        return Gated(offer.names, cap, float(record.get("bias", 0.0)))

    def record(self, choice: Gated) -> object:
        """Returns what differs from gates that are left to themselves."""
        cap = {} if choice.cap is None else {"cap": choice.cap}
        return {**cap, "bias": choice.bias} if choice.bias else cap

    def apply(self, network: Network, choice: Gated, offer: GatesOffer) -> Network:
        """Returns the network with its gates, whose decisions are a further output.

        Raises:
            FrontError: Something else was chosen that gates do not go with.
        """
        gates = offer.gates
        assert gates is not None
        if network.exits or not network.ends:
            raise FrontError(
                "a configuration has both 'gates' and 'exits': what has gates runs to its"
                " end. Choose one of them."
            )
        values = {str(v.name): v for node in network.model.graph for v in node.outputs}
        values |= {str(value.name): value for value in network.model.graph.inputs}
        placed = offer.placed
        for each in placed:
            if each.at not in values or each.cut.node not in values:
                raise FrontError(
                    "a configuration has 'gates' and leaves out what they decide about:"
                    f" {each.gate.name!r}. Choose 'gates' or 'skip'; a 'cap' keeps gates"
                    " from running more."
                )
            shape = None if each.inner is None else values[each.inner.value].shape
            if each.inner and shape and shape[each.inner.axis] != len(each.gate.parts):
                raise FrontError(
                    "a configuration has both 'gates' that decide about the channels of"
                    f" {each.gate.name!r} and a 'width' that leaves some of them out. Choose"
                    " one of them."
                )
        cap = len(placed) if choice.cap is None else choice.cap - len(offer.always)
        thresholds = tuple(
            tuple(threshold - choice.bias for threshold in each.gate.thresholds)
            for each in placed
        )
        gating = Gating(placed, gates.recurrent, gates.score, thresholds, cap)
        return replace(
            network,
            model=gated(network.model, gating),
            reference=network.reference.with_gating(gating),
            gating=gating,
        )

    def taken(self, choice: Gated) -> tuple[str, ...]:
        """Returns the units that are decided about."""
        return choice.units

    def text(self, choice: Gated) -> str:
        """Returns how many there are, and what binds them."""
        text = f"{len(choice.units)} gates"
        if choice.cap is not None:
            text += f", at most {choice.cap} unit{'' if choice.cap == 1 else 's'}"
        return text + (f", bias {choice.bias:+g}" if choice.bias else "")


@dataclass(frozen=True, slots=True)
class PlaceBefore:
    """Where a gate reads what is in front of its unit.

    Attributes:
        at: The tensor, by name.
        axis: Its dimension that the channels lie in.
        channels: How many.
    """

    at: str
    axis: int
    channels: int


def place_before(unit: Unit, network: Network, index: GraphIndex) -> PlaceBefore:
    """Returns what shortcut and branch of a unit are both computed from.

    Raises:
        GatesError: A gate cannot read it.
    """
    if unit.features or unit.further:
        raise GatesError(
            f"no gate can switch the unit {unit.name!r}: what it computes is concatenated, and"
            " not only added."
        )
    join = next(n for n in index.nodes if str(n.outputs[0].name) == unit.join)
    kept, branch = operand(join, unit.shortcut), operand(join, 1 - unit.shortcut)
    value = _fork(kept, branch, index)
    name = "" if value is None else str(value.name)
    axis = None if value is None else channel_axis(value, network)
    channels = (
        None if value is None or axis is None or value.shape is None else value.shape[axis]
    )
    if value is None or axis is None or not isinstance(channels, int):
        raise GatesError(
            f"no gate can read what is in front of the unit {unit.name!r}: it has no row for"
            " each sample."
        )
    kind = "" if value.dtype is None else value.dtype.name
    if kind != "FLOAT" or not network.reference.can_narrow(name):
        raise GatesError(
            f"no gate can read {name!r}, which is in front of the unit {unit.name!r}: gates"
            f" read float32 tensors that {network.reference.name} computes, too, found"
            f" {kind or 'no type'}."
        )
    return PlaceBefore(name, axis, channels)


def places_before(network: Network) -> tuple[Mapping[str, PlaceBefore], Mapping[str, str]]:
    """Returns where gates may read, by unit in network order, and why others have none."""
    index, found, refused = GraphIndex(network.model.graph), {}, {}
    for unit in units_of_network(network).units:
        if not unit.within:
            try:
                found[unit.name] = place_before(unit, network, index)
            except GatesError as reason:
                refused[unit.name] = str(reason)
    return found, refused


def _fork(kept: ir.Value, branch: ir.Value, index: GraphIndex) -> ir.Value | None:
    """Returns the last value that both are computed from, one of which may be it."""
    if index.reads(branch, kept):
        return kept
    sides = [index.ancestors(value) for value in (kept, branch)]
    common = sides[0] & sides[1]
    reads: list[Sequence[ir.Value]] = [
        [v for node in index.members(side & ~common) for v in node.inputs if v is not None]
        for side in sides
    ]
    both = [v for v in reads[0] if v in reads[1] and not index.is_constant(v)]
    return both[-1] if both else None


def _placed(
    gate: Gate, unit: Unit, place: PlaceBefore, found: InnerChannels | None
) -> PlacedGate:
    if gate.weight.shape[1] != place.channels:
        raise GatesError(
            f"the gate {gate.name!r} reads {gate.weight.shape[1]} channels; there are"
            f" {place.channels} in front of its unit. Train the gates again with `skipc"
            " gates`."
        )
    if found is not None and not found.takes(gate.parts):
        raise GatesError(
            f"the gate {gate.name!r} tells apart {len(gate.parts)} channels in parts of"
            f" {' and '.join(map(str, np.bincount(gate.parts)))}, and the branch has"
            f" {found.group.channels}, which engines compute in blocks of"
            f" {found.group.step}. Train the gates again with `skipc gates`."
        )
    inner = None if found is None else found.inner
    return PlacedGate(gate, unit.cuts[0], place.at, place.axis, inner)

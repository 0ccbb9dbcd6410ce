"""Gates: units that run or not as each input asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skipc.compiler.axes.axis import Axis, Offer, first_names
from skipc.compiler.axes.exit_places import channel_axis
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

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.gates import Gate, Gates
    from skipc.compiler.network import Network

_KEYS = ("cap", "bias")


@dataclass(frozen=True, slots=True)
class GateOption:
    """A unit that a gate decides about.

    Attributes:
        placed: Its gate, in its place.
        parameters: The gate's own.
        macs: Operations that are spared where the unit does not run, batch 1.
    """

    placed: PlacedGate
    parameters: int
    macs: int

    @property
    def name(self) -> str:
        """The unit's name."""
        return self.placed.gate.name


@dataclass(frozen=True, slots=True)
class GatesOffer(Offer):
    """The gates that were trained for a network, in network order.

    Attributes:
        gates: The gates; None where there are none.
        options: Their units.
        always: The units that run whatever the gates say.
    """

    gates: Gates | None
    options: tuple[GateOption, ...] = ()
    always: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gated:
    """How the gates of a network decide.

    Attributes:
        units: What they decide about.
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
        options = []
        index = GraphIndex(network.model.graph)
        for gate in gates:
            unit = known[gate.name]
            placed = _placed(gate, unit, place_before(unit, network, index))
            options.append(GateOption(placed, gate.weight.size + gate.bias.size, unit.macs))
        gated_names = {gate.name for gate in gates}
        always = tuple(unit.name for unit in units if unit.name not in gated_names)
        return GatesOffer(network.gates, tuple(options), always)

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
        cap, units = record.get("cap"), len(offer.options) + len(offer.always)
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
        made = {str(value.name) for node in network.model.graph for value in node.outputs}
        made |= {str(value.name) for value in network.model.graph.inputs}
        placed = tuple(option.placed for option in offer.options)
        for each in placed:
            if each.at not in made or each.cut.node not in made:
                raise FrontError(
                    "a configuration has 'gates' and leaves out what they decide about:"
                    f" {each.gate.name!r}. Choose 'gates' or 'skip'; a 'cap' keeps gates"
                    " from running more."
                )
        cap = len(placed) if choice.cap is None else choice.cap - len(offer.always)
        thresholds = tuple(each.gate.threshold - choice.bias for each in placed)
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


def _placed(gate: Gate, unit: Unit, place: PlaceBefore) -> PlacedGate:
    if gate.weight.shape[1] != place.channels:
        raise GatesError(
            f"the gate {gate.name!r} reads {gate.weight.shape[1]} channels; there are"
            f" {place.channels} in front of its unit. Train the gates again with `skipc"
            " gates`."
        )
    return PlacedGate(gate, unit.cuts[0], place.at, place.axis)

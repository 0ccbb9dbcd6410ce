"""Gates: a gated graph decides, and computes, what PyTorch does by other means."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest

from skipc.compiler.axes.gate_channels import BranchChannels
from skipc.compiler.axes.gates import Gated, GatesAxis, places_before
from skipc.compiler.axes.precision import Precision
from skipc.compiler.axes.width import WidthAxis
from skipc.compiler.errors import FrontError, GatesError, NumericsError
from skipc.compiler.family import Family, family_of
from skipc.compiler.graph.passes.gate_units import ungated
from skipc.compiler.verify.onnx_reference import OnnxReference
from skipc.compiler.verify.verify import verify_subnet
from skipc.runtime.bundle.gates import DECISIONS
from tests.gates import random_gates
from tests.zoo import NETS, assert_close, case_for, exported

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.gates import Gate
    from skipc.compiler.network import Network

AXIS = GatesAxis()
RESNET = "torchvision-resnet"


def _family(name: str, without: tuple[str, ...] = (), channels: int = 1) -> Family:
    network, _ = exported(name)
    gates = random_gates(network, without, scale=3.0, channels=channels)
    return family_of(replace(network, gates=gates))


def _gated(family: Family, record: object, **others: object) -> Network:
    AXIS.check(record, "here")
    choice = AXIS.read(record, family.offers["gates"], "here")
    assert AXIS.read(AXIS.record(choice), family.offers["gates"], "here") == choice
    return family.subnet({"gates": choice, **others}, "any").network


@pytest.mark.parametrize(
    ("name", "channels"), [(RESNET, 1), ("vit-any-batch", 1), (RESNET, 3)]
)
def test_a_gated_graph_is_what_pytorch_computes(
    name: str, channels: int, tmp_path: Path
) -> None:
    family = _family(name, channels=channels)
    case = case_for(NETS[name], batch=5)
    runs = {}
    for cap in (None, 0, 2):
        network = _gated(family, {} if cap is None else {"cap": cap})
        ir.save(network.model.clone(), tmp_path / "net.onnx", external_data=f"{cap}.data")
        verify_subnet(tmp_path / "net.onnx", "any", network, [case])
        (found,) = network.reference.run([case])
        runs[cap] = found[DECISIONS]
    # A reference of the graph decides alike, and gives the same.
    again = OnnxReference(family.network.model).with_gating(network.gating)
    (other,) = again.run([case])
    np.testing.assert_array_equal(other[DECISIONS], runs[2])
    for spec in network.outputs:
        assert_close(other[spec.name], found[spec.name])
    assert runs[None].any()
    assert not runs[None].all()
    # A cap counts units, however many of their parts run; a part does not run without them.
    parts = network.reference.gating.parts
    first = np.cumsum((0, *parts))
    assert max(parts) == channels
    np.testing.assert_array_equal(runs[2][:, : first[2]], runs[None][:, : first[2]])
    assert (runs[2][:, first[:-1]].sum(1) <= 2).all()
    assert not runs[0].any()
    for begin, end in pairwise(first):
        assert (np.diff(runs[None][:, begin:end].astype(int), axis=1) <= 0).all()


def test_a_fault_in_a_gate_is_told_as_one(tmp_path: Path) -> None:
    network = _gated(_family(RESNET), {})
    gating = network.reference.gating
    assert gating is not None
    turned = replace(gating, thresholds=tuple(100.0 for _ in gating.thresholds))
    ir.save(network.model.clone(), tmp_path / "net.onnx", external_data="net.data")
    wrong = replace(network, reference=network.reference.with_gating(turned))
    with pytest.raises(NumericsError, match=r"decides otherwise about the unit 'layer\d.\d'"):
        verify_subnet(tmp_path / "net.onnx", "any", wrong, [case_for(NETS[RESNET], batch=5)])


def test_gates_are_taken_out_again() -> None:
    family = _family(RESNET)
    network = _gated(family, {"cap": 1, "bias": 0.5})
    assert network.gating is not None
    found = ungated(network.model, network.gating.decided)
    assert (found.cap, found.thresholds) == (1, ((-0.5,),) * 4)
    kinds = {node.op_type for node in found.model.graph}
    assert not kinds & {"Where", "Greater", "Less"}
    assert [str(v.name) for v in found.model.graph.outputs][1:] == [*found.scores]


def test_the_offer_is_the_gates_and_what_always_runs() -> None:
    offer = _family(RESNET, without=("layer2.0",)).offers["gates"]
    assert offer.names == ("layer1.0", "layer1.1", "layer2.1")
    assert offer.always == ("layer2.0",)
    assert all(option.macs > option.parameters > 0 for option in offer.options)
    choice = AXIS.read({"cap": 3, "bias": -0.5}, offer, "here")
    assert AXIS.text(choice) == "3 gates, at most 3 units, bias -0.5"
    assert AXIS.taken(choice) == offer.names
    assert AXIS.read({"cap": 4}, offer, "here") == Gated(offer.names)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (["layer1.0"], "'gates' must be an object"),
        ({"caps": 1}, "'gates' must be an object"),
        ({"cap": -1}, "'cap' must be how many units may run"),
        ({"cap": True}, "'cap' must be how many units may run"),
        ({"cap": 1.5}, "'cap' must be how many units may run"),
        ({"bias": "much"}, "'bias' must be a number"),
        ({"bias": float("nan")}, "'bias' must be a number"),
    ],
)
def test_an_entry_that_can_mean_nothing_is_refused(record: object, says: str) -> None:
    with pytest.raises(FrontError, match=says):
        AXIS.check(record, "here")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"cap": 0}, r"'cap' is 0, but 1 units always run, .*\('layer2.0'\)\. .*at least 1"),
        ({"cap": 5}, "'cap' is 5, but the network has 4 units"),
    ],
)
def test_a_cap_that_no_gate_can_keep_is_refused(record: object, says: str) -> None:
    offer = _family(RESNET, without=("layer2.0",)).offers["gates"]
    with pytest.raises(FrontError, match=says):
        AXIS.read(record, offer, "here")


def _in_parts(gate: Gate, *sizes: int) -> Gate:
    parts = np.repeat(np.arange(len(sizes)), sizes)
    numbers = tuple(map(float, range(len(sizes))))
    return replace(gate, parts=parts, thresholds=numbers)


def test_gates_that_do_not_fit_are_refused() -> None:
    network, _ = exported(RESNET)
    gates = random_gates(network)
    first, second, *_ = gates.gates
    for wrong, says in (
        ((replace(first, name="layer9"),), r"'layer9' is of no unit .*Did you mean"),
        ((replace(first, weight=np.zeros((4, 9), np.float32)),), "reads 9 channels; .* 8"),
        ((second, first), "not in the network's order"),
        ((_in_parts(first, 5, 3),), r"8 channels in parts of 5 and 3, .* in blocks of 4"),
        ((_in_parts(first, 8, 4),), r"12 channels in parts of 8 and 4, and the branch has 8"),
    ):
        with pytest.raises(GatesError, match=says):
            AXIS.offer(replace(network, gates=replace(gates, gates=wrong)))
    offer = AXIS.offer(network)
    assert offer.options == ()
    with pytest.raises(FrontError, match="no gates lie beside the checkpoint"):
        AXIS.read({}, offer, "here")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("vit-any-batch", r"its branch ends in \w+, expected a convolution"),
        ("regnet", "read by several layers, as squeeze-and-excite does|grouped"),
    ],
)
def test_channels_that_no_gate_can_tell_apart_are_refused(name: str, says: str) -> None:
    network, found = exported(name)
    branches = BranchChannels(network)
    for unit in found.units:
        with pytest.raises(
            GatesError, match=f"no gate can tell apart .* {unit.name!r}: .*{says}"
        ):
            branches.of(unit)


def test_depthwise_channels_are_told_apart() -> None:
    network, found = exported("mobilenet-v2")
    branches = BranchChannels(network)
    for unit in found.units:
        channels = branches.of(unit)
        parts = branches.parts(channels, 2)
        assert channels.takes(parts)
        # As many blocks in each as can be, of those that engines compute in.
        sizes = np.bincount(parts)
        assert len(sizes) == 2
        assert np.ptp(sizes) <= channels.group.step
        assert sum(channels.macs(sizes.tolist())) == unit.macs
        with pytest.raises(GatesError, match="have no parts of 16 or a multiple"):
            branches.parts(channels, 1)


def test_gates_about_channels_go_with_no_width_of_them() -> None:
    family = _family(RESNET, channels=2)
    width = WidthAxis().read({"layer1.0": 4}, family.offers["width"], "here")
    with pytest.raises(FrontError, match=r"the channels of 'layer1\.0' and a 'width'"):
        _gated(family, {}, width=width)


def test_what_gates_do_not_go_with_is_refused() -> None:
    family = _family(RESNET)
    units = family.offers["skip"].units
    with pytest.raises(FrontError, match=r"leaves out what they decide about: 'layer1\.1'"):
        _gated(family, {}, skip=(units[1],))
    gated = _gated(family, {})
    with pytest.raises(FrontError, match="both 'gates' and 'exits'"):
        AXIS.apply(replace(gated, ends=False), Gated(()), family.offers["gates"])


def test_gates_are_not_rounded() -> None:
    with pytest.raises(FrontError, match="both 'gates' and the precision 'fp16'"):
        _gated(_family(RESNET), {}, precision=Precision.FP16)
    assert _gated(_family(RESNET), {}, precision=Precision.FP32).gating is not None


def test_units_within_others_have_no_gates() -> None:
    network, found = exported("residual-in-residual")
    places, refused = places_before(network)
    outer = [unit.name for unit in found.units if not unit.within]
    assert [*places, *refused] == outer
    assert len(outer) < len(found.units)

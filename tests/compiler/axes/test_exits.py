"""Early exits: the graph that answers at heads computes what eager PyTorch does there."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from skipc.compiler.axes.exit_places import places_of
from skipc.compiler.axes.exits import ExitsAxis
from skipc.compiler.errors import FrontError, HeadsError
from skipc.compiler.family import family_of
from skipc.compiler.graph.costs import total_macs
from skipc.compiler.read import TorchSupernet
from skipc.compiler.verify.verify import verify_subnet
from tests.exits import eager_answers, heads_for, with_heads
from tests.zoo import NETS, assert_close, case_for, exported, module_of

# A network, its heads and for each the module whose result is the stream that it reads, and
# what is skipped: units before, at and behind heads.
CASES = {
    "torchvision-resnet": (
        {"layer1.0": "layer1.0", "layer1.1": "layer1.1", "layer2.0": "layer2.0"},
        ("layer1.1", "layer2.1"),
    ),
    "convnext": (
        {"convnext.encoder.stages.0.layers.0": "convnext.encoder.stages.0.layers.0"},
        ("convnext.encoder.stages.1.layers.0",),
    ),
    "vit-any-batch": (
        {"vit.layers.0.mlp": "vit.layers.0"},
        ("vit.layers.0.attention",),
    ),
    "swin": (
        {"swin.encoder.layers.0.blocks.0.mlp": "swin.encoder.layers.0.blocks.0"},
        ("swin.encoder.layers.0.blocks.0.attention",),
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    streams, skipped = CASES[request.param]
    network = with_heads(request.param, streams)
    return request.param, family_of(network), streams, skipped


def answers(family, exits, skipped, inputs):
    network = family.subnet(_choices(family, exits, skipped), "any").network
    return network, network.reference.run([inputs])[0]


def _choices(family, exits, skipped):
    units = family.offers["skip"].units
    return {
        "exits": ExitsAxis().read(list(exits), family.offers["exits"], "here"),
        "skip": tuple(unit for unit in units if unit.name in skipped),
    }


def test_every_exit_answers_as_eager_pytorch_does(case, tmp_path):
    name, family, streams, skipped = case
    inputs = case_for(NETS[name], batch=3)
    for left_out in ((), skipped):
        wanted = eager_answers(name, streams, family.network.heads, left_out, inputs)
        network = family.subnet(_choices(family, [*streams, "end"], left_out), "any").network
        ir.save(
            network.model.clone(), tmp_path / "net.onnx", external_data=f"{len(left_out)}.d"
        )
        verified = verify_subnet(tmp_path / "net.onnx", "all", network, [inputs])
        (found,) = verified.expected
        output = network.outputs[0].name
        assert list(found) == [*(f"{output}@{head}" for head in streams), output]
        for head in streams:
            assert_close(found[f"{output}@{head}"], wanted[head])
        assert_close(found[output], wanted["end"])


def test_a_network_that_ends_at_a_head_is_shorter_and_answers_by_the_familys_name(
    case, tmp_path
):
    name, family, streams, _ = case
    head, *_ = streams
    inputs = case_for(NETS[name], batch=3)
    network = family.subnet(_choices(family, [head], ()), "any").network
    assert [value.name for value in network.model.graph.outputs] == [network.outputs[0].name]
    assert total_macs(network.model.graph) < total_macs(family.network.model.graph)
    ir.save(network.model.clone(), tmp_path / "net.onnx", external_data="net.data")
    verified = verify_subnet(tmp_path / "net.onnx", "short", network, [inputs])
    wanted = eager_answers(name, streams, family.network.heads, (), inputs)
    assert_close(verified.expected[0][network.outputs[0].name], wanted[head])
    # A fault in the head is found, not only told to be one of the network's end.
    (exit_,) = network.exits
    assert exit_.head is not None
    faulty = replace(exit_, head=replace(exit_.head, bias=exit_.head.bias + 0.1))
    broken = replace(network, reference=network.reference.with_exits([faulty], ends=False))
    with pytest.raises(Exception, match=r"differ from pytorch by .* of the output's range"):
        verify_subnet(tmp_path / "net.onnx", "short", broken, [inputs])


def test_the_offer_is_the_heads_in_network_order():
    network = with_heads("torchvision-resnet", ["layer2.0", "layer1.0"])
    offer = ExitsAxis().offer(network)
    assert offer.names == ("layer1.0", "layer2.0")
    first, second = offer.exits
    assert first.macs > second.macs > 0
    assert first.parameters == 5 * 8 + 5
    chosen = ExitsAxis().read(["end", "layer2.0", "layer1.0"], offer, "here")
    assert chosen == ("layer1.0", "layer2.0", "end")
    assert ExitsAxis().taken(chosen) == ("layer1.0", "layer2.0")
    assert ExitsAxis().read(ExitsAxis().record(chosen), offer, "here") == chosen
    texts = [ExitsAxis().text(each) for each in (chosen, ("end",), ("layer1.0",))]
    assert texts == ["3 exits", "to the end", "ends at layer1.0"]


def test_the_axis_is_left_alone_where_there_are_no_heads():
    network, _ = exported("torchvision-resnet")
    offer = ExitsAxis().offer(network)
    assert offer.names == ()
    assert ExitsAxis().apply(network, ("end",), offer) is network
    with pytest.raises(FrontError, match=r"'layer1.0' is no head\. .*`skipc heads`"):
        ExitsAxis().read(["layer1.0"], offer, "here")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ([], r"'exits' must be a list of heads, at least one, found \[\]"),
        ("end", "'exits' must be a list of heads"),
        ([1], "'exits' must be a list of heads"),
        (["end", "end"], "'exits' names 'end' twice"),
    ],
)
def test_an_entry_that_can_mean_nothing_is_refused(record, says):
    with pytest.raises(FrontError, match=says):
        ExitsAxis().check(record, "here")


def test_heads_that_do_not_fit_are_refused():
    network = with_heads("torchvision-resnet", ["layer1.0"])
    (head,) = network.heads
    other = replace(head, name="layer9")
    with pytest.raises(HeadsError, match=r"'layer9' is attached nowhere .* Did you mean"):
        ExitsAxis().offer(replace(network, heads=(other,)))
    wide = replace(head, weight=np.zeros((5, 9), np.float32))
    with pytest.raises(HeadsError, match="maps 9 channels to 5 classes; there are 8 channels"):
        ExitsAxis().offer(replace(network, heads=(wide,)))


def test_a_network_without_class_scores_has_no_places():
    network, _ = exported("feature-pyramid")
    with pytest.raises(HeadsError, match="one output, a score for each class"):
        places_of(network)


@pytest.mark.parametrize(
    ("name", "axis"), [("convnext", 1), ("swin", 2), ("mixer", 2), ("torchvision-resnet", 1)]
)
def test_channels_are_found_by_what_reads_the_stream(name, axis):
    places = places_of(exported(name)[0])
    assert places
    assert {place.axis for place in places} == {axis}


def test_a_half_precision_network_answers_in_the_type_of_its_output(tmp_path):
    """The stream is float16, what comes out float32."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = copy.deepcopy(module_of(NETS["torchvision-resnet"])).half()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x.half()).float()

    inputs = NETS["torchvision-resnet"].inputs
    network = TorchSupernet(Half().eval(), inputs, (), None, "half", {}).exported()
    network = replace(network, heads=heads_for(network, ["net.layer1.0"]))
    family = family_of(network)
    case = case_for(NETS["torchvision-resnet"], batch=1)
    for names in (["net.layer1.0"], ["net.layer1.0", "end"]):
        made = family.subnet(_choices(family, names, ()), "any").network.tolerating(1e-2)
        ir.save(made.model.clone(), tmp_path / "net.onnx", external_data=f"{len(names)}.data")
        (found,) = verify_subnet(tmp_path / "net.onnx", "any", made, [case]).expected
        assert {array.dtype for array in found.values()} == {np.dtype("float32")}

"""A network with exits of its own: each answers as eager PyTorch does."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from skipc.compiler.errors import SupernetError
from skipc.compiler.family import family_of, open_family
from skipc.compiler.graph.costs import total_macs
from skipc.compiler.read import ModelOptions, TorchSupernet, read_checkpoint
from skipc.compiler.read.export_files import load_export, save_export
from skipc.compiler.verify.verify import verify_subnet
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle.route import Test
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.call.tests import score
from tests.command_line import mistake, skipc
from tests.exits import heads_for
from tests.zoo import assert_close

OUTPUTS = ("early", "late", "logits")
INPUTS = (TensorSpec("images", "float32", (1, 1, 8, 8)),)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.kept = 1.0

    def forward(self, x):
        return torch.relu(x + self.kept * self.norm(self.conv(x)))


class OwnExits(nn.Module):
    """Its heads have a convolution and a norm; the second adds the first one's answer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.reads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(6, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
            for _ in range(2)
        )
        self.classes = nn.ModuleList(nn.Linear(4, 5) for _ in range(2))
        self.last = nn.Linear(6, 5)

    def forward(self, images):
        x = self.stem(images)
        answers = []
        for block, read, classes in zip(self.blocks, self.reads, self.classes, strict=False):
            x = block(x)
            answers.append(classes(read(x).mean((2, 3))))
        answers[1] = answers[1] + 0.5 * answers[0]
        answers.append(self.last(self.blocks[2](x).mean((2, 3))))
        return dict(zip(OUTPUTS, answers, strict=True))


@pytest.fixture(scope="module")
def module():
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        made = OwnExits().eval()
        for one in made.modules():
            if isinstance(one, nn.BatchNorm2d):
                for tensor in (one.running_mean, one.bias):
                    tensor.normal_()
                for tensor in (one.running_var, one.weight):
                    tensor.uniform_(0.5, 2)
        return made


@pytest.fixture(scope="module")
def network(module):
    made = TorchSupernet(module, INPUTS, (), None, "own", {}, exit_outputs=OUTPUTS[:2])
    return made.exported()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(20, 1, 8, 8)).astype(np.float32)


def eager(module, image, skipped=()):
    for number, block in enumerate(module.blocks):
        block.kept = 0.0 if f"blocks.{number}" in skipped else 1.0
    with torch.no_grad():
        answers = module(torch.from_numpy(image))
    return {name: answer.numpy() for name, answer in answers.items()}


def made_of(family, exits, skipped=()):
    units = tuple(u for u in family.offers["skip"].units if u.name in skipped)
    return family.subnet({"exits": exits, "skip": units}, "any").network


@pytest.mark.parametrize("skipped", [(), ("blocks.0", "blocks.2"), ("blocks.1",)])
def test_every_exit_answers_as_eager_pytorch_does(module, network, images, skipped, tmp_path):
    made = made_of(family_of(network), (*OUTPUTS[:2], "end"), skipped)
    case = {"images": images[:1]}
    wanted = eager(module, images[:1], skipped)
    ir.save(made.model.clone(), tmp_path / "net.onnx", external_data="net.data")
    (found,) = verify_subnet(tmp_path / "net.onnx", "all", made, [case]).expected
    assert list(found) == ["logits@early", "logits@late", "logits"]
    for name, output in zip(OUTPUTS, found.values(), strict=True):
        assert_close(output, wanted[name])


def test_without_them_it_is_as_if_they_were_not_there(module, network):
    plain = TorchSupernet(module, INPUTS, (), "logits", "own", {}).exported()
    assert network.outputs == plain.outputs
    assert total_macs(network.model.graph) == total_macs(plain.model.graph)
    one, other = family_of(network), family_of(plain)
    assert one.offers["skip"].names == other.offers["skip"].names
    assert not other.offers["exits"].options
    early, late = one.offers["exits"].options
    assert (early.name, late.name) == OUTPUTS[:2]
    assert early.macs > late.macs > 0
    assert early.parameters == 6 * 4 * 9 + 4 + 2 * 4 + 4 * 5 + 5
    ends = made_of(one, ("early",))
    assert [value.name for value in ends.model.graph.outputs] == ["logits"]
    assert total_macs(ends.model.graph) == total_macs(network.model.graph) - early.macs


def test_trained_heads_stand_between_them(module, network, images, tmp_path):
    whole = replace(network, heads=heads_for(network, ["blocks.1"]))
    family = family_of(whole)
    assert family.offers["exits"].names == ("early", "blocks.1", "late")
    made = made_of(family, ("early", "blocks.1", "end"))
    ir.save(made.model.clone(), tmp_path / "net.onnx", external_data="net.data")
    verify_subnet(tmp_path / "net.onnx", "all", made, [{"images": images[:1]}])


def test_what_is_kept_of_the_export_has_them(module, network, images, tmp_path):
    save_export(tmp_path, network)
    again = load_export(tmp_path, lambda _: network, lambda why: pytest.fail(str(why)))
    assert again.exit_outputs == network.exit_outputs == OUTPUTS[:2]
    assert again.outputs == network.outputs
    made = made_of(family_of(again), ("late", "end"))
    (found,) = made.reference.run([{"images": images[:1]}])
    assert_close(found["logits@late"], eager(module, images[:1])["late"])


@pytest.mark.parametrize(
    ("exits", "output", "says"),
    [
        (("early", "lat"), None, "--exit-outputs 'lat': no such output. Did you mean 'late'?"),
        (("early", "early"), None, "--exit-outputs names 'early' twice"),
        (("early", "logits"), None, "--exit-outputs 'logits': that is the network's end"),
        (("early", "late"), "late", "--exit-outputs 'late': that is the network's end"),
    ],
)
def test_what_is_no_exit_is_told(onnx_file, exits, output, says):
    options = ModelOptions(output=output, exit_outputs=exits)
    with pytest.raises(SupernetError) as caught:
        read_checkpoint(onnx_file, options).exported()
    assert says in str(caught.value)


@pytest.fixture(scope="module")
def onnx_file(network, tmp_path_factory):
    """The network as a file, its outputs in another order."""
    path = tmp_path_factory.mktemp("own") / "own.onnx"
    model = network.branches.clone()
    outputs = list(model.graph.outputs)
    model.graph.outputs.clear()
    model.graph.outputs.extend([outputs[2], outputs[0], outputs[1]])
    ir.save(model, path)
    return path


CONFIGURATIONS = [
    {"name": "full"},
    {"name": "short", "exits": ["late"]},
    {"name": "early", "exits": ["early", "end"]},
]


def test_a_file_with_exits_of_its_own_is_built_and_run(module, onnx_file, images, tmp_path):
    front, bundle = tmp_path / "front.json", tmp_path / "own.skipc"
    answers = [eager(module, image[None]) for image in images]
    test = Test("early", {"max-softmax": 1.0})
    sure = sorted(float(score(test, wanted["early"])[0]) for wanted in answers)
    middle = (sure[9] + sure[10]) / 2
    *plain, early = CONFIGURATIONS
    entries = [*plain, {**early, "tests": [{"threshold": middle}]}]
    front.write_text(json.dumps({"format": "skipc.front/2", "configurations": entries}))
    named = (onnx_file, "--exit-outputs", "early, late")
    assert "late" in skipc("units", *named).out
    built = skipc("build", *named, "--front", front, "--target", "cpu", "--out", bundle)
    assert built.code == 0, built.err
    stages = []
    with AdaptiveEngine.open(bundle, threads=1) as engine:
        for image, wanted in zip(images, answers, strict=True):
            for name, output in (("full", "logits"), ("short", "late")):
                engine.pin(name)
                assert_close(engine(image[None]), wanted[output])
            engine.pin("early")
            found = engine(image[None])
            stage = int(score(test, wanted["early"])[0] < middle)
            assert engine.last.stage == stage
            assert_close(found, wanted[("early", "logits")[stage]])
            stages.append(stage)
    assert sum(stages) == 10
    told = mistake("units", onnx_file, "--exit-outputs", "erly")
    assert "no such output" in told


def test_what_scales_the_stream_does_so_for_the_exits(module, images, tmp_path):
    """Survival probabilities multiply branches in the stream that exits read, too."""
    from skipc.compiler.residual_scale import ResidualScale, Scaling

    survival = {f"blocks.{number}": 0.5 for number in range(3)}
    made = TorchSupernet(module, INPUTS, (), None, "own", {}, exit_outputs=OUTPUTS[:2])
    family = open_family(made, Scaling(ResidualScale.ORIGINAL, survival))
    network = made_of(family, ("late", "end"))
    for block in module.blocks:
        block.kept = 0.5
    with torch.no_grad():
        wanted = module(torch.from_numpy(images[:1]))
    ir.save(network.model.clone(), tmp_path / "net.onnx", external_data="net.data")
    case = {"images": images[:1]}
    (found,) = verify_subnet(tmp_path / "net.onnx", "all", network, [case]).expected
    assert_close(found["logits@late"], wanted["late"].numpy())

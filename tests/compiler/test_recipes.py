"""Our own networks: what may be skipped in them, and what skipping changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skipc.compiler.axes.units import find_units
from skipc.compiler.read import TorchSupernet
from skipc.compiler.read.survival import survival_from_modules
from skipc.compiler.read.switching import SwitchingNetwork
from skipc.compiler.recipes import RECIPES, find_recipe
from skipc.compiler.recipes.resnet import Block
from skipc.compiler.recipes.stochastic_depth import (
    Convention,
    DropSettings,
    Per,
    StochasticDepth,
)
from skipc.compiler.recipes.sub_paths import SwitchedNorm, mandatory_blocks

RESNET50 = {
    "widths": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3], "bottleneck": True,
    "stem": "imagenet", "channels": 3, "classes": 1000,
}  # fmt: skip


def units_of(name, **arguments):
    recipe = find_recipe(name)
    module = recipe.load()(**arguments).eval()
    graph = TorchSupernet(module, recipe.inputs, (), None, name, {}).exported()
    return [unit.name for unit in find_units(graph.model).units]


@pytest.mark.parametrize("bottleneck", [False, True])
def test_every_block_of_a_resnet_is_a_unit(bottleneck):
    found = units_of("resnet", widths=[8, 16], depths=[1, 2], bottleneck=bottleneck)
    assert found == ["stages.0.0", "stages.1.0", "stages.1.1"]


def test_both_branches_of_a_transformer_layer_are_units():
    found = units_of("vit", width=16, depth=2, heads=2)
    assert found == [f"layers.{i}.{part}" for i in (0, 1) for part in ("attention", "mlp")]


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_blocks_start_as_their_shortcuts(norm):
    torch.manual_seed(0)
    module = find_recipe("resnet").load()(norm=norm).eval()
    blocks = [m for m in module.modules() if isinstance(m, Block)]
    assert len(blocks) == 12
    for block in blocks:
        width = next(m for m in block.branch.modules() if isinstance(m, nn.Conv2d)).in_channels
        assert not block.branch(torch.randn(1, width, 8, 8)).any()


@pytest.mark.parametrize("name", RECIPES)
def test_networks_take_digits_and_say_whether_they_switch(name):
    module = find_recipe(name).load()().eval()
    assert module(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert isinstance(module, SwitchingNetwork) == name.startswith("subpath")


@pytest.mark.parametrize(
    ("name", "arguments", "fragment"),
    [
        ("resnet", {"norm": "layer"}, "must be 'batch' or 'none'"),
        ("resnet", {"stem": "big"}, "must be 'small' or 'imagenet'"),
        ("resnet", {"drop": 1.0}, "below 1"),
        ("resnet", {"convention": "other"}, "other"),
        ("vit", {"image": 9}, "no multiple of the patch size"),
        ("subpath-vit", {"depth": 7}, "multiple of 3"),
    ],
)
def test_arguments_that_make_no_network_are_refused(name, arguments, fragment):
    with pytest.raises(ValueError, match=fragment):
        find_recipe(name).load()(**arguments)


# --- stochastic depth


def rates(schedule, count=4):
    settings = DropSettings.of(0.4, schedule, "inverted", "sample")
    return [settings.at(index, count).p for index in range(count)]


def test_schedules_of_the_drop_rate():
    assert rates("linear") == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates("uniform") == [0.4] * 4


def kept(convention, per, rows=4000, p=0.25):
    torch.manual_seed(0)
    module = StochasticDepth(p, convention, per).train()
    return module(torch.ones(rows, 1))[:, 0]


@pytest.mark.parametrize(
    ("convention", "scale"),
    [(Convention.ORIGINAL, 1.0), (Convention.NONE, 1.0), (Convention.INVERTED, 1 / 0.75)],
)
def test_survivors_are_scaled_by_convention(convention, scale):
    found = kept(convention, Per.SAMPLE)
    assert sorted(set(found.tolist())) == pytest.approx([0.0, scale])
    share = float((found > 0).float().mean())
    assert share == pytest.approx(0.75, abs=0.03)
    if convention is Convention.INVERTED:
        assert float(found.mean()) == pytest.approx(1.0, abs=0.04)


def test_per_batch_drops_all_samples_or_none():
    drawn = [kept_once(seed) for seed in range(200)]
    assert all(len(set(found.tolist())) == 1 for found in drawn)
    share = sum(bool(found[0]) for found in drawn) / len(drawn)
    assert share == pytest.approx(0.75, abs=0.1)


def kept_once(seed):
    torch.manual_seed(seed)
    return StochasticDepth(0.25, Convention.NONE, Per.BATCH).train()(torch.ones(8, 1))[:, 0]


def test_nothing_is_dropped_at_test_time():
    x = torch.randn(3, 2)
    assert StochasticDepth(0.9).eval()(x) is x


def test_survival_is_read_off_the_network():
    module = find_recipe("resnet").load()(widths=[4, 4], depths=[1, 1], drop=0.4)
    found = survival_from_modules(module)
    assert found == pytest.approx({"stages.0.0.drop": 0.8, "stages.1.0.drop": 0.6})


# --- skippable sub-paths


@pytest.mark.parametrize(
    ("depth", "expected"), [(1, 1), (2, 1), (3, 2), (4, 2), (6, 3), (23, 12), (18, 9)]
)
def test_first_half_of_a_stage_is_mandatory(depth, expected):
    assert mandatory_blocks(depth) == expected


def macs_of(module, size):
    """Counts multiply-accumulates with hooks, on tensors that have no content."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        per_output = layer.weight[0].numel()
        total += output.numel() * per_output

    layers = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        module(torch.empty(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return total


def test_macs_of_resnet50_are_the_papers():
    with torch.device("meta"):
        module = find_recipe("subpath-resnet").load()(**RESNET50).eval()
    names = module.skippable()
    counts = []
    for number in range(5):
        module.set_skipped(names[:number])
        counts.append(macs_of(module, 224))
    shares = [count / counts[0] for count in counts]
    assert counts[0] == pytest.approx(4.09e9, rel=0.002)
    assert shares == pytest.approx([1, 0.947, 0.840, 0.680, 0.626], abs=0.002)


def test_every_third_layer_of_a_transformer_is_skippable():
    module = find_recipe("subpath-vit").load()(depth=12)
    assert module.skippable() == ("stage1", "stage2", "stage3", "stage4")
    assert [len(stage.skippable) for stage in module.stages] == [1] * 4
    assert isinstance(module.norm, nn.LayerNorm)


def test_norms_are_switched_by_their_own_stage():
    module = find_recipe("subpath-resnet").load()()
    module.set_skipped(["stage2"])
    flags = {
        name.split(".")[1]: norm.skipping
        for name, norm in module.named_modules()
        if isinstance(norm, SwitchedNorm)
    }
    assert flags == {"0": False, "1": True, "2": False}
    assert not any(isinstance(m, SwitchedNorm) for m in module.stem.modules())
    module.set_skipped(())
    assert not any(stage.skipped for stage in module.stages)
    with pytest.raises(ValueError, match="no stage 'stage9'"):
        module.set_skipped(["stage9"])

"""Training: what each step moves, and a run that is resumed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from skipc.compiler.axes.gates import Gated, GatesAxis
from skipc.compiler.gates import read_gates
from skipc.compiler.heads import read_heads
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.compiler.read.recorded import recorded_accuracy, recorded_sketch
from skipc.compiler.recipes import find_recipe
from skipc.compiler.recipes.sub_paths import SwitchedNorm
from skipc.compiler.select.data.sketch import sketch_of
from skipc.compiler.select.samples import Samples
from skipc.runtime.bundle.gates import DECISIONS
from skipc.tools.training import TrainError
from skipc.tools.training.bit_errors import BitErrors, damaged
from skipc.tools.training.images import TrainingData, array_images, augmented
from skipc.tools.training.losses import divergence, stochastic_depth_step, sub_paths_step
from skipc.tools.training.resolutions import at_resolutions
from skipc.tools.training.training import TrainOptions, _layout, train

TINY = {"widths": [4, 8], "depths": [2, 2]}


def data(count=48):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 4
    images = rng.random((count, 1, 8, 8)).astype(np.float32) * 0.2
    images[np.arange(count), 0, labels * 2] += 0.8
    part = array_images(images, labels.astype(np.int64))
    return TrainingData(part, part, (1, 8, 8), 4, flip=False)


def options(**changed):
    settings = {"arguments": TINY, "epochs": 3, "batch": 16, "rate": 1e-2, **changed}
    return TrainOptions(**settings)


def weights(folder):
    supernet = read_checkpoint(folder / "ckpt.pt", ModelOptions())
    return supernet.source.state_dict()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_same_seed_gives_the_same_weights(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(data(), options(seed=seed), tmp_path / name)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_training_learns(tmp_path):
    trained = train(data(), options(epochs=20, arguments={**TINY, "drop": 0.05}), tmp_path)
    assert trained.accuracy > 0.9
    assert trained.base_accuracy is None
    assert recorded_accuracy(trained.checkpoint) == ("accuracy", trained.accuracy)
    images = data().train.take(np.arange(48))
    sketch = sketch_of([Samples({"images": images}, np.zeros(48))])
    assert recorded_sketch(trained.checkpoint) == sketch


@pytest.mark.parametrize("recipe", ["stochastic-depth", "sub-paths", "early-exit"])
def test_resumed_run_is_the_uninterrupted_one(tmp_path, recipe):
    network = "subpath-resnet" if recipe == "sub-paths" else "resnet"
    chosen = options(recipe=recipe, network=network)
    train(data(), chosen, tmp_path / "whole")

    def stop(done, total):
        if done == 5:  # in the second of three epochs of three steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data(), chosen, tmp_path / "cut", progress=stop)
    train(data(), chosen, tmp_path / "cut", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    logs = [
        (tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "cut")
    ]
    untimed = [[line.rpartition(",")[0] for line in log] for log in logs]
    assert untimed[0] == untimed[1]
    assert len(untimed[0]) == 4


def test_errors_are_raised_step_by_step_and_leave_the_weights(tmp_path):
    errors = BitErrors(0.1, "int8")
    rates = [errors.rate_at(epoch, 8) for epoch in range(8)]
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (pytest.approx(0.0125), 0.1)
    model = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.Linear(30, 20))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for stored, rate in (("float32", 0.01), ("int8", 0.05)):
        with damaged(model, stored, rate, (0, 1)):
            for name, value in model.state_dict().items():
                changed = (value != before[name]).float().mean()
                assert value.isfinite().all()
                if name.endswith("bias"):
                    assert not changed
                else:  # 1 - (1 - rate) ** bits, but for what a flip of zero leaves
                    bits = 8 if stored == "int8" else 32
                    assert changed == pytest.approx(1 - (1 - rate) ** bits, abs=0.1)
                    assert value.abs().max() <= 1.01 * before[name].abs().max()
        assert same(model.state_dict(), before)


def test_training_with_errors_moves_intact_weights(tmp_path):
    arguments = {"widths": [8, 8], "depths": [1, 1], "drop": 0.05}
    chosen = options(epochs=20, bit_errors=BitErrors(1e-3), arguments=arguments)
    trained = train(data(), chosen, tmp_path)
    assert trained.accuracy > 0.7
    with pytest.raises(TrainError, match="is a run with bit_errors"):
        train(data(), replace(chosen, bit_errors=None), tmp_path, resume=True)


def test_another_run_is_not_resumed(tmp_path):
    train(data(), options(epochs=1), tmp_path)
    with pytest.raises(TrainError, match=r"is a run with seed 0, not 5"):
        train(data(), options(epochs=1, seed=5), tmp_path, resume=True)
    with pytest.raises(TrainError, match="no epoch was finished"):
        train(data(), options(), tmp_path / "other", resume=True)
    (tmp_path / "last.pt").write_bytes(b"damaged")
    with pytest.raises(TrainError, match="damaged, so the training cannot be resumed"):
        train(data(), options(epochs=1), tmp_path, resume=True)


def test_diverged_training_keeps_the_last_checkpoint(tmp_path):
    train(data(), options(epochs=1), tmp_path)
    before = (tmp_path / "ckpt.pt").read_bytes()
    with pytest.raises(TrainError, match=r"training diverged.*--rate"):
        train(data(), options(rate=1e30), tmp_path)
    assert (tmp_path / "ckpt.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        ({"device": "cuda"}, "PyTorch sees no GPU"),
        ({"device": "abacus"}, "no such device"),
        ({"precision": "fp16"}, "needs a GPU"),
        ({"arguments": {**TINY, "drop": 0.0}}, "drops nothing"),
        ({"recipe": "sub-paths"}, "this network has none"),
        ({"recipe": "early-exit", "heads": 4}, "--heads 4: the network has 4 blocks"),
        ({"recipe": "early-exit", "network": "subpath-resnet"}, "no head can be attached"),
        (
            {"recipe": "gates", "network": "subpath-resnet"},
            "there are no gates for this network",
        ),
        ({"recipe": "gates", "target": 0.01}, "of the network's operations always run"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, changed, fragment):
    with pytest.raises(TrainError, match=fragment):
        train(data(), options(**changed), tmp_path)


def test_exits_learn_together_and_lie_beside_the_checkpoint(tmp_path):
    chosen = options(recipe="early-exit", epochs=20, heads=2, arguments={**TINY, "drop": 0.05})
    trained = train(data(), chosen, tmp_path)
    heads = read_heads(trained.checkpoint)
    assert [head.name for head in heads] == ["stages.0.0", "stages.1.0"]
    assert heads[1].accuracy > 0.5  # a quarter is chance
    assert trained.accuracy > 0.9
    # What each head answers, by the stages alone.
    network = read_checkpoint(trained.checkpoint, ModelOptions()).source.eval()
    images = torch.from_numpy(data().held_out.take(np.arange(48)))
    with torch.no_grad():
        first = network.stages[0][0](network.stem(images))
        second = network.stages[1][0](network.stages[0][1](first))
    for head, stream in zip(heads, (first, second), strict=True):
        answers = stream.mean((2, 3)).numpy() @ head.weight.T + head.bias
        assert (answers.argmax(1) == data().held_out.labels).mean() == head.accuracy


def test_gates_learn_with_their_network_and_decide_alike_once_exported(tmp_path):
    arguments = {**TINY, "drop": 0.05}
    chosen = options(recipe="gates", epochs=12, target=0.6, channels=2, arguments=arguments)
    trained = train(data(), chosen, tmp_path)
    assert trained.gated.compute <= 0.6
    network = read_checkpoint(trained.checkpoint, ModelOptions()).exported()
    network = replace(network, gates=read_gates(trained.checkpoint))
    offer = GatesAxis().offer(network)
    reference = GatesAxis().apply(network, Gated(offer.names), offer).reference
    images = data().held_out.take(np.arange(48))
    found = reference.run([{"images": image[None]} for image in images])
    decisions = np.concatenate([case[DECISIONS] for case in found])
    np.testing.assert_allclose(decisions.mean(0), trained.gated.rates)
    rates = [rate for gate in network.gates.gates for rate in gate.rates]
    assert rates == [*trained.gated.rates]
    (output,) = (spec.name for spec in network.outputs)
    right = [case[output].argmax() for case in found] == data().held_out.labels
    assert right.mean() == trained.gated.accuracy


def test_original_convention_is_written_down(tmp_path):
    train(data(), options(epochs=1, arguments={**TINY, "convention": "original"}), tmp_path)
    supernet = read_checkpoint(tmp_path / "ckpt.pt", ModelOptions())
    assert supernet.residual_scale == "original"
    train(data(), options(epochs=1), tmp_path)
    assert read_checkpoint(tmp_path / "ckpt.pt", ModelOptions()).residual_scale == "inverted"


# --- one step


def stepped(step, network):
    torch.manual_seed(0)
    model = find_recipe(network).load()(**TINY, classes=4).train()
    taken = data().train
    images, labels = (
        torch.from_numpy(taken.take(np.arange(16))),
        torch.from_numpy(taken.labels),
    )
    losses = []

    def backward(loss):
        losses.append(loss.detach())
        loss.backward()

    before = {n: b.clone() for n, b in model.named_buffers()}
    value = step(model, images, labels[:16], 0.0, backward)
    return model, before, losses, value


def test_each_pass_moves_its_own_norms():
    moved = {}
    torch.manual_seed(0)
    model = find_recipe("subpath-resnet").load()(**TINY, classes=4).train()
    images, labels = torch.rand(8, 1, 8, 8), torch.zeros(8, dtype=torch.int64)

    def backward(loss):
        switched = {n: m for n, m in model.named_modules() if isinstance(m, SwitchedNorm)}
        moved[len(moved)] = [
            (bool(m.whole.num_batches_tracked), bool(m.short.num_batches_tracked))
            for m in switched.values()
        ]
        loss.backward()

    sub_paths_step(model, images, labels, 0.0, backward)
    assert set(moved[0]) == {(True, False)}
    assert set(moved[1]) == {(True, True)}


def test_base_network_learns_from_the_full_one_alone():
    model, _, losses, value = stepped(sub_paths_step, "subpath-resnet")
    assert len(losses) == 2
    assert value == pytest.approx(float(losses[0] + losses[1]))
    assert not any(stage.skipped for stage in model.stages)
    short = [m.short for m in model.modules() if isinstance(m, SwitchedNorm)]
    assert all(norm.weight.grad is not None for norm in short)
    # The divergence from itself is nothing: alpha 0 and no skipping leave no loss.
    torch.manual_seed(0)
    logits = torch.randn(5, 7)
    assert float(divergence(logits, logits)) == pytest.approx(0, abs=1e-6)


def test_stochastic_depth_runs_one_pass():
    _, _, losses, value = stepped(stochastic_depth_step, "resnet")
    assert len(losses) == 1
    assert value == pytest.approx(float(losses[0]))


def test_augmentation_shifts_and_mirrors():
    images = np.zeros((200, 1, 8, 8), np.float32)
    images[:, 0, 4, 2] = 1
    rng = np.random.default_rng(0)
    found = {tuple(np.argwhere(image[0])[0]) for image in augmented(images, False, rng)}
    assert found == {(row, column) for row in (3, 4, 5) for column in (1, 2, 3)}
    mirrored = augmented(images, True, rng)
    columns = {int(np.argwhere(image[0])[0][1]) for image in mirrored}
    assert columns == {1, 2, 3, 4, 5, 6}


def test_smaller_images_are_trained_on_beside_the_full_ones():
    torch.manual_seed(0)
    plain = find_recipe("resnet").load()(**TINY, drop=0.0).train()
    mixed = find_recipe("resnet").load()(**TINY, drop=0.0).train()
    mixed.load_state_dict(plain.state_dict())
    images = torch.rand(16, 1, 8, 8)
    seen = []
    for each in at_resolutions(mixed, images, (6, 4)):
        seen.append(each)
        mixed(each)
    plain(images)
    for pixels, each in zip((6, 4), seen, strict=False):
        size = (pixels, pixels)
        wanted = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
        assert torch.equal(each, wanted)
    assert torch.equal(seen[-1], images)
    # Statistics of the checkpoint are the full size's.
    for one, other in zip(plain.buffers(), mixed.buffers(), strict=True):
        if one.is_floating_point():
            assert torch.equal(one, other)


def test_training_at_several_resolutions_changes_weights(tmp_path):
    train(data(), options(epochs=1), tmp_path / "plain")
    train(data(), options(epochs=1, resolutions=(6,)), tmp_path / "mixed")
    assert not same(weights(tmp_path / "plain"), weights(tmp_path / "mixed"))


@pytest.mark.parametrize(
    ("network", "resolutions", "told"),
    [
        ("resnet", (8,), r"--resolution 8: the images have 8 rows"),
        ("resnet", (6, 6), r"--resolution 6 is given twice"),
        ("vit", (6,), r"--resolution 6: the network does not run at it"),
    ],
)
def test_resolution_that_cannot_be_trained_at(tmp_path, network, resolutions, told):
    chosen = options(network=network, arguments={}, resolutions=resolutions)
    with pytest.raises(TrainError, match=told):
        train(data(), chosen, tmp_path)


def test_a_narrow_network_is_trained_in_a_layout_that_is_safe():
    # Channels last, its strided convolution of 1x1 makes oneDNN write past its memory.
    narrow = torch.nn.Conv2d(4, 8, 1, 2)
    assert _layout(torch.nn.Sequential(narrow)) == torch.contiguous_format
    wide = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 1, 2), torch.nn.Conv2d(4, 8, 3, 2))
    assert _layout(wide) == torch.channels_last

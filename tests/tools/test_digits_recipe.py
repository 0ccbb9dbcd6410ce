from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from skipc.compiler.checkpoint import ModelOptions, TorchSupernet, read_checkpoint
from skipc.compiler.front import read_front
from skipc.compiler.recipes.digits_resnet import DigitsResNet, StochasticDepth
from skipc.tools.recipes.digits import (
    Digits,
    Training,
    accuracy,
    load_digits,
    make_digits,
    select_front,
    train_digits,
    unit_paths,
)

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Training(epochs=1, batch=256, widths=(4, 4, 8))


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits(0)


@pytest.fixture(scope="module")
def network(digits: Digits) -> nn.Module:
    return train_digits(digits.train, QUICK)


def test_digits_are_split_without_overlap(digits: Digits) -> None:
    parts = (digits.train, digits.validation, digits.test)
    assert [len(part.labels) for part in parts] == [1078, 359, 360]
    assert digits.test.images.shape == (360, 1, 8, 8)
    assert digits.test.images.dtype == np.float32
    assert digits.test.images.max() == 1.0
    seen = np.sort(np.concatenate([part.images.sum((1, 2, 3)) for part in parts]))
    again = load_digits(1)
    other = (again.train, again.validation, again.test)
    same = np.sort(np.concatenate([part.images.sum((1, 2, 3)) for part in other]))
    assert np.array_equal(seen, same)
    assert not np.array_equal(digits.train.labels, again.train.labels)


def test_training_is_the_same_for_the_same_seed(digits: Digits, network: nn.Module) -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    again = train_digits(digits.train, QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(network.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    other = train_digits(digits.train, Training(epochs=1, batch=256, widths=(4, 4, 8), seed=1))
    assert not torch.equal(next(network.parameters()), next(other.parameters()))


def test_training_reports_every_step(digits: Digits) -> None:
    seen: list[tuple[int, int]] = []
    train_digits(digits.train, QUICK, lambda done, total: seen.append((done, total)))
    assert seen == [(n, 5) for n in range(1, 6)]


def test_skipped_blocks_contribute_nothing(network: nn.Module, digits: Digits) -> None:
    paths = unit_paths(network)
    assert len(paths) == 12
    assert paths[:2] == ("stages.0.0", "stages.0.1")
    images = torch.from_numpy(digits.test.images[:4])
    block = network.get_submodule("stages.0.1")
    inside: list[torch.Tensor] = []
    hook = block.register_forward_hook(lambda m, inputs, out: inside.append(out - inputs[0]))
    accuracy(network, digits.test, ("stages.0.1",))
    hook.remove()
    assert not inside[0].any()
    with torch.no_grad():
        before = network(images)
        accuracy(network, digits.test, paths)
        assert torch.equal(network(images), before)


def test_front_grows_one_configuration_from_the_other(
    network: nn.Module, digits: Digits
) -> None:
    front = select_front(network, digits, sizes=(0, 1, 3))
    assert [entry.name for entry in front.entries] == ["full", "skip1", "skip3"]
    skips = [set(entry.skip) for entry in front.entries]
    assert [len(skip) for skip in skips] == [0, 1, 3]
    assert skips[1] < skips[2] < set(unit_paths(network))
    last = front.entries[-1]
    assert last.metrics["accuracy"] == accuracy(network, digits.test, tuple(last.skip))


def test_recipe_writes_what_the_compiler_reads(tmp_path: Path, digits: Digits) -> None:
    front = make_digits(tmp_path / "demo", QUICK)
    assert read_front(tmp_path / "demo" / "front.json") == front
    supernet = read_checkpoint(tmp_path / "demo" / "ckpt.pt", ModelOptions())
    assert isinstance(supernet, TorchSupernet)
    full = front.entries[0].metrics["accuracy"]
    assert accuracy(supernet.module, digits.test) == full
    assert supernet.survival["stages.2.3.drop"] == 0.9


def test_stochastic_depth_keeps_the_mean_in_training_and_the_value_in_eval() -> None:
    torch.manual_seed(0)
    depth = StochasticDepth(0.25)
    branch = torch.ones(4000, 1, 2, 2)
    dropped = depth(branch)
    per_sample = dropped.flatten(1)
    assert torch.equal(per_sample.amin(1), per_sample.amax(1))
    assert abs(float(dropped.mean()) - 1.0) < 0.05
    assert depth.eval()(branch) is branch


def test_network_starts_with_branches_that_are_zero() -> None:
    network = DigitsResNet(widths=(4, 4, 4)).eval()
    branch = network.get_submodule("stages.1.2.branch")
    assert not branch(torch.ones(1, 4, 4, 4)).any()

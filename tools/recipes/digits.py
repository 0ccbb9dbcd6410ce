"""A stochastic-depth ResNet on scikit-learn's digits: ``ckpt.pt`` and ``front.json``.

1,797 real images of 8x8 grey pixels, split by seed into training, validation and test parts
(60, 20 and 20 %). The validation part chooses the configurations, the test part only
measures them.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.checkpoint.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.extras import require
from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.compiler.recipes import find_recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray
    from torch import nn

    Progress = Callable[[int, int], None]

RECIPE = "digits-resnet"


@dataclass(frozen=True, slots=True)
class Part:
    """Images, float32 (N, 1, 8, 8) between 0 and 1, and their labels, int64 (N,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Digits:
    """The three parts of the data."""

    train: Part
    validation: Part
    test: Part


@dataclass(frozen=True, slots=True)
class Training:
    """How to train; the defaults take about 20 s on one core.

    Attributes:
        epochs: Passes over the training part.
        batch: Images per step.
        peak_rate: Highest learning rate; it rises and falls once over the training.
        drop: Drop probability of the last block.
        widths: Channels of the three stages.
        seed: Of the split, the first weights, the order and what is dropped.
    """

    epochs: int = 50
    batch: int = 64
    peak_rate: float = 3e-3
    drop: float = 0.1
    widths: tuple[int, int, int] = (16, 32, 64)
    seed: int = 0


FRONT_SIZES = (0, 3, 5, 7, 8)
"""How many of the twelve units the configurations of the front skip."""


def load_digits(seed: int) -> Digits:
    """Returns the data, split by ``seed``.

    Raises:
        ExtraMissingError: scikit-learn is not installed.
    """
    datasets = require("sklearn.datasets", "demo")
    raw = datasets.load_digits()
    images = (raw.images[:, None] / 16.0).astype(np.float32)
    labels = raw.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    first, second = len(order) * 6 // 10, len(order) * 8 // 10
    train, validation, test = (
        Part(images[index], labels[index]) for index in np.split(order, [first, second])
    )
    return Digits(train, validation, test)


def train_digits(
    part: Part, training: Training, progress: Progress = lambda done, total: None
) -> nn.Module:
    """Returns a trained ``DigitsResNet`` in eval mode; the same for the same seed.

    Args:
        part: The training part.
        training: The settings.
        progress: Called after every step with the steps done and the steps in all.
    """
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(training.seed)
    steps_per_epoch = -(-len(part.labels) // training.batch)
    total, done = training.epochs * steps_per_epoch, 0
    images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(training.seed)
        model = find_recipe(RECIPE).load()(**_arguments(training)).train()
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, training.peak_rate, total_steps=total
        )
        for _ in range(training.epochs):
            order = torch.from_numpy(rng.permutation(len(labels)))
            for start in range(0, len(labels), training.batch):
                index = order[start : start + training.batch]
                logits = model(_shifted(images[index], rng))
                loss = functional.cross_entropy(logits, labels[index], label_smoothing=0.05)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                done += 1
                progress(done, total)
    return model.eval()


def unit_paths(model: nn.Module) -> tuple[str, ...]:
    """Returns the module paths of the residual blocks, in network order."""
    from skipc.compiler.recipes.digits_resnet import Block

    return tuple(path for path, module in model.named_modules() if isinstance(module, Block))


def accuracy(model: nn.Module, part: Part, skip: Sequence[str] = ()) -> float:
    """Returns the fraction of ``part`` that is classified right with ``skip`` skipped."""
    import torch

    with _skipped(model, skip), torch.no_grad():
        predicted = model(torch.from_numpy(part.images)).argmax(1).numpy()
    return float((predicted == part.labels).mean())


def select_front(
    model: nn.Module, digits: Digits, sizes: Sequence[int] = FRONT_SIZES
) -> Front:
    """Returns configurations that skip ``sizes`` units, each containing the one before.

    Greedy: the unit whose loss costs the validation part least goes next; among equals the
    one nearest the output, which stochastic depth trained to be missed most.

    Returns:
        The front; ``accuracy`` is that of the test part.
    """
    entries = []
    skip: tuple[str, ...] = ()
    paths = unit_paths(model)
    for size in range(max(sizes) + 1):
        if size > 0:
            left = [path for path in reversed(paths) if path not in skip]
            best = max(left, key=lambda p: accuracy(model, digits.validation, (*skip, p)))
            skip = tuple(path for path in paths if path in (*skip, best))
        if size in sizes:
            metrics = {"accuracy": accuracy(model, digits.test, skip)}
            entries.append(FrontEntry(f"skip{size}" if size else "full", skip, metrics))
    return Front(tuple(entries))


def make_digits(
    folder: Path, training: Training, progress: Progress = lambda done, total: None
) -> Front:
    """Trains, writes ``ckpt.pt`` and ``front.json`` into ``folder``, returns the front."""
    digits = load_digits(training.seed)
    model = train_digits(digits.train, training, progress)
    front = select_front(model, digits)
    checkpoint = CheckpointFile(
        model=f"skipc:{RECIPE}",
        arguments=_arguments(training),
        state_dict=model.state_dict(),
        inputs=find_recipe(RECIPE).inputs,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(folder / "ckpt.pt", checkpoint)
    write_front(folder / "front.json", front)
    return front


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps PyTorch on one thread: as fast at this size, and the result is always the same."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _arguments(training: Training) -> dict[str, object]:
    return {"widths": list(training.widths), "drop": training.drop}


def _shifted(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Returns the images moved by up to one pixel each way, zeros coming in."""
    from torch.nn import functional

    height, width = images.shape[-2:]
    top, left = (int(n) for n in rng.integers(0, 3, 2))
    padded = functional.pad(images, (1, 1, 1, 1))
    return padded[..., top : top + height, left : left + width]


@contextmanager
def _skipped(model: nn.Module, skip: Sequence[str]) -> Iterator[None]:
    """Makes the branches of the named blocks contribute zero."""
    import torch

    def zero(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(output)

    hooks = [
        model.get_submodule(f"{path}.branch").register_forward_hook(zero) for path in skip
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

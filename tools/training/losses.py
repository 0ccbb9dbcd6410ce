"""One training step of each recipe: forward, backward, the loss's value."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from skipc.compiler.read.switching import SwitchingNetwork
from skipc.tools.training import TrainError
from skipc.tools.training.early_exits import blocks_of
from skipc.tools.training.gated_networks import GatedResNet, gated_blocks_of
from skipc.tools.training.gates import gated_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    Backward = Callable[[torch.Tensor], None]
    Step = Callable[[nn.Module, torch.Tensor, torch.Tensor, float, Backward], float]

EARLY_EXIT = "early-exit"
GATES = "gates"
TEACHER_LOGITS = 500
"""The base network learns from so many of the full one's largest logits."""
FULL_SHARE = 0.5
"""The full network's part of the loss."""


class Recipe(NamedTuple):
    """How a network is trained.

    Attributes:
        check: Raises ``TrainError`` where the recipe does not fit a network.
        step: Runs a batch of images and labels forward and backward, with label smoothing;
            returns its loss.
    """

    check: Callable[[nn.Module], None]
    step: Step


def check_drops(model: nn.Module) -> None:
    """Checks that a network has something to drop."""
    if not any(m.p for m in model.modules() if type(m).__name__ == "StochasticDepth"):
        raise TrainError(
            "stochastic-depth: this network drops nothing. Give a drop rate, e.g."
            " --network-arg drop=0.15, or another --network."
        )


def stochastic_depth_step(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float,
    backward: Backward,
) -> float:
    """Cross-entropy; the network drops its branches itself (Huang et al. 2016)."""
    loss = functional.cross_entropy(model(images), labels, label_smoothing=smoothing)
    backward(loss)
    return float(loss.detach())


def check_sub_paths(model: nn.Module) -> None:
    """Checks that a network has sub-paths to skip."""
    if not isinstance(model, SwitchingNetwork) or not model.skippable():
        raise TrainError(
            "sub-paths: this network has none. Use --network subpath-resnet or subpath-vit."
        )


def sub_paths_step(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float,
    backward: Backward,
) -> float:
    """The full network learns from labels, the base network from the full one.

    Two passes and one step (Adaptive Depth Networks, arXiv 2312.16392, section 3.3): a share
    of the cross-entropy of the full network, then the rest of the Kullback-Leibler divergence
    of the base network (everything skipped) from the full network's detached logits, of which
    the largest 500 count. The base network sees no labels.
    """
    assert isinstance(model, SwitchingNetwork)
    model.set_skipped(())
    full = model(images)
    entropy = functional.cross_entropy(full, labels, label_smoothing=smoothing)
    loss = FULL_SHARE * entropy
    backward(loss)
    model.set_skipped(model.skippable())
    try:
        distilled = (1 - FULL_SHARE) * divergence(model(images), full.detach())
        backward(distilled)
    finally:
        model.set_skipped(())
    return float(loss.detach()) + float(distilled.detach())


def divergence(base: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Returns how far the base network's logits are from the teacher's largest."""
    largest, index = teacher.topk(min(TEACHER_LOGITS, teacher.shape[1]), dim=1)
    return functional.kl_div(
        functional.log_softmax(base.gather(1, index), dim=1),
        functional.softmax(largest, dim=1),
        reduction="batchmean",
    )


def check_blocks(model: nn.Module) -> None:
    """Checks that a network has blocks that heads can follow."""
    if isinstance(model, SwitchingNetwork) or len(blocks_of(model)) < 2:
        raise TrainError(
            "early-exit: no head can be attached to this network. Use --network resnet or vit,"
            " of two blocks at least."
        )


def early_exits_step(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float,
    backward: Backward,
) -> float:
    """The sum of all exits' cross-entropies (MSDNet, Huang et al. 2018, section 4)."""
    losses = [
        functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        for logits in model(images)
    ]
    loss = torch.stack(losses).sum()
    backward(loss)
    return float(loss.detach())


def check_gates(model: nn.Module) -> None:
    """Checks that a network has blocks that gates can stand in front of."""
    if isinstance(model, SwitchingNetwork) or not gated_blocks_of(model):
        raise TrainError(
            "gates: there are no gates for this network. Use --network resnet, or train gates"
            " for a network of yours with `skipc gates`."
        )


def gates_step(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float,
    backward: Backward,
) -> float:
    """Cross-entropy; once gates decide, with a penalty on what runs (see ``gated_loss``)."""
    assert isinstance(model, GatedResNet)
    if model.target is None:
        loss = functional.cross_entropy(model(images), labels, label_smoothing=smoothing)
    else:
        answered = model.answer({"images": images})
        loss = gated_loss(model, answered, labels, model.target, smoothing)
    backward(loss)
    return float(loss.detach())


RECIPES = {
    "stochastic-depth": Recipe(check_drops, stochastic_depth_step),
    "sub-paths": Recipe(check_sub_paths, sub_paths_step),
    EARLY_EXIT: Recipe(check_blocks, early_exits_step),
    GATES: Recipe(check_gates, gates_step),
}

"""One training step of each recipe: forward, backward, the loss's value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch.nn import functional

from skipc.compiler.read.switching import SwitchingNetwork
from skipc.tools.training import TrainError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn

    Backward = Callable[[torch.Tensor], None]

TEACHER_LOGITS = 500
"""The base network learns from so many of the full one's largest logits."""


class Recipe(Protocol):
    """How a network is trained."""

    def check(self, model: nn.Module) -> None:
        """Checks that the recipe fits a network.

        Raises:
            TrainError: It does not.
        """
        ...

    def step(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, backward: Backward
    ) -> float:
        """Runs one batch forward and backward and returns its loss."""
        ...


class StochasticDepthRecipe:
    """Cross-entropy; the network drops its branches itself (Huang et al. 2016).

    Args:
        smoothing: Label smoothing.
    """

    def __init__(self, smoothing: float) -> None:
        self._smoothing = smoothing

    def check(self, model: nn.Module) -> None:
        """Checks that there is something to drop."""
        rates = [m.p for m in model.modules() if type(m).__name__ == "StochasticDepth"]
        if not any(rates):
            raise TrainError(
                "stochastic-depth: this network drops nothing. Give a drop rate, e.g."
                " --network-arg drop=0.15, or another --network."
            )

    def step(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, backward: Backward
    ) -> float:
        """Runs one batch forward and backward and returns its loss."""
        loss = functional.cross_entropy(model(images), labels, label_smoothing=self._smoothing)
        backward(loss)
        return float(loss.detach())


class SubPathsRecipe:
    """The full network learns from labels, the base network from the full one.

    Per batch two passes and one step (Adaptive Depth Networks, arXiv 2312.16392, section
    3.3): ``alpha`` times the cross-entropy of the full network, then ``1 - alpha`` times the
    Kullback-Leibler divergence of the base network (everything skipped) from the full
    network's detached logits, of which the largest 500 count. The base network sees no labels.

    Args:
        smoothing: Label smoothing of the full network's loss.
        alpha: Share of the full network.
        temperature: Divides both logits in the divergence.
    """

    def __init__(self, smoothing: float, alpha: float = 0.5, temperature: float = 1.0) -> None:
        self._smoothing = smoothing
        self._alpha = alpha
        self._temperature = temperature

    def check(self, model: nn.Module) -> None:
        """Checks that the network has sub-paths to skip."""
        if not isinstance(model, SwitchingNetwork) or not model.skippable():
            raise TrainError(
                "sub-paths: this network has none. Use --network subpath-resnet or"
                " subpath-vit."
            )

    def step(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, backward: Backward
    ) -> float:
        """Runs one batch through both networks and returns the sum of their losses."""
        assert isinstance(model, SwitchingNetwork)
        model.set_skipped(())
        full = model(images)
        loss = self._alpha * functional.cross_entropy(
            full, labels, label_smoothing=self._smoothing
        )
        backward(loss)
        model.set_skipped(model.skippable())
        try:
            distilled = (1 - self._alpha) * self._divergence(model(images), full.detach())
            backward(distilled)
        finally:
            model.set_skipped(())
        return float(loss.detach()) + float(distilled.detach())

    def _divergence(self, base: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        largest, index = teacher.topk(min(TEACHER_LOGITS, teacher.shape[1]), dim=1)
        chosen = base.gather(1, index)
        return functional.kl_div(
            functional.log_softmax(chosen / self._temperature, dim=1),
            functional.softmax(largest / self._temperature, dim=1),
            reduction="batchmean",
        )


_RECIPES: dict[str, Callable[[float], Recipe]] = {
    "stochastic-depth": StochasticDepthRecipe,
    "sub-paths": SubPathsRecipe,
}


def find_training_recipe(name: str, smoothing: float) -> Recipe:
    """Returns the recipe of that name, ``stochastic-depth`` or ``sub-paths``."""
    return _RECIPES[name](smoothing)

"""Residual networks (He et al. 2016) with stochastic depth, from digits to ImageNet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from skipc.compiler.recipes.stochastic_depth import DropSettings, StochasticDepth

if TYPE_CHECKING:
    from collections.abc import Sequence

MakeNorm = Callable[[int], nn.Module]
EXPANSION = 4
"""How much wider a bottleneck is outside than inside."""


class Block(nn.Module):
    """``relu(shortcut(x) + drop(branch(x)))``; the shortcut may be a projection."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, drop: StochasticDepth) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.drop = drop
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns a tensor of shape (N, channels, H / stride, W / stride)."""
        joined: torch.Tensor = self.relu(self.shortcut(x) + self.drop(self.branch(x)))
        return joined


class ResNet(nn.Module):
    """A residual network of basic or bottleneck blocks.

    Args:
        widths: Channels of the stages; the first block of each but the first halves the
            resolution.
        depths: Blocks of the stages.
        bottleneck: 1x1, 3x3, 1x1 convolutions in a branch instead of two 3x3.
        stem: ``small`` (3x3) or ``imagenet`` (7x7 and pooling, a quarter of the resolution).
        norm: ``batch``, or ``none``: the branch then starts at zero.
        channels: Channels of the images.
        classes: Outputs.
        drop: Drop rate of the last block.
        schedule: ``linear`` or ``uniform``.
        convention: ``original``, ``inverted`` or ``none``.
        per: ``batch`` or ``sample``.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        depths: Sequence[int] = (4, 4, 4),
        bottleneck: bool = False,
        stem: str = "small",
        norm: str = "batch",
        channels: int = 1,
        classes: int = 10,
        drop: float = 0.5,
        schedule: str = "linear",
        convention: str = "inverted",
        per: str = "sample",
    ) -> None:
        super().__init__()
        if norm not in ("batch", "none"):
            raise ValueError(f"norm {norm!r}: must be 'batch' or 'none'")
        make_norm: MakeNorm = nn.BatchNorm2d if norm == "batch" else lambda _: nn.Identity()
        settings = DropSettings.of(drop, schedule, convention, per)
        first = widths[0] // EXPANSION if bottleneck else widths[0]
        self.stem = make_stem(stem, channels, first, make_norm)
        stages: list[nn.Module] = []
        inner, number = first, 0
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks: list[nn.Module] = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                branch = make_branch(inner, width, stride, bottleneck, make_norm)
                shortcut = make_shortcut(inner, width, stride, make_norm)
                blocks.append(Block(branch, shortcut, settings.at(number, sum(depths))))
                inner, number = width, number + 1
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inner, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits, (N, classes), of images of shape (N, channels, H, W)."""
        features = self.stages(self.stem(images))
        logits: torch.Tensor = self.head(features.mean((2, 3)))
        return logits


def make_stem(stem: str, channels: int, width: int, make_norm: MakeNorm) -> nn.Module:
    """Returns the layers before the first stage, ``small`` or ``imagenet``."""
    if stem == "small":
        return nn.Sequential(convolve(channels, width, 3, 1, make_norm), nn.ReLU())
    if stem != "imagenet":
        raise ValueError(f"stem {stem!r}: must be 'small' or 'imagenet'")
    # The bottleneck ResNets of He et al. start with 64 channels.
    pool = nn.MaxPool2d(3, 2, padding=1)
    return nn.Sequential(convolve(channels, width, 7, 2, make_norm), nn.ReLU(), pool)


def make_branch(
    inner: int, width: int, stride: int, bottleneck: bool, make_norm: MakeNorm
) -> nn.Sequential:
    """Returns a branch that contributes nothing at first."""
    if bottleneck:
        middle = width // EXPANSION
        sizes: tuple[tuple[int, int, int, int], ...] = (
            (inner, middle, 1, 1),
            (middle, middle, 3, stride),
            (middle, width, 1, 1),
        )
    else:
        sizes = ((inner, width, 3, stride), (width, width, 3, 1))
    layers: list[nn.Module] = []
    for size in sizes:
        layers += [convolve(*size, make_norm), nn.ReLU()]
    layers.pop()
    _start_at_zero(layers[-1])
    return nn.Sequential(*layers)


def _start_at_zero(layer: nn.Module) -> None:
    """Makes the last layer of a branch give zero, by its norms where it has some."""
    norms = [module for module in layer.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms or layer.modules():
        for tensor in module.parameters(recurse=False):
            nn.init.zeros_(tensor)


def make_shortcut(inner: int, width: int, stride: int, make_norm: MakeNorm) -> nn.Module:
    """Returns the identity, or a 1x1 projection where the shape changes."""
    if inner == width and stride == 1:
        return nn.Identity()
    return convolve(inner, width, 1, stride, make_norm)


def convolve(
    inner: int, outer: int, kernel: int, stride: int, make_norm: MakeNorm
) -> nn.Sequential:
    """Returns a convolution and its norm; it has a bias where the norm has none."""
    norm = make_norm(outer)
    bias = isinstance(norm, nn.Identity)
    convolution = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=bias)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, norm)

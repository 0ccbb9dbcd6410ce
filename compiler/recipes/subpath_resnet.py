"""Residual networks with skippable sub-paths (Adaptive Depth Networks, arXiv 2312.16392)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from skipc.compiler.recipes.resnet import (
    EXPANSION,
    Block,
    make_branch,
    make_shortcut,
    make_stem,
)
from skipc.compiler.recipes.stochastic_depth import StochasticDepth
from skipc.compiler.recipes.sub_paths import (
    SubPathNetwork,
    SubPathStage,
    SwitchedNorm,
    mandatory_blocks,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class SubPathResNet(SubPathNetwork):
    """A residual network whose stages can drop their second half.

    Stem, projections and skippable blocks have one set of norms, mandatory branches two.

    Args:
        widths: Channels of the stages.
        depths: Blocks of the stages.
        bottleneck: 1x1, 3x3, 1x1 convolutions in a branch instead of two 3x3.
        stem: ``small`` or ``imagenet``.
        channels: Channels of the images.
        classes: Outputs.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        depths: Sequence[int] = (4, 4, 4),
        bottleneck: bool = False,
        stem: str = "small",
        channels: int = 1,
        classes: int = 10,
    ) -> None:
        super().__init__()
        first = widths[0] // EXPANSION if bottleneck else widths[0]
        self.stem = make_stem(stem, channels, first, nn.BatchNorm2d)
        stages: list[nn.Module] = []
        inner = first
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks: list[nn.Module] = []
            for index in range(depth):
                switched = index < mandatory_blocks(depth)
                stride = 2 if stage > 0 and index == 0 else 1
                make_norm = _switched_norm if switched else nn.BatchNorm2d
                branch = make_branch(inner, width, stride, bottleneck, make_norm)
                shortcut = make_shortcut(inner, width, stride, nn.BatchNorm2d)
                blocks.append(Block(branch, shortcut, StochasticDepth(0.0)))
                inner = width
            half = mandatory_blocks(depth)
            stages.append(SubPathStage(blocks[:half], blocks[half:]))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inner, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits, (N, classes), of images of shape (N, channels, H, W)."""
        features = self.stages(self.stem(images))
        logits: torch.Tensor = self.head(features.mean((2, 3)))
        return logits


def _switched_norm(channels: int) -> nn.Module:
    return SwitchedNorm(nn.BatchNorm2d, channels)

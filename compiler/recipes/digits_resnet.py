"""A small stochastic-depth ResNet for the 8x8 grey images of scikit-learn's digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKS_PER_STAGE = 4


class StochasticDepth(nn.Module):
    """Drops whole samples of a residual branch while training, inverted scaling.

    Args:
        p: Probability that a sample's branch is dropped; the kept ones are divided by
            ``1 - p``, so that nothing is left to do at test time.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """Returns ``branch``, in training with some of its samples set to zero."""
        if not self.training or self.p == 0.0:
            return branch
        shape = (branch.shape[0],) + (1,) * (branch.dim() - 1)
        kept = torch.rand(shape, device=branch.device) >= self.p
        return branch * kept / (1.0 - self.p)


class Block(nn.Module):
    """A residual block: ``relu(shortcut(x) + branch(x))``, two 3x3 convolutions.

    There is no normalisation: its statistics would change with every block that is skipped.
    The branch starts at zero instead, which trains as well at this depth.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, p: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        nn.init.zeros_(self.branch[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.branch[2].bias)  # type: ignore[arg-type]
        same = channels_in == channels and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1, stride)
        self.drop = StochasticDepth(p)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns a tensor of shape (N, channels, H / stride, W / stride)."""
        out: torch.Tensor = self.relu(self.shortcut(x) + self.drop(self.branch(x)))
        return out


class DigitsResNet(nn.Module):
    """Twelve residual blocks in three stages; ten of them have no projection.

    Args:
        widths: Channels of the stages.
        drop: Drop probability of the last block; it rises linearly from the first.
        classes: Outputs.
    """

    def __init__(
        self, widths: Sequence[int] = (16, 32, 64), drop: float = 0.1, classes: int = 10
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1)
        self.relu = nn.ReLU()
        total = len(widths) * BLOCKS_PER_STAGE
        channels_in, number = widths[0], 0
        stages: list[nn.Module] = []
        for stage, channels in enumerate(widths):
            blocks: list[nn.Module] = []
            for index in range(BLOCKS_PER_STAGE):
                number += 1
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(channels_in, channels, stride, drop * number / total))
                channels_in = channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels_in, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits, shape (N, classes), of images of shape (N, 1, 8, 8)."""
        features = self.stages(self.relu(self.stem(images)))
        logits: torch.Tensor = self.head(features.mean((2, 3)))
        return logits

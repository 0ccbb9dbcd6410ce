"""A DenseNet-121 (Huang et al., 2017), written as torchvision writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence


class DenseLayer(nn.Module):
    """What a layer adds to the features that are there."""

    def __init__(self, inner: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inner), nn.BatchNorm2d(4 * growth)
        self.conv1 = nn.Conv2d(inner, 4 * growth, 1, bias=False)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Returns (N, growth, H, W)."""
        x = self.conv1(torch.relu(self.norm1(torch.cat([*features], 1))))
        made: torch.Tensor = self.conv2(torch.relu(self.norm2(x)))
        return made


class DenseBlock(nn.Module):
    """Layers that each read all features before them."""

    def __init__(self, layers: int, inner: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(inner + number * growth, growth) for number in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns all features beside one another."""
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """A stem, blocks with halving transitions between them, and a classifier."""

    def __init__(
        self, layers: Sequence[int] = (6, 12, 24, 16), growth: int = 32, classes: int = 1000
    ) -> None:
        super().__init__()
        width = 2 * growth
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for number, count in enumerate(layers):
            self.blocks.append(DenseBlock(count, width, growth))
            width += count * growth
            last = number + 1 == len(layers)
            half = (nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2))
            end = () if last else half
            self.transitions.append(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), *end))
            width //= 1 if last else 2
        self.classifier = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the scores, (N, classes)."""
        x = self.stem(images)
        for block, transition in zip(self.blocks, self.transitions, strict=True):
            x = transition(block(x))
        scores: torch.Tensor = self.classifier(
            torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1)
        )
        return scores

"""Vision transformers with skippable sub-paths (Adaptive Depth Networks, arXiv 2312.16392)."""

from __future__ import annotations

import torch
from torch import nn

from skipc.compiler.recipes.stochastic_depth import StochasticDepth
from skipc.compiler.recipes.sub_paths import SubPathNetwork, SubPathStage, SwitchedNorm
from skipc.compiler.recipes.vit import Embedding, Layer

GROUP = 3
"""Layers of a stage; the last of them can be skipped."""


class SubPathViT(SubPathNetwork):
    """A vision transformer of which every third layer can be skipped.

    The final norm is not switched.

    Args:
        image: Height and width of the images.
        patch: Height and width of a patch.
        channels: Channels of the images.
        width: Width of a token.
        depth: Layers, a multiple of three.
        heads: Attention heads.
        ratio: How much wider the MLP is inside.
        classes: Outputs.
    """

    def __init__(
        self,
        image: int = 8,
        patch: int = 2,
        channels: int = 1,
        width: int = 64,
        depth: int = 6,
        heads: int = 4,
        ratio: int = 2,
        classes: int = 10,
    ) -> None:
        super().__init__()
        if depth % GROUP:
            raise ValueError(f"depth {depth}: must be a multiple of {GROUP}")
        self.embedding = Embedding(image, patch, channels, width)
        stages: list[nn.Module] = []
        for _ in range(depth // GROUP):
            layers = [Layer(width, heads, ratio, StochasticDepth(0.0)) for _ in range(GROUP)]
            for layer in layers[:-1]:
                layer.norm1 = SwitchedNorm(nn.LayerNorm, width)  # type: ignore[assignment]
                layer.norm2 = SwitchedNorm(nn.LayerNorm, width)  # type: ignore[assignment]
            stages.append(SubPathStage([*layers[:-1]], [layers[-1]]))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits, (N, classes), of images of shape (N, channels, H, W)."""
        tokens = self.stages(self.embedding(images))
        logits: torch.Tensor = self.head(self.norm(tokens[:, 0]))
        return logits

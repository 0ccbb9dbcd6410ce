"""Networks with skippable sub-paths (Adaptive Depth Networks, arXiv 2312.16392).

The blocks of a stage are cut into a mandatory first half and a skippable second half. The
norms of the mandatory blocks exist twice: one set runs when the whole stage runs, the other
when its second half is skipped (the paper's skip-aware norms).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from skipc.compiler.recipes.resnet import ResNet
from skipc.compiler.recipes.vit import ViT

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

GROUP = 3
"""Layers of a stage of the transformer; the last of them can be skipped."""


def mandatory_blocks(depth: int) -> int:
    """Returns how many blocks of a stage of ``depth`` always run: half, at least one."""
    return max(1, min(depth - 1, (depth + 1) // 2))


class SwitchedNorm(nn.Module):
    """Two norms, of which one runs: a norm, and a copy of it.

    Attributes:
        skipping: Whether the norm of the shortened stage runs.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.whole = norm
        self.short = copy.deepcopy(norm)
        self.skipping = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``x`` normalised."""
        normed: torch.Tensor = self.short(x) if self.skipping else self.whole(x)
        return normed


def switch_norms(module: nn.Module) -> None:
    """Puts a ``SwitchedNorm`` in the place of every norm inside of a module."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d | nn.LayerNorm):
            setattr(module, name, SwitchedNorm(child))
        else:
            switch_norms(child)


class SubPathStage(nn.Module):
    """A stage whose second half, ``skippable``, can be skipped; it may be empty."""

    def __init__(self, mandatory: Sequence[nn.Module], skippable: Sequence[nn.Module]) -> None:
        super().__init__()
        self.mandatory = nn.Sequential(*mandatory)
        self.skippable = nn.Sequential(*skippable)
        self.skipped = False

    def skip(self, skipped: bool) -> None:
        """Says whether the second half is skipped, and switches the norms of the first."""
        self.skipped = skipped
        for module in self.mandatory.modules():
            if isinstance(module, SwitchedNorm):
                module.skipping = skipped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns what the stage, or its first half, makes of ``x``."""
        first: torch.Tensor = self.mandatory(x)
        if self.skipped:
            return first
        both: torch.Tensor = self.skippable(first)
        return both


class SubPathNetwork(nn.Module):
    """A network of ``SubPathStage`` modules: a ``SwitchingNetwork`` for the compiler."""

    stages: nn.Sequential

    def skippable(self) -> tuple[str, ...]:
        """Returns ``stage1``, ``stage2``, ...: those that have a second half."""
        return tuple(self._stages())

    def set_skipped(self, names: Collection[str]) -> None:
        """Skips the second half of the named stages and of no other; unknown names raise."""
        stages = self._stages()
        unknown = sorted(set(names) - stages.keys())
        if unknown:
            raise ValueError(f"no stage {unknown[0]!r} among {', '.join(stages)}")
        for name, stage in stages.items():
            stage.skip(name in names)

    def _stages(self) -> dict[str, SubPathStage]:
        found = {}
        for number, stage in enumerate(self.stages, start=1):
            if isinstance(stage, SubPathStage) and len(stage.skippable):
                found[f"stage{number}"] = stage
        return found


class SubPathResNet(SubPathNetwork, ResNet):
    """A ``ResNet`` whose stages can drop their second half.

    Stem, projections and skippable blocks have one set of norms, mandatory branches two.
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
        super().__init__(widths, depths, bottleneck, stem, "batch", channels, classes, drop=0)
        stages = []
        for depth, stage in zip(depths, self.stages, strict=True):
            blocks, half = list(stage.children()), mandatory_blocks(depth)
            for block in blocks[:half]:
                switch_norms(block.get_submodule("branch"))
            stages.append(SubPathStage(blocks[:half], blocks[half:]))
        self.stages = nn.Sequential(*stages)


class SubPathViT(SubPathNetwork, ViT):
    """A ``ViT`` of which every third layer can be skipped; the final norm is not switched."""

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
        if depth % GROUP:
            raise ValueError(f"depth {depth}: must be a multiple of {GROUP}")
        super().__init__(image, patch, channels, width, depth, heads, ratio, classes, drop=0)
        layers = list(self.layers)
        del self.layers
        stages = []
        for first in range(0, depth, GROUP):
            *mandatory, last = layers[first : first + GROUP]
            for layer in mandatory:
                switch_norms(layer)
            stages.append(SubPathStage(mandatory, [last]))
        self.stages = nn.Sequential(*stages)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits, (N, classes), of images of shape (N, channels, H, W)."""
        tokens = self.stages(self.embedding(images))
        logits: torch.Tensor = self.head(self.norm(tokens[:, 0]))
        return logits

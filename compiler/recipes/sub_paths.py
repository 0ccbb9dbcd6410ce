"""Networks with skippable sub-paths (Adaptive Depth Networks, arXiv 2312.16392).

The blocks of a stage are cut into a mandatory first half and a skippable second half. The
norms of the mandatory blocks exist twice: one set runs when the whole stage runs, the other
when its second half is skipped (the paper's skip-aware norms).
"""

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
from skipc.compiler.recipes.vit import Embedding, Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

GROUP = 3
"""Layers of a stage of the transformer; the last of them can be skipped."""


def mandatory_blocks(depth: int) -> int:
    """Returns how many blocks of a stage of ``depth`` always run: half, at least one."""
    return max(1, min(depth - 1, (depth + 1) // 2))


class SwitchedNorm(nn.Module):
    """Two norms, of which one runs.

    Args:
        make: Makes a norm for a number of channels.
        channels: That number.

    Attributes:
        skipping: Whether the norm of the shortened stage runs.
    """

    def __init__(self, make: Callable[[int], nn.Module], channels: int) -> None:
        super().__init__()
        self.whole = make(channels)
        self.short = make(channels)
        self.skipping = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``x`` normalised."""
        normed: torch.Tensor = self.short(x) if self.skipping else self.whole(x)
        return normed


class SubPathStage(nn.Module):
    """A stage whose second half can be skipped.

    Args:
        mandatory: Its first blocks, with norms to switch.
        skippable: The others; may be empty.

    Attributes:
        skipped: Whether the second half is skipped; set it with ``skip``.
    """

    def __init__(self, mandatory: list[nn.Module], skippable: list[nn.Module]) -> None:
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
    """A network of such stages: a ``SwitchingNetwork`` for the compiler.

    Subclasses put ``SubPathStage`` modules into ``stages``.
    """

    stages: nn.Sequential

    def skippable(self) -> tuple[str, ...]:
        """Returns ``stage1``, ``stage2``, ...: those that have a second half."""
        return tuple(self._stages())

    def set_skipped(self, names: Collection[str]) -> None:
        """Skips the second half of the named stages and of no other.

        Raises:
            ValueError: A name is not one of ``skippable``.
        """
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

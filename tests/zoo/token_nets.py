"""Token networks written by hand: parallel branches, token mixing."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from skipc.runtime.bundle.tensors import TensorSpec
from tests.zoo.net import Net

TOKENS = (TensorSpec("x", "float32", (1, 6, 16)),)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.gelu(self.up(x)))


class ParallelLeft(nn.Module):
    """``(x + attention) + mlp``: each is a unit of its own; they share the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attention = Attention(16)
        self.mlp = Mlp(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.attention(y) + self.mlp(y)


class ParallelRight(ParallelLeft):
    """The same with the operands the other way round."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return self.mlp(y) + (self.attention(y) + x)


class ParallelSum(ParallelLeft):
    """``x + (attention + mlp)``: one unit."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + (self.attention(y) + self.mlp(y))


class Tokens(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class MixerBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.over_tokens, self.over_channels = Mlp(6), Mlp(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.over_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.norm2(x))


TOKEN_NETS = (
    Net(
        "parallel-left",
        lambda: Tokens(ParallelLeft(), ParallelLeft()),
        {
            "blocks.0.attention": "blocks.0.attention",
            "blocks.0.mlp": "blocks.0.mlp",
            "blocks.1.attention": "blocks.1.attention",
            "blocks.1.mlp": "blocks.1.mlp",
        },
        TOKENS,
    ),
    Net(
        "parallel-right",
        lambda: Tokens(ParallelRight(), ParallelRight()),
        {
            "blocks.0.attention": "blocks.0.attention",
            "blocks.0.mlp": "blocks.0.mlp",
            "blocks.1.attention": "blocks.1.attention",
            "blocks.1.mlp": "blocks.1.mlp",
        },
        TOKENS,
    ),
    Net(
        "mixer",
        lambda: Tokens(MixerBlock(), MixerBlock()),
        {
            f"blocks.{i}.{part}": f"blocks.{i}.{part}"
            for i in (0, 1)
            for part in ("over_tokens", "over_channels")
        },
        TOKENS,
    ),
)

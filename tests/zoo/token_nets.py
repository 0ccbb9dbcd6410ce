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


class Work(nn.Sequential):
    def __init__(self, inner: int = 16, outer: int = 16) -> None:
        super().__init__(nn.Linear(inner, outer), nn.ReLU())


class Forms(nn.Module):
    """Joins that PyTorch has in other operators, and blocks that the parent joins."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.ModuleList([Work(), Work()]), nn.ModuleList([Work()])])
        self.scaled, self.mixed, self.left, self.right, self.minus = (Work() for _ in range(5))
        self.gamma, self.mix = (
            nn.Parameter(torch.rand(16)),
            nn.Parameter(torch.rand(1, 16, 16)),
        )
        self.recurrent, self.head = nn.GRU(16, 16, batch_first=True), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            for block in stage:
                x = x + block(x)
        x = torch.addcmul(x, self.gamma, self.scaled(x), value=0.5)
        x = torch.baddbmm(x, self.mixed(x), self.mix, beta=0.9, alpha=0.7)
        x = torch.stack([self.left(x), x, self.right(x)]).sum(0)
        x = torch.sub(x, self.minus(x), alpha=0.5)
        return self.head((x + self.recurrent(x)[0]).mean(1))


class Couplings(nn.Module):
    """Two streams that feed each other; then two branches that read one side value."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(16, 8), nn.Linear(16, 8)
        self.f, self.g = Work(8, 8), Work(8, 8)
        self.side, self.attention, self.mlp = Work(), Attention(16), Mlp(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.left(x), self.right(x)
        a = a + self.f(b)
        b = b + self.g(a)
        x = torch.cat([a, b], -1)
        side = self.side(x)
        x = x + self.attention(x + side)
        return self.head((x + self.mlp(x + side)).mean(1))


class Queries(nn.Module):
    """A stream that starts from a parameter, which the first branch reads transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.rand(1, 4, 16))
        self.cross = nn.ModuleList(Cross() for _ in range(2))
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.queries
        for cross in self.cross:
            q = q + cross(q, x)
        return self.head(q.mean(1))


class Cross(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(16, 16)

    def forward(self, q: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(x @ q.transpose(1, 2), 1)
        return self.out(weights.transpose(1, 2) @ x)


TOKEN_NETS = (
    Net(
        "forms",
        Forms,
        {
            **{path: path for path in ("stages.0.0", "stages.0.1", "stages.1.0")},
            **{path: path for path in ("scaled", "mixed", "left", "right", "minus")},
            "recurrent": "recurrent",
        },
        TOKENS,
    ),
    Net(
        "couplings",
        Couplings,
        {path: path for path in ("f", "g", "attention", "mlp")},
        TOKENS,
        rejected=("they meet a residual sum", *("'side.0' is also used in",) * 2),
    ),
    Net("queries", Queries, {f"cross.{i}": f"cross.{i}" for i in (0, 1)}, TOKENS),
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

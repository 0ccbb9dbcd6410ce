"""Networks with groups of channels and heads, and which modules read each group."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.image_nets import TorchvisionBlock, images
from tests.zoo.net import Net
from tests.zoo.token_nets import TOKENS, Attention, Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping


class Inverted(nn.Module):
    """MobileNet's block: expanded, filtered channel by channel, gated, projected."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24))
        self.depthwise = nn.Conv2d(24, 24, 3, 1, 1, groups=24, bias=False)
        self.norm = nn.BatchNorm2d(24)
        self.squeeze, self.excite = nn.Linear(24, 8), nn.Linear(8, 24)
        self.project = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.hardswish(self.expand(x))
        y = functional.relu6(self.norm(self.depthwise(y)))
        gate = self.excite(functional.relu(self.squeeze(y.mean((2, 3)))))
        return x + self.project(y * functional.hardsigmoid(gate)[:, :, None, None])


class GatedMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.gate, self.up = nn.Linear(16, 128, bias=False), nn.Linear(16, 128)
        self.down = nn.Linear(128, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Bottleneck(nn.Module):
    """Wide enough to be split; its middle layer reads one group and makes another."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(8, 128, 1, bias=False), nn.BatchNorm2d(128))
        self.middle = nn.Sequential(nn.Conv2d(128, 128, 3, 1, 1), nn.BatchNorm2d(128))
        self.last = nn.Sequential(nn.Conv2d(128, 8, 1), nn.BatchNorm2d(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.middle(functional.relu(self.reduce(x))))
        return functional.relu(x + self.last(y))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(16), Attention(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.mlp(self.norm(x))


class Queries(nn.Module):
    """Heads from a layer each, of which one scales a learnt bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 128) for _ in range(3))
        self.bias, self.out = nn.Parameter(torch.randn(1, 4, 6, 6)), nn.Linear(128, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layers = (self.q, self.k, self.v)
        q, k, v = (one(x).view(1, 6, 4, 32).transpose(1, 2) for one in layers)
        scores = torch.softmax(q @ k.transpose(-1, -2) / 32**0.5 + self.bias, -1)
        return x + self.out((scores @ v).transpose(1, 2).reshape(1, 6, 128))


class Chunks(nn.Module):
    """Heads from one layer, whose result is cut into three."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 3 * 128), nn.Linear(128, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cut = self.qkv(x).chunk(3, -1)
        q, k, v = (one.unflatten(-1, (4, 32)).transpose(1, 2) for one in cut)
        mixed = torch.softmax(q @ k.mT, -1) @ v
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Reads(NamedTuple):
    """What reads a group's channels, module by module, and in which dimension."""

    modules: tuple[str, ...]
    axis: int = 1


NETS: Mapping[str, tuple[Net, Mapping[str, Reads]]] = {
    net.name: (net, groups)
    for net, groups in (
        (
            Net(
                "resnet",
                lambda: images(TorchvisionBlock(8, 8), Bottleneck()),
                {"1": "1.bn2", "2": "2.last"},
            ),
            {
                "1.conv1": Reads(("1.conv2",)),
                "2.reduce.0": Reads(("2.middle.0",)),
                "2.middle.0": Reads(("2.last.0",)),
            },
        ),
        (
            Net(
                "inverted",
                lambda: images(Inverted(), Inverted()),
                {"1": "1.project", "2": "2.project"},
            ),
            {
                f"{block}.{layer}": Reads(tuple(f"{block}.{module}" for module in readers))
                for block in (1, 2)
                for layer, readers in (
                    ("expand.0", ("squeeze", "project")),
                    ("squeeze", ("excite",)),
                )
            },
        ),
        (
            Net(
                "tokens",
                lambda: Tokens(GatedMlp(), Transformer()),
                {
                    "blocks.0": "blocks.0.down",
                    "blocks.1.attention": "blocks.1.attention",
                    "blocks.1.mlp": "blocks.1.mlp",
                },
                TOKENS,
            ),
            {
                "blocks.0.gate": Reads(("blocks.0.down",), 2),
                "blocks.1.attention.qkv": Reads(("blocks.1.attention.out",), 2),
                "blocks.1.mlp.0": Reads(("blocks.1.mlp.2",), 2),
            },
        ),
        (
            Net(
                "heads",
                lambda: Tokens(Queries(), Chunks()),
                {"blocks.0": "blocks.0.out", "blocks.1": "blocks.1.out"},
                TOKENS,
            ),
            {
                "blocks.0.q": Reads(("blocks.0.out",), 2),
                "blocks.1.qkv": Reads(("blocks.1.out",), 2),
            },
        ),
    )
}

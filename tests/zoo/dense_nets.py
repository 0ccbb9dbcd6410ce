"""Networks that concatenate, each with what reads the features of its dense layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.image_nets import Stem, conv
from tests.zoo.net import Net


class Read(NamedTuple):
    """Channels that a module reads: from ``start`` up to ``stop`` of the first dimension."""

    module: str
    start: int
    stop: int


@dataclass(frozen=True)
class DenseNet:
    """One network.

    Attributes:
        name: Its name in test ids.
        build: Returns the module; called after seeding.
        units: The expected units in network order, each with where layers read its features,
            which are zero there when it is skipped.
        beside: Units that are additions, each with the module whose output is zero.
        rejected: For each join that is no unit, a fragment of the reason.
        inner: Groups of channels that may be fewer, each with the module that reads them.
    """

    name: str
    build: Callable[[], nn.Module]
    units: Mapping[str, tuple[Read, ...]]
    beside: Mapping[str, str]
    rejected: tuple[str, ...] = ()
    inner: Mapping[str, str] = field(default_factory=dict)

    @property
    def net(self) -> Net:
        """What the rest of the zoo knows of it."""
        return Net(self.name, self.build, self.beside)


class DenseLayer(nn.Module):
    """As torchvision writes it: it reads the list of all features before it."""

    def __init__(self, inner: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inner), nn.BatchNorm2d(bottleneck)
        self.conv1 = nn.Conv2d(inner, bottleneck, 1, bias=False)
        self.conv2 = nn.Conv2d(bottleneck, growth, 3, 1, 1, bias=False)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x = self.conv1(functional.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(functional.relu(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    def __init__(self, layers: int, inner: int, growth: int) -> None:
        super().__init__()
        for number in range(layers):
            bottleneck = 128 if number == 1 else 16  # is split, too, where it is narrowed
            layer = DenseLayer(inner + number * growth, growth, bottleneck)
            self[f"denselayer{number + 1}"] = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class Torchvision(nn.Module):
    """Wide enough to be split."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(64)
        self.block1, self.block2 = DenseBlock(3, 64, 32), DenseBlock(1, 32, 16)
        self.transition = nn.Sequential(
            nn.BatchNorm2d(160), nn.ReLU(), nn.Conv2d(160, 32, 1, bias=False), nn.AvgPool2d(2)
        )
        self.norm, self.classifier = nn.BatchNorm2d(48), nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.stem(x), 4)
        x = functional.relu(self.norm(self.block2(self.transition(self.block1(x)))))
        return self.classifier(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class Pairs(nn.Module):
    """Concatenated pair by pair; what all features are gates each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(64)
        self.layers = nn.ModuleList(conv(64 + 32 * number, 32) for number in range(3))
        self.squeeze, self.excite = nn.Conv2d(160, 8, 1), nn.Conv2d(8, 160, 1)
        self.head = nn.Linear(160, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.stem(x), 4)
        for layer in self.layers:
            x = torch.cat([functional.relu(layer(x)), x], 1)
        gate = self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        return self.head((x * gate.sigmoid()).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = Stem(8), nn.Sequential(conv(8, 12), nn.ReLU())
        self.bottom = nn.Sequential(conv(12, 16), nn.BatchNorm2d(16), nn.ReLU())
        self.up2, self.up1 = nn.ConvTranspose2d(16, 12, 2, 2), conv(12, 8)
        self.mix2 = nn.Sequential(conv(24, 12), nn.ReLU())
        self.mix1 = nn.Sequential(nn.ConvTranspose2d(16, 8, 1), nn.ReLU(), conv(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.down1(x)
        coarse = self.down2(functional.max_pool2d(fine, 2))
        deep = self.bottom(functional.max_pool2d(coarse, 2))
        y = self.mix2(torch.cat([self.up2(deep), coarse], 1))
        y = self.up1(functional.interpolate(y, scale_factor=2.0))
        return self.mix1(torch.cat([fine, y], 1))


class ResidualDense(nn.Module):
    """A dense block within a residual branch (ESRGAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = Stem(8), conv(8, 3)
        self.first, self.second, self.last = conv(8, 4), conv(12, 4), conv(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        first = functional.leaky_relu(self.first(x), 0.2)
        second = functional.leaky_relu(self.second(torch.cat([x, first], 1)), 0.2)
        return self.head(x + 0.2 * self.last(torch.cat([x, first, second], 1)))


class OneShot(nn.Module):
    """Features that the next layer reads alone, too (VoVNet); a shuffle; parallel branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = Stem(8), conv(8, 8), conv(8, 8)
        self.mix, self.left, self.right = conv(24, 8), conv(8, 4), conv(8, 4)
        self.shuffled, self.head = conv(8, 8), nn.Conv2d(16, 8, 1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        first = functional.relu(self.first(x))
        x = self.mix(torch.cat([x, first, functional.relu(self.second(first))], 1))
        x = torch.cat([self.left(x), self.right(x)], 1)
        return self.head(torch.cat([x, functional.relu(self.shuffled(x))], 1))


class TwoStreams(nn.Module):
    """Two streams, of which one is added to by the other: together they are no dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.turn = conv(3, 8), conv(3, 8), conv(8, 8)
        self.head = nn.Conv2d(16, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.left(x), self.right(x)
        right = right + functional.relu(self.turn(left))
        return self.head(torch.cat([left, right], 1))


DENSE_NETS = {
    net.name: net
    for net in (
        DenseNet(
            "torchvision",
            Torchvision,
            {
                "block1.denselayer1": (
                    Read("block1.denselayer2.conv1", 64, 96),
                    Read("block1.denselayer3.conv1", 64, 96),
                    Read("transition.2", 64, 96),
                ),
                "block1.denselayer2": (
                    Read("block1.denselayer3.conv1", 96, 128),
                    Read("transition.2", 96, 128),
                ),
                "block1.denselayer3": (Read("transition.2", 128, 160),),
                "block2.denselayer1": (Read("classifier", 32, 48),),
            },
            {},
            inner={
                f"block1.denselayer{n}.conv1": f"block1.denselayer{n}.conv2" for n in (1, 2, 3)
            },
        ),
        DenseNet(
            "pairs",
            Pairs,
            {
                "layers.0": (
                    Read("layers.1", 0, 32),
                    Read("layers.2", 32, 64),
                    Read("squeeze", 64, 96),
                    Read("head", 64, 96),
                ),
                "layers.1": (
                    Read("layers.2", 0, 32),
                    Read("squeeze", 32, 64),
                    Read("head", 32, 64),
                ),
                "layers.2": (Read("squeeze", 0, 32), Read("head", 0, 32)),
            },
            {},
        ),
        DenseNet(
            "u-net",
            UNet,
            {"bottom": (Read("mix2.0", 0, 12),), "up1": (Read("mix1.0", 8, 16),)},
            {},
        ),
        DenseNet(
            "residual-dense",
            ResidualDense,
            {
                "first": (Read("second", 8, 12), Read("last", 8, 12)),
                "second": (Read("last", 12, 16),),
            },
            {"last": "last"},
        ),
        DenseNet(
            "one-shot",
            OneShot,
            {"second": (Read("mix", 16, 24),)},
            {},
            (
                "'first' is also used in 'second'",
                "branches beside one another",
                "they meet a grouped convolution",
            ),
        ),
        DenseNet("two-streams", TwoStreams, {}, {"turn": "turn"}, ("goes on from something",)),
    )
}

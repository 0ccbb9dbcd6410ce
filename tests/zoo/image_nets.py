"""Image networks written by hand, one per way of writing a residual."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.zoo.net import Net


def conv(inner: int, outer: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inner, outer, 3, stride, 1)


class Chain(nn.Sequential):
    """A sequence whose input has the name of the others'."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


class Head(nn.Module):
    def __init__(self, width: int, classes: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.mean((2, 3)))


class PreActivation(nn.Module):
    """Norm and activation first; a projection shares them with the branch."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv1 = conv(inner, outer, stride)
        self.bn2 = nn.BatchNorm2d(outer)
        self.conv2 = conv(outer, outer)
        changes = stride != 1 or inner != outer
        self.shortcut = nn.Conv2d(inner, outer, 1, stride, bias=False) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(out)
        return self.conv2(functional.relu(self.bn2(self.conv1(out)))) + shortcut


def preactivation() -> nn.Module:
    return Chain(
        Stem(8), PreActivation(8, 8), PreActivation(8, 12, 2), PreActivation(12, 12), Head(12)
    )


class Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv(3, width)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.bn(self.conv(x)))


class TorchvisionBlock(nn.Module):
    """The block as torchvision writes it, ``out += identity`` included."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample = None
        if stride != 1 or inner != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class TorchvisionResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(8)
        self.layer1 = nn.Sequential(TorchvisionBlock(8, 8), TorchvisionBlock(8, 8))
        self.layer2 = nn.Sequential(TorchvisionBlock(8, 12, 2), TorchvisionBlock(12, 12))
        self.head = Head(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer2(self.layer1(self.stem(x))))


class OptionA(nn.Module):
    """A shortcut without weights: average pooling, then channels of zeros."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.stride, self.more = stride, outer - inner
        self.branch = nn.Sequential(
            conv(inner, outer, stride), nn.BatchNorm2d(outer), nn.ReLU(), conv(outer, outer)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.avg_pool2d(x, self.stride) if self.stride > 1 else x
        shortcut = functional.pad(pooled, (0, 0, 0, 0, 0, self.more))
        return functional.relu(shortcut + self.branch(x))


def option_a() -> nn.Module:
    return Chain(Stem(8), OptionA(8, 12, 2), OptionA(12, 12, 1), Head(12))


class ResidualInResidual(nn.Module):
    """A group of residual blocks with a long skip around it (RCAN, ESRGAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(_Inner(), _Inner(), conv(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.2 * self.body(x)


class _Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.work = nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(x, self.work(x), alpha=0.5)


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(8, 8)
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        gate = self.up(functional.silu(self.down(y.mean((2, 3), keepdim=True))))
        return y * gate.sigmoid()


class SqueezeExciteBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = SqueezeExcite()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu6(x + self.branch(x))


class Functional(nn.Module):
    """Every residual is written in the root module's own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.a1, self.a2 = conv(8, 8), conv(8, 8)
        self.b1, self.b2 = conv(8, 8), conv(8, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(x + self.a2(functional.relu(self.a1(x))))
        y = self.b2(functional.relu(self.b1(x)))
        y += x
        return self.fc(functional.relu(y).mean((2, 3)))


class Tied(nn.Module):
    """One block used twice: two units, one set of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.block = _Inner()
        self.head = Head(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(functional.relu(self.block(self.stem(x)))))


class JoinIsOutput(nn.Module):
    """Super-resolution style: the join is what the network returns."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = _Inner()
        self.stem, self.out = conv(3, 8), conv(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.out(self.inner(functional.relu(self.stem(x))))


class LinkNet(nn.Module):
    """An encoder and a decoder with additive long skips."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.down1 = nn.Sequential(conv(8, 12, 2), nn.BatchNorm2d(12), nn.ReLU())
        self.down2 = nn.Sequential(conv(12, 16, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.up2 = nn.Sequential(nn.ConvTranspose2d(16, 12, 2, 2), nn.ReLU())
        self.up1 = nn.Sequential(nn.ConvTranspose2d(12, 8, 2, 2), nn.ReLU())
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        e0 = functional.relu(self.stem(x))
        e1 = self.down1(e0)
        d1 = self.up2(self.down2(e1)) + e1
        return self.out(self.up1(d1) + e0)


class ShuffleBlock(nn.Module):
    """ShuffleNet's grouped convolutions with a channel shuffle between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 1, groups=2)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.last = nn.Conv2d(8, 8, 1, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.first(x))
        batch, channels, height, width = y.shape
        y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        y = y.reshape(batch, channels, height, width)
        return functional.relu(x + self.last(self.depthwise(y)))


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 0.1))
        self.scaled = _Scaled(self.gamma)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.7 * x + self.scaled(x)


class _Scaled(nn.Module):
    def __init__(self, gamma: nn.Parameter) -> None:
        super().__init__()
        self.gamma = gamma
        self.work = nn.Sequential(conv(8, 8), nn.GELU(), conv(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gamma * self.work(x)


class PoolBlock(nn.Module):
    """A branch whose only work is pooling (PoolFormer's token mixer)."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = _PoolMixer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mixer(x)


class _PoolMixer(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x


class WideBranch(nn.Module):
    """A branch that is wider than the stream: what is not added is set beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(8)
        self.work = nn.Sequential(conv(8, 12), nn.ReLU(), conv(12, 14))
        self.head = Head(14)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.work(x)
        return self.head(torch.cat([y[:, 8:11], y[:, :8] + x, y[:, 11:]], 1))


class PositionForBatch(nn.Module):
    """Positions made for the batch's size are the same for every image: no stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.position = Stem(8), nn.Conv2d(1, 8, 1)
        self.work = nn.Sequential(conv(8, 8), nn.ReLU())
        self.head = Head(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.linspace(0, 1, 16).expand(x.shape[0], 1, 16, 16)
        x = self.stem(x) + self.position(places)
        return self.head(x + self.work(x))


class AuxiliaryHead(nn.Module):
    """A second output reads the first half of the branch, which stays for it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.last = conv(3, 8), conv(8, 8), conv(8, 8)
        self.head, self.auxiliary = Head(8), Head(8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = functional.relu(self.stem(x))
        y = functional.relu(self.first(x))
        return self.head(x + self.last(y)), self.auxiliary(y)


def any_images() -> tuple[TensorSpec, ...]:
    return (TensorSpec("x", "float32", ("N", 3, 16, 16)),)


def images(*blocks: nn.Module) -> nn.Module:
    return Chain(Stem(8), *blocks, Head(8))


IMAGE_NETS = (
    Net(
        "preactivation",
        preactivation,
        {"1": "1.conv2", "2": "2.conv2", "3": "3.conv2"},
    ),
    Net(
        "torchvision-resnet",
        TorchvisionResNet,
        {
            "layer1.0": "layer1.0.bn2",
            "layer1.1": "layer1.1.bn2",
            "layer2.0": "layer2.0.bn2",
            "layer2.1": "layer2.1.bn2",
        },
    ),
    Net("option-a", option_a, {"1": "1.branch", "2": "2.branch"}),
    Net(
        "residual-in-residual",
        lambda: images(ResidualInResidual(), ResidualInResidual()),
        {
            "1.body.0": "1.body.0.work",
            "1.body.1": "1.body.1.work",
            "1": "1.body",
            "2.body.0": "2.body.0.work",
            "2.body.1": "2.body.1.work",
            "2": "2.body",
        },
    ),
    Net(
        "squeeze-excite",
        lambda: images(SqueezeExciteBlock(), SqueezeExciteBlock()),
        {"1": "1.branch", "2": "2.branch"},
    ),
    Net("functional", Functional, {"a1": "a2", "b1": "b2"}),
    Net("tied", Tied, {"block#1": "block.work@0", "block#2": "block.work@1"}),
    Net("join-is-output", JoinIsOutput, {"inner": "inner.work", "stem": "out"}),
    Net("linknet", LinkNet, {"down2": "up2", "down1": "up1"}),
    Net(
        "shuffle",
        lambda: images(ShuffleBlock(), ShuffleBlock()),
        {"1": "1.last", "2": "2.last"},
    ),
    Net(
        "layer-scale",
        lambda: images(LayerScale(), LayerScale()),
        {"1": "1.scaled", "2": "2.scaled"},
    ),
    Net(
        "pooling",
        lambda: images(PoolBlock(), _Inner()),
        {"1": "1.mixer", "2": "2.work"},
        rejected=("the shortcut is subtracted",),
    ),
    Net(
        "wide-branch",
        WideBranch,
        {"work": "work"},
        any_images(),
        dimensions=(Dimension("N", 1, 2, 4),),
    ),
    Net(
        "position-any-batch",
        PositionForBatch,
        {"work": "work"},
        any_images(),
        dimensions=(Dimension("N", 1, 2, 4),),
    ),
    Net("auxiliary-head", AuxiliaryHead, {"last": "last"}),
)

"""Networks with additions that are no units, with the reason that is expected."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from skipc.runtime.bundle.tensors import TensorSpec
from tests.zoo.image_nets import Head, Stem, conv
from tests.zoo.net import Net
from tests.zoo.token_nets import TOKENS, ParallelSum, Tokens


class ReadElsewhere(nn.Module):
    """DenseNet-like: what the branch computes also goes around the join."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.work = conv(3, 8), conv(8, 8)
        self.head = Head(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem(x))
        y = functional.relu(self.work(x))
        return self.head(torch.cat([x + y, y], 1))


class FeaturePyramid(nn.Module):
    """Lateral connections are added to the level above, which is an output, too."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = Stem(8), _Down(8, 12), _Down(12, 16)
        self.l1, self.l2, self.l3 = (nn.Conv2d(width, 8, 1) for width in (8, 12, 16))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        c1 = self.c1(x)
        c2 = self.c2(c1)
        c3 = self.c3(c2)
        p3 = self.l3(c3)
        p2 = self.l2(c2) + functional.interpolate(p3, scale_factor=2.0)
        p1 = self.l1(c1) + functional.interpolate(p2, scale_factor=2.0)
        return p1, p2, p3


class _Down(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = conv(inner, outer, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.conv(x))


class RepVgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(8)
        self.three = nn.Sequential(conv(8, 8), nn.BatchNorm2d(8))
        self.one = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.head = Head(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(functional.relu(self.three(x) + self.one(x)))


class RepVggWithIdentity(RepVgg):
    """Three linear branches, one of them a norm alone."""

    def __init__(self) -> None:
        super().__init__()
        self.identity = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(functional.relu(self.three(x) + self.one(x) + self.identity(x)))


class HighResolution(nn.Module):
    """Two resolutions that are fused: both operands have worked."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem(8)
        self.high = nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8), nn.ReLU())
        self.low = nn.Sequential(conv(8, 12, 2), nn.ReLU(), conv(12, 8), nn.ReLU())
        self.head = Head(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(self.high(x) + functional.interpolate(self.low(x), scale_factor=2.0))


class Broadcasting(nn.Module):
    """The join has another shape than the shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.work, self.head = Stem(8), conv(8, 8), Head(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.stem(x).mean((2, 3), keepdim=True)
        return self.head(pooled + functional.relu(self.work(pooled.expand(-1, -1, 4, 4))))


class Embeddings(nn.Module):
    """Token and position embeddings are two inputs' looked-up rows."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(20, 16), nn.Embedding(10, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return self.head((self.token(ids) + self.position(positions)).mean(1))


class Doubling(nn.Module):
    """``x + x``, and a branch that only rescales."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = Stem(8), Head(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + x
        return self.head(x + x.sigmoid())


class Gates(nn.Module):
    """A gated mix, a mixed stream, and sums that a softmax makes weights of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.work, self.head = (nn.Linear(16, 16) for _ in range(4))
        self.query, self.key, self.place = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        gate = torch.sigmoid(self.gate(x))
        x = gate * torch.relu(self.work(x)) + (1 - gate) * x
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        scores = scores + torch.relu(self.query(x)) @ self.place(x).transpose(1, 2)
        x = torch.lerp(x, torch.softmax(scores, -1) @ x, 0.3)
        return self.head(torch.relu(self.key(x)) - x)


REJECTED_NETS = (
    Net(
        "gates",
        Gates,
        {},
        TOKENS,
        rejected=("(a gate)", "attention scores", "is subtracted", "", "is subtracted"),
    ),
    Net("read-elsewhere", ReadElsewhere, {}, rejected=("'work' is also used in",)),
    Net(
        "feature-pyramid",
        FeaturePyramid,
        {},
        rejected=("more than one exit", "more than one exit"),
    ),
    Net("repvgg", RepVgg, {}, rejected=("both operands are linear projections",)),
    Net(
        "repvgg-identity",
        RepVggWithIdentity,
        {},
        rejected=("both operands are linear projections",) * 2,
    ),
    Net("high-resolution", HighResolution, {}, rejected=("two working branches",)),
    Net("broadcasting", Broadcasting, {}, rejected=("the shape changes",)),
    Net(
        "embeddings",
        Embeddings,
        {},
        (TensorSpec("ids", "int64", (1, 6)), TensorSpec("positions", "int64", (1, 6))),
        rejected=("computed from different inputs",),
        high={"ids": 20, "positions": 10},
    ),
    Net("doubling", Doubling, {}, rejected=("the same value", "does no work of its own")),
    Net(
        "parallel-sum",
        lambda: Tokens(ParallelSum(), ParallelSum()),
        {f"blocks.{i}": f"blocks.{i}.attention+blocks.{i}.mlp" for i in (0, 1)},
        TOKENS,
        rejected=("two working branches", "two working branches"),
    ),
)

"""Small networks with batch norm, and their reference: PyTorch with other statistics."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.norms.statistics import FamilyNorms, NetworkNorms, NormMode, NormStatistics
from skipc.runtime.bundle.tensors import TensorSpec
from tests.exports import ExportedOnce
from tests.zoo.image_nets import Chain
from tests.zoo.net import randomise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skipc.compiler.network import Network

INPUTS = (TensorSpec("x", "float32", (1, 3, 16, 16)),)


def _norm(inner: int, outer: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=outer % 3 == 0)
    return [convolution, nn.BatchNorm2d(outer)]


class Bottleneck(nn.Module):
    """Three kernels in the branch, a projection where the width changes."""

    def __init__(self, inner: int, outer: int, act: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        middle = outer // 4
        self.branch = nn.Sequential(
            *_norm(inner, middle, 1),
            act(),
            *_norm(middle, middle),
            act(),
            *_norm(middle, outer, 1),
        )
        same = inner == outer
        self.shortcut = nn.Identity() if same else nn.Sequential(*_norm(inner, outer, 1))
        self.act = act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.shortcut(x) + self.branch(x))


class SqueezeExcite(nn.Module):
    """The branch is multiplied by a gate that is computed from it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_norm(width, width), nn.ReLU())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 4, 1), nn.ReLU(),
            nn.Conv2d(4, width, 1), nn.Sigmoid(),
        )  # fmt: skip
        self.last = nn.Sequential(*_norm(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        return torch.relu(x + self.last(hidden * self.gate(hidden)))


class PreActivation(nn.Module):
    """Its first norm stands behind no kernel; the second does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.first = nn.Sequential(*_norm(width, width), nn.ReLU())
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.last(self.first(torch.relu(self.norm(x))))


class Dense(nn.Module):
    """A kernel read twice, a concatenation, a max-pool, and a norm behind a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_norm(3, 8), nn.LeakyReLU(0.1), nn.MaxPool2d(2))
        self.left = nn.Sequential(*_norm(8, 8), nn.ReLU())
        self.right = nn.Sequential(*_norm(8, 8), nn.PReLU(8))
        self.mix = nn.Sequential(*_norm(16, 8, 1))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 64, 9), nn.BatchNorm1d(9))
        self.last = nn.Linear(9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.mix(torch.cat([self.left(x), self.right(x)], 1))
        return self.last(torch.relu(self.head(x)))


def _net(*body: nn.Module, width: int) -> nn.Module:
    return Chain(
        *_norm(3, 16), nn.ReLU(), *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, 5),
    )  # fmt: skip


NORM_NETS: dict[str, Callable[[], nn.Module]] = {
    "bottleneck": lambda: _net(
        Bottleneck(16, 16), Bottleneck(16, 24), Bottleneck(24, 24), width=24
    ),
    "leaky": lambda: _net(Bottleneck(16, 16, nn.LeakyReLU), width=16),
    "squeeze-excite": lambda: _net(SqueezeExcite(16), SqueezeExcite(16), width=16),
    "pre-activation": lambda: _net(PreActivation(16), PreActivation(16), width=16),
    "dense": Dense,
    "ends-in-norm": lambda: Chain(*_norm(3, 6), nn.ReLU(), *_norm(6, 5)),
    "norm-behind-norm": lambda: Chain(
        *_norm(3, 6), nn.ReLU(), nn.BatchNorm2d(6), nn.ReLU(), *_norm(6, 5)
    ),
}
NOT_HOMOGENEOUS: dict[str, Callable[[], nn.Module]] = {
    name: (lambda act=act: _net(Bottleneck(16, 16, act), width=16))
    for name, act in {
        "silu": nn.SiLU, "gelu": nn.GELU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish,
        "sigmoid": nn.Sigmoid,
    }.items()
}  # fmt: skip


@cache
def norm_supernet(build: Callable[[], nn.Module]) -> ExportedOnce:
    """Returns a network as the reader would, its parameters and statistics random."""
    torch.manual_seed(0)
    module = build().eval()
    randomise(module)
    # Some channels are turned over by their norm.
    with torch.no_grad():
        for norm in _norms(module).values():
            norm.weight[::3] *= -1
    return ExportedOnce(module, INPUTS, (), None, "net", {})


def export(build: Callable[[], nn.Module]) -> tuple[nn.Module, Network]:
    """Returns the network and its graph; callers must not change them."""
    supernet = norm_supernet(build)
    return supernet.source, supernet.exported()


def _norms(module: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    kind = nn.modules.batchnorm._BatchNorm
    return {name: child for name, child in module.named_modules() if isinstance(child, kind)}


def random_norms(graph: Network, seed: int, scaled: bool) -> FamilyNorms:
    """Returns random statistics for one configuration, ``a``; a third are the base's."""
    rng = np.random.default_rng(seed)
    base: dict[str, NormStatistics] = {}
    own: dict[str, NormStatistics] = {}
    for norm in find_norms(graph.model):
        mean = rng.normal(size=norm.channels).astype(np.float32)
        variance = rng.uniform(0.3, 2, norm.channels).astype(np.float32)
        base[norm.name] = NormStatistics(mean, variance)
        other = rng.normal(size=norm.channels).astype(np.float32)
        if scaled and norm.folds:
            scale = float(rng.choice([1.0, rng.uniform(0.3, 1), rng.uniform(1, 3)]))
            own[norm.name] = NormStatistics(other, variance, scale)
        else:
            own[norm.name] = NormStatistics(other, variance * np.float32(1.3))
    mode = NormMode.SCALAR if scaled else NormMode.FULL
    return FamilyNorms(mode, base, {"a": own})


@contextmanager
def statistics_set(
    module: nn.Module, family: FamilyNorms, own: NetworkNorms
) -> Iterator[None]:
    """Gives PyTorch's norms the statistics; a scaled norm gets the variance that scales so."""
    norms = _norms(module)
    before = {name: (n.running_mean, n.running_var) for name, n in norms.items()}
    try:
        for name, norm in norms.items():
            found = own[name]
            variance = found.variance.astype(np.float64)
            if found.scale is not None:
                base = family.base[name].variance.astype(np.float64)
                variance = (base + norm.eps) / found.scale**2 - norm.eps
            norm.running_mean = torch.from_numpy(found.mean)
            norm.running_var = torch.from_numpy(variance).float()
        yield
    finally:
        for name, (mean, variance) in before.items():
            norms[name].running_mean, norms[name].running_var = mean, variance

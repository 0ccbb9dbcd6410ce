"""Training a router: how likely each configuration is right, from the input alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from skipc.compiler.errors import RouterError
from skipc.compiler.router import KERNEL, STRIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from skipc.runtime.bundle.tensors import TensorSpec

    Layers = tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

_CHANNELS = (8, 16, 32)
_HIDDEN = 32
_SIDE = 32
"""Images are averaged down to about this height or width."""
_EPOCHS, _BATCH, _RATE, _DECAY = 30, 128, 3e-3, 1e-2
_LEAST_STEPS = 600
"""Of little data there are more epochs."""


def looked_at(inputs: Sequence[TensorSpec]) -> TensorSpec:
    """Returns the input that a router looks at: the first one of numbers in each row.

    Raises:
        RouterError: There is none.
    """
    for spec in inputs:
        free = [size for size in spec.shape[1:] if isinstance(size, str)]
        if spec.dtype.startswith("float") and len(spec.shape) in (2, 3, 4) and not free:
            return spec
    found = ", ".join(f"{spec.name} ({spec.kind})" for spec in inputs)
    raise RouterError(
        f"no input is one that a router can look at: {found}. It takes images (N, C, H, W),"
        " positions (N, T, F) or features (N, F) of floating-point numbers, of a fixed size."
    )


def pool_of(spec: TensorSpec) -> int:
    """Returns over squares of how many pixels an image is averaged first; 1 of others."""
    if len(spec.shape) != 4:
        return 1
    return max(1, min(int(size) for size in spec.shape[2:]) // _SIDE)


class _Network(nn.Module):
    """What is trained; ``layers`` become the router's."""

    def __init__(self, spec: TensorSpec, ways: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = int(spec.shape[1] if len(spec.shape) == 4 else spec.shape[-1])
        if len(spec.shape) == 4:
            side = min(int(size) // pool_of(spec) for size in spec.shape[2:])
            for wider in _CHANNELS:
                if side >= KERNEL:
                    layers.append(nn.Conv2d(channels, wider, KERNEL, STRIDE))
                    channels, side = wider, (side - KERNEL) // STRIDE + 1
        layers += [nn.Linear(channels, _HIDDEN), nn.Linear(_HIDDEN, ways)]
        self.layers = nn.ModuleList(layers)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Returns the logits, (N, ways)."""
        for number, layer in enumerate(self.layers):
            if isinstance(layer, nn.Linear) and value.ndim == 4:
                value = value.mean((2, 3))
            value = layer(value)
            if number + 1 < len(self.layers):
                value = value.relu()
        return value


def trained(
    spec: TensorSpec,
    fitting: tuple[NDArray[Any], NDArray[np.bool_]],
    selection: tuple[NDArray[Any], NDArray[np.bool_]],
    seed: int,
    advance: Callable[[int, int], None],
) -> Layers:
    """Returns the layers of a router, the same for the same seed.

    Binary cross-entropy of whether each configuration is right; of all epochs the one with the
    least on the selection part is kept. The input's mean and scale become part of the first
    layer.

    Args:
        spec: The input that it looks at.
        fitting: Its samples, (N, ...), and which configurations are right, (ways, N).
        selection: Others.
        seed: Of weights and order.
        advance: Told how many of how many epochs are done.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(spec, len(fitting[1]))
        inputs, targets = _small(spec, fitting[0]), _right(fitting[1])
        others, expected = _small(spec, selection[0]), _right(selection[1])
        positions = tuple(axis for axis in range(inputs.ndim) if axis != 1)
        mean = inputs.mean(positions, keepdim=True)
        scale = 1 / (inputs.std(positions, keepdim=True) + 1e-6)
        inputs, others = (inputs - mean) * scale, (others - mean) * scale
        steps = -(-len(inputs) // _BATCH)
        optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_DECAY)
        epochs = max(_EPOCHS, _LEAST_STEPS // steps)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, epochs * steps)
        loss_of = nn.functional.binary_cross_entropy_with_logits
        best, least = network.state_dict(), np.inf
        for epoch in range(epochs):
            for rows in torch.split(torch.randperm(len(inputs)), _BATCH):
                optimizer.zero_grad()
                loss = loss_of(network(inputs[rows]), targets[rows])
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                loss_there = float(loss_of(network(others), expected))
            if loss_there < least:
                least = loss_there
                best = {name: value.clone() for name, value in network.state_dict().items()}
            advance(epoch + 1, epochs)
        network.load_state_dict(best)
        return _layers(network, mean.flatten(), scale.flatten())


def _small(spec: TensorSpec, samples: NDArray[Any]) -> torch.Tensor:
    """Returns samples as the first layer of a router gets them."""
    value = torch.from_numpy(np.ascontiguousarray(samples)).float()
    pool = pool_of(spec)
    if pool > 1:
        value = nn.functional.avg_pool2d(value, pool)
    return value.mean(1) if value.ndim == 3 else value


def _right(right: NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(right.T.astype(np.float32))


def _layers(network: _Network, mean: torch.Tensor, scale: torch.Tensor) -> Layers:
    """Returns the layers, the first of which takes samples as they are: none pads."""
    found = []
    for number, layer in enumerate(network.layers):
        weight, bias = (getattr(layer, name).detach().double() for name in ("weight", "bias"))
        if number == 0:
            weight = weight * scale.view(1, -1, *[1] * (weight.ndim - 2))
            shift = weight * mean.view(1, -1, *[1] * (weight.ndim - 2))
            bias = bias - shift.flatten(1).sum(1)
        found.append((weight.float().numpy(), bias.float().numpy()))
    return tuple(found)

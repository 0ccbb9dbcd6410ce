"""Early exits that are trained together with their network, as MSDNet's are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from skipc.compiler.heads import Head
from skipc.compiler.recipes.resnet import Block
from skipc.compiler.recipes.vit import Layer
from skipc.tools.training import TrainError
from skipc.tools.training.fitting import temperature_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class _Kind(NamedTuple):
    """A kind of block.

    Attributes:
        last_unit: What its last unit is called after its path; it ends with it.
        positions: The dimensions of its output that a head takes the mean over.
    """

    last_unit: str
    positions: tuple[int, ...]


_BLOCKS: dict[type[nn.Module], _Kind] = {
    Block: _Kind("", (2, 3)),
    Layer: _Kind(".mlp", (1,)),
}


def blocks_of(network: nn.Module) -> dict[str, nn.Module]:
    """Returns the blocks of a ``ResNet`` or ``ViT`` by the unit that each ends with."""
    return {
        name + _BLOCKS[type(module)].last_unit: module
        for name, module in network.named_modules()
        if type(module) in _BLOCKS
    }


class EarlyExits(nn.Module):
    """A network, and heads after some of its blocks.

    A head is what ``skipc heads`` trains: a linear layer on the mean over all positions of the
    stream.

    Args:
        network: The network; it has blocks.
        count: How many heads; they are spread evenly over its blocks.
        shape: An image's channels, height and width.

    Raises:
        TrainError: It has too few blocks.
    """

    def __init__(self, network: nn.Module, count: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = network
        blocks = blocks_of(network)
        if count >= len(blocks):
            raise TrainError(
                f"--heads {count}: the network has {len(blocks)} blocks, and after the last it"
                f" ends. Give at most {len(blocks) - 1}."
            )
        self.names = _spread(list(blocks), count)
        self._means: dict[str, torch.Tensor] = {}
        for name in self.names:
            self._keep(name, blocks[name])
        with torch.no_grad():
            device = next(network.parameters()).device
            classes = network.eval()(torch.zeros(1, *shape, device=device)).shape[1]
        self.heads = nn.ModuleList(
            nn.Linear(self._means[name].shape[1], classes) for name in self.names
        ).to(device)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Returns the logits of each head, in network order, and of the network's end."""
        end = self.network(images)
        heads = zip(self.names, self.heads, strict=True)
        return [*(head(self._means.pop(name)) for name, head in heads), end]

    def trained(
        self, logits: Sequence[NDArray[np.float32]], labels: NDArray[np.int64]
    ) -> tuple[Head, ...]:
        """Returns the heads, with accuracy and temperature by answers on held-out images.

        Args:
            logits: Of each head, (N, classes).
            labels: What they should be, (N,).
        """
        found = []
        for name, head, scores in zip(self.names, self.heads, logits, strict=True):
            weight, bias = (t.detach().cpu().numpy().copy() for t in head.parameters())
            accuracy = float((scores.argmax(1) == labels).mean())
            found.append(Head(name, weight, bias, accuracy, temperature_of(scores, labels)))
        return tuple(found)

    def _keep(self, name: str, block: nn.Module) -> None:
        """Has what a block gives averaged and kept, each time that it runs."""
        positions = _BLOCKS[type(block)].positions

        def keep(module: nn.Module, inputs: object, stream: torch.Tensor) -> None:
            del module, inputs
            self._means[name] = stream.mean(positions)

        block.register_forward_hook(keep)


def _spread(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Returns ``count`` of the names at about equal distances, never the last."""
    every = len(names) / (count + 1)
    return tuple(names[round(number * every) - 1] for number in range(1, count + 1))

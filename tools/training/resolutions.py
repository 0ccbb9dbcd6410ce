"""Training at several resolutions: every step sees its images at each of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import interpolate

from skipc.tools.training import TrainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def check_resolutions(
    network: nn.Module, resolutions: Sequence[int], shape: tuple[int, int, int]
) -> None:
    """Checks that a network can be trained at such heights of its images.

    Args:
        network: The network.
        resolutions: The heights.
        shape: An image's channels, height and width.

    Raises:
        TrainError: One is no smaller than the images, stands there twice, or the network does
            not run at it.
    """
    channels, height, width = shape
    device = next(network.parameters()).device
    for number, pixels in enumerate(resolutions):
        if pixels >= height:
            raise TrainError(
                f"--resolution {pixels}: the images have {height} rows, and are trained on as"
                " they are, too. Give fewer."
            )
        if pixels in resolutions[:number]:
            raise TrainError(f"--resolution {pixels} is given twice. Give each once.")
        images = torch.zeros(1, channels, *_size(pixels, height, width), device=device)
        was_training = network.training
        try:
            with torch.no_grad():
                network.eval()(images)
        except RuntimeError as cause:
            raise TrainError(
                f"--resolution {pixels}: the network does not run at it: {cause}"
            ) from cause
        finally:
            network.train(was_training)


def at_resolutions(
    model: nn.Module, images: torch.Tensor, resolutions: Sequence[int]
) -> Iterator[torch.Tensor]:
    """Yields images at each height, and as they are last.

    While a smaller one is trained on, batch norms keep their running statistics: those of the
    checkpoint are the full size's. ``skipc select`` estimates the others'.
    """
    height, width = images.shape[2:]
    for pixels in resolutions:
        size = _size(pixels, height, width)
        with _statistics_kept(model):
            yield interpolate(images, size, mode="bilinear", antialias=True)
    yield images


def _size(pixels: int, height: int, width: int) -> tuple[int, int]:
    return pixels, max(1, round(pixels * width / height))


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum

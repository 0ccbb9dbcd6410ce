"""Training with memory errors: every step computes with weights some bits of which are wrong.

Gradients at the damaged weights move the intact ones (straight-through), together with those
at the intact ones, so that training finds weights whose neighbours by an error answer right,
too. Values that an error makes implausible become zero, as ``skipc tolerate --correct`` has
it. Weights are kept in a narrow range: an error moves none further than that (Stutz et al.,
2021, arXiv 2006.13977).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from skipc.compiler.tolerate.error_model import MOST_RATE
from skipc.compiler.tolerate.patterns import correct, drawn, key_of, with_errors
from skipc.runtime.errors import choices_text
from skipc.tools.training import TrainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

_STORED = ("float32", "int8")
_STEPS = 8
_RAISED_BY = 0.75
"""The share of the epochs after which the whole rate is reached."""
_INT8 = 127
_WIDEST = 1.5
"""A weight is at most so many times the root mean square of its tensor."""


class BitErrors(NamedTuple):
    """Errors to train with.

    Attributes:
        rate: The share of the bits that are wrong in the end.
        stored: What weights are stored as where the errors are: ``float32`` or ``int8``.
    """

    rate: float
    stored: str = "float32"

    def rate_at(self, epoch: int, epochs: int) -> float:
        """Returns the rate of an epoch: raised in eight steps over three quarters of them."""
        done = (epoch + 1) / (_RAISED_BY * epochs)
        return self.rate * min(int(_STEPS * done), _STEPS) / _STEPS


def read_bit_errors(text: str) -> BitErrors:
    """Returns what ``--bit-errors`` says: ``0.001``, or ``int8:0.001``.

    Raises ``TrainError`` where it is neither, or no rate.
    """
    stored, colon, number = text.rpartition(":")
    if colon and stored not in _STORED:
        raise TrainError(
            f"--bit-errors {text}: weights are stored as float32 or int8, not {stored!r}."
            f" {choices_text(stored, _STORED)}"
        )
    try:
        rate = float(number)
    except ValueError:
        rate = float("nan")
    if not 0 < rate <= MOST_RATE:
        raise TrainError(
            f"--bit-errors {text}: give the share of the bits that are wrong, above 0 and at"
            f" most {MOST_RATE:g}, e.g. 0.001 or int8:0.001."
        )
    return BitErrors(rate, stored or _STORED[0])


@contextmanager
def damaged(model: nn.Module, stored: str, rate: float, key: Sequence[int]) -> Iterator[None]:
    """Damages the weights of layers within a block, and puts the intact ones back.

    Norms and biases are left alone.

    Args:
        model: The model.
        stored: What its weights are stored as.
        rate: The share of the bits that are wrong.
        key: What they are drawn by.
    """
    if not rate:
        yield
        return
    weights = [p for p in model.parameters() if p.ndim > 1]
    intact = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, array in zip(weights, _damaged(intact, stored, rate, key), strict=True):
            weight.copy_(torch.from_numpy(array))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, intact, strict=True):
                weight.copy_(before)


def narrow(model: nn.Module) -> None:
    """Moves the weights of layers, in place, into the range that training allows them."""
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim > 1):
            most = _WIDEST * weight.square().mean().sqrt()
            weight.clamp_(-most, most)


def _damaged(
    weights: Sequence[torch.Tensor], stored: str, rate: float, key: Sequence[int]
) -> Iterator[NDArray[np.float32]]:
    """Yields each of some weights with errors."""
    arrays = [weight.float().cpu().contiguous().numpy() for weight in weights]
    bits = [array.size * (8 if stored == "int8" else 32) for array in arrays]
    ends = np.cumsum([0, *bits])
    wrong = np.sort(drawn(key_of(*key), 0, int(ends[-1]), rate).bits)
    parts = np.split(wrong, np.searchsorted(wrong, ends[1:-1]))
    for array, begins, own in zip(arrays, ends[:-1], parts, strict=True):
        yield _one(array, own - begins, stored)


def _one(
    array: NDArray[np.float32], bits: NDArray[np.int64], stored: str
) -> NDArray[np.float32]:
    if stored == "float32":
        wrong: NDArray[np.float32] = with_errors(array, bits, None)
        correct(wrong, bits, float(array.min()), float(array.max()))
        return wrong
    # As int8 is written: one scale for each channel that a layer gives.
    most = np.abs(array).reshape(len(array), -1).max(1)
    scale = np.maximum(most / _INT8, np.finfo(np.float32).tiny)
    scales = scale.reshape(-1, *(1,) * (array.ndim - 1)).astype(np.float32)
    whole = np.round(array / scales).astype(np.int8)
    found = with_errors(whole, bits, None)
    correct(found, bits, -_INT8, _INT8)
    change = found.astype(np.float32) - whole.astype(np.float32)
    made: NDArray[np.float32] = array + change * scales
    return made

"""Heads, and the file beside a checkpoint that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from skipc.compiler.beside import Beside, fits
from skipc.compiler.bundle.files import checkpoint_sha256
from skipc.compiler.errors import HeadsError
from skipc.runtime.bundle.constraints import AtLeast, AtMost, Distinct, Positive, Sha256, Text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Head:
    """A linear layer on the mean over all positions of the stream after a unit.

    Attributes:
        name: The unit's.
        weight: (classes, channels), float32.
        bias: (classes,), float32.
        accuracy: On data that it was not trained on, a fraction.
        temperature: What its scores are divided by before a softmax, so that probabilities
            are what they say.
    """

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    accuracy: float
    temperature: float


@dataclass(frozen=True, slots=True)
class HeadEntry:
    """What the file's header says of a head."""

    name: Text
    accuracy: Annotated[float, AtLeast(0), AtMost(1)]
    temperature: Positive


@dataclass(frozen=True, slots=True)
class HeadsHeader:
    """The file's header.

    Attributes:
        checkpoint_sha256: Of the checkpoint that the heads were trained on.
        heads: In network order.
        data_sketch: Of the data that chose them; empty where that is not known.
    """

    FORMAT: ClassVar[str] = "skipc.heads/1"
    AGAIN: ClassVar[str] = "train the heads again with `skipc heads`"

    checkpoint_sha256: Annotated[str, Sha256()]
    heads: Annotated[tuple[HeadEntry, ...], Distinct("name")]
    data_sketch: Text = ""

    def check(self, where: str) -> None:
        """Has nothing to compare."""


_FILES = Beside("heads", HeadsHeader, HeadsError)


def heads_path(checkpoint: Path) -> Path:
    """Returns where the heads of a checkpoint lie: beside it."""
    return _FILES.path(checkpoint)


def read_heads(checkpoint: Path) -> tuple[Head, ...]:
    """Returns the heads that lie beside a checkpoint, in network order; none where none do.

    Raises:
        HeadsError: The file is damaged, or its heads are another checkpoint's.
    """
    found = _FILES.read(checkpoint)
    if found is None:
        return ()
    header, tensors = found
    return tuple(_head(entry, tensors, heads_path(checkpoint)) for entry in header.heads)


def heads_sketch(checkpoint: Path) -> str:
    """Returns the sketch of the data that chose the heads beside a checkpoint, if it is known.

    Raises:
        HeadsError: The file is damaged.
    """
    found = _FILES.read_any(checkpoint)
    return found[0].data_sketch if found is not None else ""


def write_heads(checkpoint: Path, heads: tuple[Head, ...], data_sketch: str = "") -> Path:
    """Writes the heads of a checkpoint beside it, whole or not at all; returns the file.

    ``data_sketch`` is of the data that chose them.

    Raises:
        OSError: It cannot be written; the error names it.
    """
    entries = tuple(HeadEntry(head.name, head.accuracy, head.temperature) for head in heads)
    tensors: dict[str, NDArray[Any]] = {}
    for head in heads:
        tensors[f"{head.name}/weight"], tensors[f"{head.name}/bias"] = head.weight, head.bias
    header = HeadsHeader(checkpoint_sha256(checkpoint), entries, data_sketch)
    return _FILES.write(checkpoint, header, tensors)


def _head(entry: HeadEntry, tensors: Mapping[str, NDArray[Any]], path: Path) -> Head:
    weight, bias = (tensors.get(f"{entry.name}/{part}") for part in ("weight", "bias"))
    if (
        weight is None
        or bias is None
        or not fits(weight, -1, -1)
        or not fits(bias, weight.shape[0])
    ):
        raise HeadsError(
            f"{path}: the head {entry.name!r} has no weights that fit: expected finite"
            " float32 of (classes, channels) and (classes,). Train the heads again with `skipc"
            " heads`."
        )
    return Head(entry.name, weight, bias, entry.accuracy, entry.temperature)

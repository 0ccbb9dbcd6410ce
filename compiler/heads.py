"""Heads, and the file beside a checkpoint that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from skipc.compiler.bundle.files import checkpoint_sha256, write_whole
from skipc.compiler.errors import HeadsError
from skipc.compiler.extras import require
from skipc.runtime.bundle.constraints import AtLeast, AtMost, Distinct, Positive, Sha256, Text
from skipc.runtime.bundle.records import parse_json, read, written

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX = ".heads.safetensors"
_KEY = "skipc.heads"
MAX_FILE_BYTES = 1 << 30


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


def heads_path(checkpoint: Path) -> Path:
    """Returns where the heads of a checkpoint lie: beside it."""
    return checkpoint.with_suffix(SUFFIX)


def read_heads(checkpoint: Path) -> tuple[Head, ...]:
    """Returns the heads that lie beside a checkpoint, in network order; none where none do.

    Raises:
        HeadsError: The file is damaged, or its heads are another checkpoint's.
    """
    path = heads_path(checkpoint)
    if not path.is_file():
        return ()
    header, tensors = _content(path)
    if header.checkpoint_sha256 != checkpoint_sha256(checkpoint):
        raise HeadsError(
            f"{path}: these heads were trained on other weights than those of {checkpoint}."
            " Train them again with `skipc heads`, or remove the file."
        )
    return tuple(_head(entry, tensors, path) for entry in header.heads)


def heads_sketch(checkpoint: Path) -> str:
    """Returns the sketch of the data that chose the heads beside a checkpoint, if it is known.

    Raises:
        HeadsError: The file is damaged.
    """
    path = heads_path(checkpoint)
    return _content(path)[0].data_sketch if path.is_file() else ""


def write_heads(checkpoint: Path, heads: tuple[Head, ...], data_sketch: str = "") -> Path:
    """Writes the heads of a checkpoint beside it, whole or not at all; returns the file.

    ``data_sketch`` is of the data that chose them.

    Raises:
        OSError: It cannot be written; the error names it.
    """
    from safetensors.numpy import save

    entries = tuple(HeadEntry(head.name, head.accuracy, head.temperature) for head in heads)
    header = HeadsHeader(checkpoint_sha256(checkpoint), entries, data_sketch)
    tensors: dict[str, NDArray[Any]] = {}
    for head in heads:
        tensors[f"{head.name}/weight"] = np.ascontiguousarray(head.weight)
        tensors[f"{head.name}/bias"] = np.ascontiguousarray(head.bias)
    path = heads_path(checkpoint)
    write_whole(path, save(tensors, {_KEY: json.dumps(written(header))}))
    return path


def _content(path: Path) -> tuple[HeadsHeader, dict[str, NDArray[Any]]]:
    safetensors = require("safetensors", "compiler")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise HeadsError(
            f"{path}: {path.stat().st_size} bytes, more than the {MAX_FILE_BYTES} that heads"
            " may take. Train them again with `skipc heads`, or remove the file."
        )
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as cause:
        raise HeadsError(
            f"{path}: damaged safetensors file: {cause}. Train the heads again with `skipc"
            " heads`, or remove the file."
        ) from cause
    if _KEY not in metadata:
        raise HeadsError(
            f"{path}: its header has no {_KEY!r}: no heads of skipc. Remove or rename the"
            " file, or train heads with `skipc heads`."
        )
    header = parse_json(metadata[_KEY].encode(), str(path), HeadsError)
    return read(HeadsHeader, header, str(path), HeadsError), tensors


def _head(entry: HeadEntry, tensors: Mapping[str, NDArray[Any]], path: Path) -> Head:
    found = [tensors.get(f"{entry.name}/{part}") for part in ("weight", "bias")]
    weight, bias = found
    if (
        weight is None
        or bias is None
        or weight.ndim != 2
        or weight.dtype != np.float32
        or bias.dtype != np.float32
        or bias.shape != weight.shape[:1]
        or not (np.isfinite(weight).all() and np.isfinite(bias).all())
    ):
        raise HeadsError(
            f"{path}: the head {entry.name!r} has no weights that fit: expected finite"
            " float32 of (classes, channels) and (classes,). Train the heads again with `skipc"
            " heads`."
        )
    return Head(entry.name, weight, bias, entry.accuracy, entry.temperature)

"""Files beside a checkpoint: tensors that were trained for its weights, with a header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from skipc.compiler.bundle.files import checkpoint_sha256, write_whole
from skipc.compiler.extras import require
from skipc.runtime.bundle.records import Document, parse_json, read, written

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.errors import CompileError

    Tensors = Mapping[str, NDArray[Any]]

MAX_FILE_BYTES = 1 << 30


class Header(Document, Protocol):
    """What a file's header says, whatever it holds."""

    @property
    def checkpoint_sha256(self) -> str:
        """Of the checkpoint that it goes with."""


H = TypeVar("H", bound=Header)
D = TypeVar("D", bound=Document)


@dataclass(frozen=True, slots=True)
class Beside(Generic[H]):
    """A kind of file: safetensors, so that reading it runs nothing.

    Attributes:
        noun: What it holds, also the command that trains it: ``heads``.
        header: Its header.
        error: What is raised where it cannot be used.
    """

    noun: str
    header: type[H]
    error: type[CompileError]

    def path(self, checkpoint: Path) -> Path:
        """Returns where the file of a checkpoint lies."""
        return checkpoint.with_suffix(f".{self.noun}.safetensors")

    def read(self, checkpoint: Path) -> tuple[H, Tensors] | None:
        """Returns what lies beside a checkpoint; None where nothing does.

        Raises:
            CompileError: The file is damaged, or another checkpoint's.
        """
        found = self.read_any(checkpoint)
        if found is not None and found[0].checkpoint_sha256 != checkpoint_sha256(checkpoint):
            raise self.error(
                f"{self.path(checkpoint)}: these {self.noun} were trained on other weights"
                f" than those of {checkpoint}. Train them again with `skipc {self.noun}`, or"
                " remove the file."
            )
        return found

    def read_any(self, checkpoint: Path) -> tuple[H, Tensors] | None:
        """Returns the same, whatever checkpoint the file goes with."""
        path = self.path(checkpoint)
        if not path.is_file():
            return None
        return read_tensors(path, self.noun, self.header, self.error)

    def write(self, checkpoint: Path, header: H, tensors: Tensors) -> Path:
        """Writes the file of a checkpoint, whole or not at all; returns it.

        Raises:
            OSError: It cannot be written; the error names it.
        """
        path = self.path(checkpoint)
        write_tensors(path, self.noun, header, tensors)
        return path


def read_tensors(
    path: Path, noun: str, header: type[D], error: type[CompileError]
) -> tuple[D, Tensors]:
    """Returns the header and the tensors of a file.

    Args:
        path: The file, which is there.
        noun: What it holds, also the command that trains it.
        header: Its header's class.
        error: What is raised where it is damaged, or of another kind.
    """
    safetensors, key = require("safetensors", "compiler"), f"skipc.{noun}"
    if path.stat().st_size > MAX_FILE_BYTES:
        raise error(
            f"{path}: {path.stat().st_size} bytes, more than the {MAX_FILE_BYTES} that"
            f" {noun} may take. Train them again with `skipc {noun}`, or remove the file."
        )
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as cause:
        raise error(
            f"{path}: damaged safetensors file: {cause}. Train the {noun} again with"
            f" `skipc {noun}`, or remove the file."
        ) from cause
    if key not in metadata:
        raise error(
            f"{path}: its header has no {key!r}: no {noun} of skipc. Remove or rename the"
            f" file, or train {noun} with `skipc {noun}`."
        )
    document = parse_json(metadata[key].encode(), str(path), error)
    return read(header, document, str(path), error), tensors


def write_tensors(path: Path, noun: str, header: Document, tensors: Tensors) -> None:
    """Writes such a file, whole or not at all."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    write_whole(path, save(arrays, {f"skipc.{noun}": json.dumps(written(header))}))


def fits(array: NDArray[Any] | None, *shape: int) -> bool:
    """Tells whether an array is there, of finite float32 and of a shape; -1 is any size."""
    return (
        array is not None
        and array.dtype == np.float32
        and array.ndim == len(shape)
        and all(size in (-1, found) for size, found in zip(shape, array.shape, strict=True))
        and bool(np.isfinite(array).all())
    )

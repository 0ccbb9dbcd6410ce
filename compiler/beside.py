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
        safetensors = require("safetensors", "compiler")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise self.error(
                f"{path}: {path.stat().st_size} bytes, more than the {MAX_FILE_BYTES} that"
                f" {self.noun} may take. Train them again with `skipc {self.noun}`, or remove"
                " the file."
            )
        try:
            with safetensors.safe_open(str(path), framework="numpy") as file:
                metadata: Mapping[str, str] = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError, TypeError) as cause:
            raise self.error(
                f"{path}: damaged safetensors file: {cause}. Train the {self.noun} again with"
                f" `skipc {self.noun}`, or remove the file."
            ) from cause
        if self._key not in metadata:
            raise self.error(
                f"{path}: its header has no {self._key!r}: no {self.noun} of skipc. Remove or"
                f" rename the file, or train {self.noun} with `skipc {self.noun}`."
            )
        document = parse_json(metadata[self._key].encode(), str(path), self.error)
        return read(self.header, document, str(path), self.error), tensors

    def write(self, checkpoint: Path, header: H, tensors: Tensors) -> Path:
        """Writes the file of a checkpoint, whole or not at all; returns it.

        Raises:
            OSError: It cannot be written; the error names it.
        """
        from safetensors.numpy import save

        path = self.path(checkpoint)
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        write_whole(path, save(arrays, {self._key: json.dumps(written(header))}))
        return path

    @property
    def _key(self) -> str:
        return f"skipc.{self.noun}"


def fits(array: NDArray[Any] | None, *shape: int) -> bool:
    """Tells whether an array is there, of finite float32 and of a shape; -1 is any size."""
    return (
        array is not None
        and array.dtype == np.float32
        and array.ndim == len(shape)
        and all(size in (-1, found) for size, found in zip(shape, array.shape, strict=True))
        and bool(np.isfinite(array).all())
    )

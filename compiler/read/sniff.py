"""What kind of file a checkpoint is, told by its content and not by its name."""

from __future__ import annotations

import enum
import zipfile
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

MAX_SAFETENSORS_HEADER_BYTES = 100_000_000
"""The format's own bound."""


class Kind(enum.Enum):
    """The kinds of checkpoint that can be read."""

    TORCH = "a torch.save file"
    SAFETENSORS = "a safetensors file"
    PROGRAM = "a torch.export program"
    ONNX = "an ONNX model"


_EXPECTED = (
    "Expected a torch.save file of weights, a .safetensors file, a torch.export program (.pt2)"
    " or an ONNX model (.onnx)."
)

_TEXTS = {
    (b"<!doctype", b"<html", b"<?xml"): (
        "a web page, not a checkpoint: the download got the page around the file. Download it"
        " again by its direct link."
    ),
    (b"version https://git-lfs",): (
        "a Git LFS pointer, not the file it stands for. Run: git lfs pull"
    ),
    (b"{", b"["): f"a JSON text. {_EXPECTED}",
}

_FOREIGN = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras?)"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"GGUF", "a GGUF file"),
    (b"\x93NUMPY", "a NumPy array file"),
)


def sniff(path: Path) -> Kind:
    """Returns the kind of the checkpoint at ``path``; reads a few hundred bytes of it.

    Raises:
        CheckpointError: There is no such file, or it is none that can be read.
    """
    head, size_bytes = _head(path)
    if head.startswith(b"PK\x03\x04"):
        return _sniff_zip(path)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return Kind.TORCH
    if head[8:9] == b"{":
        header_bytes = int.from_bytes(head[:8], "little")
        if header_bytes <= MAX_SAFETENSORS_HEADER_BYTES:
            if 8 + header_bytes > size_bytes:
                raise CheckpointError(
                    f"{path}: truncated: its safetensors header has {header_bytes} bytes, the"
                    f" file only {size_bytes}. Copy or download it again."
                )
            return Kind.SAFETENSORS
    start = head.lstrip().lower()
    for magics, advice in _TEXTS.items():
        if start.startswith(magics):
            raise CheckpointError(f"{path}: is {advice}")
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            raise CheckpointError(f"{path}: is {name}. {_EXPECTED}")
    # A ModelProto starts with its first field, ir_version, as every exporter writes it.
    if head[:1] == b"\x08" or path.suffix == ".onnx":
        return Kind.ONNX
    raise CheckpointError(
        f"{path}: not a checkpoint that skipc knows; it starts with {head[:8]!r}. {_EXPECTED}"
    )


def _head(path: Path) -> tuple[bytes, int]:
    try:
        if path.is_dir():
            raise CheckpointError(
                f"{path}: is a directory, expected a file. Name the checkpoint inside it."
            )
        if not path.is_file():
            if path.exists():  # a pipe would block, a device never end
                raise CheckpointError(f"{path}: not a regular file. Name a file on disk.")
            near = sorted(p.name for p in path.parent.glob("*") if p.suffix == path.suffix)
            found = f" Its folder holds {', '.join(near[:10])}." if near else ""
            raise CheckpointError(f"{path}: there is no such file.{found} Check the path.")
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as cause:
        raise CheckpointError(f"{path}: cannot be read: {cause}.") from cause
    if not head:
        raise CheckpointError(f"{path}: is empty (0 bytes). Save or download it again.")
    return head, size_bytes


def _sniff_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            offsets = [entry.header_offset for entry in archive.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError) as cause:
        raise CheckpointError(
            f"{path}: truncated or damaged: {cause}. Save, copy or download it again."
        ) from cause
    # Where the end is cut off, the table found may be that of an archive inside the archive.
    if offsets and min(offsets) > 0:
        raise CheckpointError(
            f"{path}: truncated or damaged: its table of contents does not cover the whole"
            " file. Save, copy or download it again."
        )
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner or any(name.startswith("models/") for name in inner):
        return Kind.PROGRAM
    if "serialized_exported_program.json" in names:
        raise CheckpointError(
            f"{path}: a torch.export program in the form that torch 2.7 and older wrote."
            " Export it again with torch 2.9 or newer, torch.export.save(program,"
            " 'model.pt2')."
        )
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise CheckpointError(
            f"{path}: a TorchScript archive, whose code cannot be pruned. Save the weights"
            " alone, torch.save(model.state_dict(), 'weights.pt'), and add --model."
        )
    if "data.pkl" in inner:
        return Kind.TORCH
    listed = ", ".join(sorted(names)[:3]) or "nothing"
    raise CheckpointError(f"{path}: a zip archive of something else ({listed}). {_EXPECTED}")

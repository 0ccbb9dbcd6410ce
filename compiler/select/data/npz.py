"""A NumPy file: ``x`` (or an array per input) and ``y``."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from skipc.compiler.bundle.array_files import read_arrays
from skipc.compiler.errors import SelectError
from skipc.compiler.select.data import MAX_DATA_BYTES
from skipc.compiler.select.samples import Samples
from skipc.runtime.errors import InputError, choices_text

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.bundle.tensors import TensorSpec


def npz_samples(path: Path, inputs: tuple[TensorSpec, ...]) -> Samples:
    """Returns the arrays of a ``.npz`` file.

    A network with one input finds it under its name or under ``x``; targets are ``y``.

    Raises:
        SelectError: The file cannot be read, is too large, or an array is missing.
    """
    _check_size(path)
    try:
        arrays = read_arrays(path, tuple(spec.name for spec in inputs))
    except InputError as cause:
        raise SelectError(f"--data {cause}") from cause
    if len(inputs) == 1 and "x" in arrays:
        arrays.setdefault(inputs[0].name, arrays["x"])
    for name in (*(spec.name for spec in inputs), "y"):
        if name not in arrays:
            raise SelectError(
                f"--data {path}: no array named {name!r}. {choices_text(name, arrays)} Inputs"
                " are called as the network calls them, or 'x' where there is one; targets"
                " are 'y'."
            )
    if arrays["y"].ndim == 0 or any(arrays[spec.name].ndim == 0 for spec in inputs):
        raise SelectError(f"--data {path}: an array has no dimension for the samples.")
    return Samples({spec.name: arrays[spec.name] for spec in inputs}, arrays["y"])


def _check_size(path: Path) -> None:
    """Refuses a file that would unpack to more than is held in memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            size_bytes = sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return  # read_arrays says what is wrong with it
    if size_bytes > MAX_DATA_BYTES:
        raise SelectError(
            f"--data {path}: unpacks to {size_bytes / 1e9:.1f} GB, more than the"
            f" {MAX_DATA_BYTES / 1e9:.1f} GB that are held in memory. Give fewer samples."
        )

"""Arrays from a NumPy file, or from a function of the user's own that yields batches."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.bundle.array_files import read_arrays
from skipc.compiler.errors import SelectError
from skipc.compiler.read.factories import function_of, place_of, reason_of
from skipc.compiler.select.data import MAX_DATA_BYTES
from skipc.compiler.select.samples import Samples
from skipc.runtime.errors import InputError, choices_text

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.select.data import DataOptions
    from skipc.runtime.bundle.tensors import TensorSpec

_FORM = (
    "Yield (inputs, targets): inputs an array with one row per sample, or a dict of them by"
    " the network's input names; targets an array with one row per sample."
)


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


def function_samples(options: DataOptions, inputs: tuple[TensorSpec, ...]) -> Samples:
    """Returns what ``PKG.MODULE:FUNCTION`` yields, up to ``options.samples`` samples.

    Arrays may be NumPy's or whatever ``numpy.asarray`` takes, PyTorch tensors included.

    Raises:
        SelectError: It cannot be imported, raises, or yields something else or nothing.
    """
    where = f"--data {options.text}"
    function = function_of("--data", options.text, SelectError)
    batches: list[tuple[dict[str, NDArray[Any]], NDArray[Any]]] = []
    count, size_bytes = 0, 0
    try:
        produced = function()
        if not isinstance(produced, Iterable):
            raise SelectError(f"{where}: returned {type(produced).__name__}. {_FORM}")
        for item in produced:
            batch, targets = _batch(item, inputs, where)
            batches.append((batch, targets))
            count += len(targets)
            size_bytes += sum(array.nbytes for array in batch.values())
            if size_bytes > MAX_DATA_BYTES:
                raise SelectError(
                    f"{where}: more than the {MAX_DATA_BYTES / 1e9:.1f} GB that are held in"
                    " memory. Give a smaller --samples."
                )
            if count >= options.samples:
                break
    except SelectError:
        raise
    except Exception as cause:
        raise SelectError(
            f"{where}: failed after {len(batches)} batches{place_of(cause)}:"
            f" {reason_of(cause)}"
        ) from cause
    if not count:
        raise SelectError(f"{where}: yielded no samples. {_FORM}")
    try:
        return Samples(
            {s.name: np.concatenate([b[s.name] for b, _ in batches]) for s in inputs},
            np.concatenate([targets for _, targets in batches]),
        )
    except ValueError as cause:
        raise SelectError(f"{where}: its batches do not fit together: {cause}.") from cause


def _batch(
    item: object, inputs: tuple[TensorSpec, ...], where: str
) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise SelectError(f"{where}: yielded {type(item).__name__}. {_FORM}")
    given, targets = item[0], np.asarray(item[1])
    if not isinstance(given, Mapping):
        if len(inputs) > 1:
            names = ", ".join(spec.name for spec in inputs)
            raise SelectError(f"{where}: the network has the inputs {names}. {_FORM}")
        given = {inputs[0].name: given}
    missing = [spec.name for spec in inputs if spec.name not in given]
    if missing:
        raise SelectError(f"{where}: a batch has no input {missing[0]!r}. {_FORM}")
    arrays = {spec.name: np.asarray(given[spec.name]) for spec in inputs}
    if any(
        a.ndim == 0 or targets.ndim == 0 or len(a) != len(targets) for a in arrays.values()
    ):
        raise SelectError(f"{where}: inputs and targets of a batch differ in length. {_FORM}")
    return arrays, targets

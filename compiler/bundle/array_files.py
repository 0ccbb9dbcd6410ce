"""Arrays in ``.npy`` and ``.npz`` files, as users give and take them. NumPy only."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.bundle.files import write_whole
from skipc.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Returns the arrays of a file by input name: a ``.npz``, or for one input a ``.npy``.

    Raises:
        InputError: The file cannot be read, or is a ``.npy`` and there are several inputs.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                arrays = {"": loaded}
            else:
                with loaded:
                    arrays = {name: np.asarray(loaded[name]) for name in loaded.files}
    except FileNotFoundError as cause:
        raise InputError(f"{path}: there is no such file.") from cause
    except OSError as cause:
        raise InputError(f"{path}: cannot be read: {cause.strerror or cause}.") from cause
    except Exception as cause:  # damaged bytes make zipfile and numpy raise a dozen kinds
        # NumPy takes whatever has neither signature for a pickle.
        unknown = "it is another kind of file, or holds Python objects"
        reason = unknown if "pickle" in str(cause) else cause
        raise InputError(
            f"{path}: not a .npy or .npz file that can be read: {reason}. Write it with"
            " numpy.save or numpy.savez."
        ) from cause
    if "" not in arrays:
        return arrays
    if len(names) > 1:
        raise InputError(
            f"{path}: one array, but the network has {len(names)} inputs: {', '.join(names)}."
            " Write a .npz with one array for each."
        )
    return {names[0]: arrays[""]}


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes the arrays to ``path``, whole or not at all; a ``.npy`` takes only one."""
    if path.suffix == ".npy":
        (array,) = arrays.values()
        write_whole(path, _npy(array))
        return
    archive = io.BytesIO()
    # Not numpy.savez: it takes names as keywords, and "file" is one of its own.
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as entries:
        for name, array in arrays.items():
            # A ZipInfo carries a fixed date: equal arrays make equal files.
            entries.writestr(zipfile.ZipInfo(f"{name}.npy"), _npy(array))
    write_whole(path, archive.getvalue())


def _npy(array: NDArray[Any]) -> bytes:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    return data.getvalue()

"""Reading golden arrays: uncompressed ``.npz`` files, which may come from anywhere."""

from __future__ import annotations

import math
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FormatError, reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Returns the arrays of an uncompressed ``.npz`` file by name.

    No more memory is taken than the file has bytes, and nothing is unpickled.

    Raises:
        FormatError: It is not such a file, an entry is compressed, holds Python objects,
            is given twice, or has another size than its header says.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                    raise FormatError(
                        f"{path}: {name!r} is compressed or encrypted; golden arrays are"
                        " stored as they are (numpy.savez)."
                    )
                if name in arrays:
                    raise FormatError(f"{path}: {name!r} is given twice.")
                arrays[name] = _array(archive, entry, f"{path}: {name!r}")
    except FormatError:
        raise
    except Exception as cause:  # damaged bytes make zipfile and numpy raise a dozen kinds
        raise FormatError(
            f"{path}: not an .npz file that can be read: {reason_of(cause)}."
        ) from cause
    return arrays


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> NDArray[Any]:
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise FormatError(f"{where}: .npy version {version} is unknown.")
        shape, column_major, dtype = _HEADERS[version](file)
        if dtype.hasobject or dtype.fields is not None:
            raise FormatError(f"{where}: holds Python objects or records, not numbers.")
        # The header is compared with the bytes before an array of that size is made.
        size_bytes = math.prod(shape) * dtype.itemsize
        data = file.read()
        if len(data) != size_bytes or any(size < 0 for size in shape):
            raise FormatError(
                f"{where}: the header says {shape} of {dtype}, but {len(data)} bytes follow."
            )
    flat = np.frombuffer(data, dtype)
    return flat.reshape(shape, order="F" if column_major else "C")


def read_cases(path: Path, names: tuple[str, ...]) -> list[dict[str, NDArray[Any]]]:
    """Returns the golden cases of ``path``: per case, the arrays by tensor name.

    The file has the keys ``<case>/<tensor name>``, cases counted from 0; each case has all
    ``names``, and no others.

    Raises:
        FormatError: The file cannot be read, or a case is incomplete.
    """
    arrays = read_npz(path)
    cases: list[dict[str, NDArray[Any]]] = []
    while len(cases) * len(names) < len(arrays):
        case = {name: f"{len(cases)}/{name}" for name in names}
        missing = [key for key in case.values() if key not in arrays]
        if missing:
            raise FormatError(
                f"{path}: the array {missing[0]!r} is missing, or another one is not named"
                f" <case>/<tensor> with a tensor of {list(names)}."
            )
        cases.append({name: arrays[key] for name, key in case.items()})
    if not cases:
        raise FormatError(f"{path}: holds no golden case.")
    return cases

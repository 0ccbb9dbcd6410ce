"""CIFAR-10 and CIFAR-100 as their python files (Krizhevsky 2009).

They are pickles. The unpickler here makes arrays, strings, numbers, lists and dicts, and
nothing else: a file that names anything else is refused before anything of it runs.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.runtime.errors import choices_text
from skipc.tools.training import TrainError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Part = tuple[NDArray[np.uint8], NDArray[np.int64]]

_TRAIN_10 = tuple(f"data_batch_{number}" for number in range(1, 6))
MAX_FILE_BYTES = 512 << 20
"""The largest of the real files has 155 MB."""


def is_cifar(path: Path) -> bool:
    """Tells whether a folder holds CIFAR-10's or CIFAR-100's python files."""
    return (path / _TRAIN_10[0]).is_file() or (
        (path / "train").is_file() and (path / "meta").is_file()
    )


def read_cifar(path: Path) -> tuple[Part, Part, int]:
    """Returns training and test images, (N, 3, 32, 32) bytes, their labels, and the classes.

    Raises:
        TrainError: A file is missing, is none of CIFAR's, or holds other Python objects.
    """
    if (path / _TRAIN_10[0]).is_file():
        train = [_read(path / name, "labels", 10) for name in _TRAIN_10]
        images, labels = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
        return (images, labels), _read(path / "test_batch", "labels", 10), 10
    train_100 = _read(path / "train", "fine_labels", 100)
    return train_100, _read(path / "test", "fine_labels", 100), 100


def _read(path: Path, label_key: str, classes: int) -> Part:
    content = _unpickled(path)
    if not isinstance(content, dict):
        raise TrainError(f"{path}: holds {type(content).__name__}, not CIFAR's dict.")
    # Written by Python 2: keys are bytes.
    found = {k.decode("latin-1") if isinstance(k, bytes) else k: v for k, v in content.items()}
    for key in ("data", label_key):
        if key not in found:
            raise TrainError(f"{path}: no {key!r}. {choices_text(key, map(str, found))}")
    images, labels = found["data"], np.asarray(found[label_key])
    good = isinstance(images, np.ndarray) and images.dtype == np.uint8
    if not good or images.ndim != 2 or images.shape[1] != 3 * 32 * 32:
        raise TrainError(f"{path}: 'data' is not an array of bytes of shape (N, 3072).")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise TrainError(f"{path}: {label_key!r} does not give one number per image.")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise TrainError(f"{path}: a label is outside 0 .. {classes - 1}, or there are none.")
    return images.reshape(-1, 3, 32, 32), labels.astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """Makes what CIFAR's files hold and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns NumPy's own constructors; everything else is refused."""
        core: Any = np._core if hasattr(np, "_core") else np.core
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): core.multiarray._reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): core.multiarray._reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode,
            ("__builtin__", "bytes"): bytes,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"names {module}.{name}")
        return allowed[module, name]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 pickles bytes in old protocols."""
    return text.encode("latin1")


def _unpickled(path: Path) -> object:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TrainError(f"{path}: larger than any of CIFAR's files.")
        with path.open("rb") as file:
            return _ArraysOnly(file, encoding="bytes").load()
    except OSError as cause:
        raise TrainError(f"{path}: cannot be read: {cause.strerror}.") from cause
    except TrainError:
        raise
    # Damaged pickles raise a dozen kinds.
    except Exception as cause:
        raise TrainError(
            f"{path}: not one of CIFAR's python files: {cause}. Nothing in it was run."
            " Download it again."
        ) from cause

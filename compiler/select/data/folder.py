"""An image folder: a folder per class, as most training scripts take it."""

from __future__ import annotations

import math
import re
import warnings
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.errors import SelectError, no_folder_text
from skipc.compiler.extras import require
from skipc.compiler.select.data import MAX_DATA_BYTES
from skipc.compiler.select.samples import Samples

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.select.data import DataOptions
    from skipc.runtime.bundle.tensors import TensorSpec

SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


_PARTS = frozenset({"dev", "eval", "test", "train", "training", "val", "valid", "validation"})


def folder_samples(
    path: Path, options: DataOptions, inputs: tuple[TensorSpec, ...]
) -> Samples:
    """Returns the images below ``path`` and the numbers of their folders in sorted order.

    An image is scaled and cropped around its centre to the network's size, brought to 0 .. 1,
    then normalised with ``options.mean`` and ``options.std``.

    Raises:
        SelectError: There is no such folder, it holds no classes, an image cannot be read, or
            the network takes no images.
        ExtraMissingError: Pillow is not installed.
    """
    spec = _image_input(path, options, inputs)
    files = image_files(path)
    chosen = np.random.default_rng(options.seed).permutation(len(files))[: options.samples]
    channels, height, width = (int(size) for size in spec.shape[1:])
    shape = (channels, height, width)
    size_bytes = len(chosen) * math.prod(shape) * np.dtype(spec.dtype).itemsize
    if size_bytes > MAX_DATA_BYTES:
        raise SelectError(
            f"--data {path}: {len(chosen)} images take {size_bytes / 1e9:.1f} GB, more than"
            f" the {MAX_DATA_BYTES / 1e9:.1f} GB that are held in memory. Give a smaller"
            " --samples."
        )
    mean, std = _per_channel(options.mean), _per_channel(options.std)
    images = np.empty((len(chosen), *shape), spec.dtype)
    for row, index in enumerate(chosen):
        image = read_image(files[index][0], shape)
        image = image if mean is None else image - mean
        images[row] = image if std is None else image / std
    labels = np.array([files[index][1] for index in chosen], np.int64)
    return Samples({spec.name: images}, labels)


def _image_input(
    path: Path, options: DataOptions, inputs: tuple[TensorSpec, ...]
) -> TensorSpec:
    if not path.is_dir():
        raise SelectError(
            f"--data {path}: {no_folder_text(path)}. Give a folder with one folder of images"
            " per class, a .npz with 'x' and 'y', PKG.MODULE:FUNCTION, 'digits' or 'clutter'."
        )
    spec = inputs[0]
    if len(inputs) > 1 or len(spec.shape) != 4 or spec.shape[1] not in (1, 3):
        raise SelectError(
            f"--data {path}: a folder of images fits a network with one input of shape"
            " (N, 1 or 3, H, W). Give a .npz or PKG.MODULE:FUNCTION."
        )
    if np.dtype(spec.dtype).kind != "f":
        raise SelectError(f"--data {path}: images are given as floats, the network takes"
                          f" {spec.dtype}. Give a .npz or PKG.MODULE:FUNCTION.")  # fmt: skip
    for name, numbers in (("--mean", options.mean), ("--std", options.std)):
        if numbers and len(numbers) != spec.shape[1]:
            raise SelectError(
                f"{name}: {len(numbers)} numbers for {spec.shape[1]} channels. Give one each."
            )
    if any(number <= 0 for number in options.std):
        raise SelectError("--std: must be above 0.")
    return spec


def class_folders(path: Path) -> list[Path]:
    """Returns the folders below ``path``, one per class, in the order of their names.

    Raises:
        SelectError: There are none, or they are parts of a data set.
    """
    found = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        loose = any(p.suffix.lower() in SUFFIXES for p in path.iterdir())
        what = "holds images, but no folder per class" if loose else "is empty"
        raise SelectError(
            f"--data {path}: {what}. The label of an image is the folder that it lies in."
        )
    parts = [
        p for p in found if p.name.lower() in _PARTS and any(c.is_dir() for c in p.iterdir())
    ]
    if len(parts) == len(found) or len(parts) > 1:
        names = " and ".join(repr(p.name) for p in parts)
        last = parts[-1]
        raise SelectError(
            f"--data {path}: its folders {names} are parts of a data set, not classes. Give"
            f" the one that the network was not trained on, e.g. --data {last}"
        )
    return found


def numeric_order(names: tuple[str, ...]) -> list[str]:
    """Returns names as a person counts: ``c2`` before ``c10``."""

    def key(name: str) -> list[tuple[str, int]]:
        return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]

    return sorted(names, key=key)


def image_files(path: Path) -> list[tuple[Path, int]]:
    """Returns the images below ``path``, each with the number of its folder in sorted order.

    Raises:
        SelectError: There is no folder per class, or no image.
    """
    classes = class_folders(path)
    files = [
        (file, label)
        for label, folder in enumerate(classes)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]
    if not files:
        raise SelectError(
            f"--data {path}: no images in its {len(classes)} folders"
            f" ({', '.join(sorted(SUFFIXES))})."
        )
    return files


def read_image(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Returns an image scaled and cropped around its centre to ``shape``, between 0 and 1.

    That is (channels, height, width), with 1 or 3 channels.

    Raises:
        SelectError: It cannot be read.
        ExtraMissingError: Pillow is not installed.
    """
    pillow = require("PIL.Image", "select")
    fit = require("PIL.ImageOps", "select").fit
    channels, height, width = shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(path) as opened:
                image = opened.convert("L" if channels == 1 else "RGB")
        fitted = fit(image, (width, height), method=pillow.Resampling.BICUBIC)
    # Damaged files make the decoders raise a dozen kinds.
    except Exception as cause:
        raise SelectError(
            f"--data: the image {path} cannot be read: {cause}. Repair or remove it."
        ) from cause
    array: NDArray[np.float32] = np.asarray(fitted, np.float32) / np.float32(255)
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _per_channel(numbers: tuple[float, ...]) -> NDArray[np.float32] | None:
    return np.array(numbers, np.float32).reshape(-1, 1, 1) if numbers else None

"""Training images: data sets of ours, CIFAR's python files, or a folder per class."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.errors import SelectError, no_folder_text
from skipc.compiler.select.data import NAMED
from skipc.compiler.select.data.folder import image_files, read_image
from skipc.tools.training import TrainError
from skipc.tools.training.cifar import is_cifar, read_cifar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Images:
    """Labelled images, read when they are asked for.

    Attributes:
        labels: The labels, (N,).
        take: Returns images by their numbers, (n, C, H, W), between 0 and 1.
    """

    labels: NDArray[np.int64]
    take: Callable[[NDArray[np.int64]], NDArray[np.float32]]


def array_images(
    images: NDArray[np.uint8] | NDArray[np.float32], labels: NDArray[np.int64]
) -> Images:
    """Returns images in memory, (N, C, H, W): bytes, or floats between 0 and 1."""
    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    return Images(labels, lambda index: images[index].astype(np.float32) / scale)


def _file_images(
    files: Sequence[Path], labels: NDArray[np.int64], shape: tuple[int, int, int]
) -> Images:
    """Returns images of files, brought to a shape; a few threads decode them."""

    def take(index: NDArray[np.int64]) -> NDArray[np.float32]:
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(lambda i: read_image(files[i], shape), index)))

    return Images(labels, take)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What to train on, and what to measure on while training.

    Attributes:
        shape: Channels, height and width.
        flip: Whether an image means the same mirrored.
    """

    train: Images
    held_out: Images
    shape: tuple[int, int, int]
    classes: int
    flip: bool


def read_training_data(text: str, size: int | None, seed: int) -> TrainingData:
    """Returns the data that ``--data`` names.

    Args:
        text: ``digits``, ``clutter``, a folder of CIFAR's python files, or a folder per class.
        size: Height and width that a folder's images are brought to.
        seed: Chooses the tenth of a folder that is held out.

    Raises:
        TrainError: There is no such data, or it cannot be trained on.
    """
    if text in NAMED:
        data = NAMED[text]()
        train, held_out = (
            array_images(part.images, part.labels) for part in (data.train, data.selection)
        )
        channels, height, width = data.train.images.shape[1:]
        return TrainingData(train, held_out, (channels, height, width), 10, flip=False)
    path = Path(text)
    if not path.is_dir():
        raise TrainError(
            f"--data {text}: {no_folder_text(path)}. Give 'digits', 'clutter', a folder of"
            " CIFAR's python files, or a folder with one folder of images per class."
        )
    if is_cifar(path):
        *parts, classes = read_cifar(path)
        train, held_out = (array_images(images, labels) for images, labels in parts)
        return TrainingData(train, held_out, (3, 32, 32), classes, flip=True)
    return _folder(path, size, seed)


def _folder(path: Path, size: int | None, seed: int) -> TrainingData:
    if size is None:
        raise TrainError(f"--data {path}: give the images' size with --image-size, e.g. 224.")
    try:
        files = image_files(path)
    except SelectError as cause:
        raise TrainError(str(cause)) from cause
    labels = np.array([label for _, label in files], np.int64)
    classes = int(labels.max()) + 1
    if classes < 2:
        raise TrainError(f"--data {path}: one class only; there is nothing to learn.")
    order = np.random.default_rng(seed).permutation(len(files))
    held = max(len(files) // 10, 1)
    if len(files) - held < 2:
        raise TrainError(f"--data {path}: {len(files)} images are too few to train on.")
    shape = (3, size, size)

    held_out, train = (
        _file_images([files[i][0] for i in index], labels[index], shape)
        for index in (order[:held], order[held:])
    )
    return TrainingData(train, held_out, shape, classes, flip=True)


def augmented(
    images: NDArray[np.float32], flip: bool, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Returns images, (N, C, H, W), shifted over zeros; with ``flip`` half are mirrored."""
    rows, _, height, width = images.shape
    most = max(height // 8, 1)
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)))
    top, left = rng.integers(0, 2 * most + 1, (2, rows))
    mirrored: NDArray[np.bool_] = np.logical_and(rng.random(rows) < 0.5, flip)
    out = np.empty_like(images)
    for row in range(rows):
        cut = padded[row, :, top[row] : top[row] + height, left[row] : left[row] + width]
        out[row] = cut[..., ::-1] if mirrored[row] else cut
    return out

"""Labelled data from what ``--data`` names, checked against the network, in disjoint parts.

The text tells the kind: a data set of ours by name, a ``.npz``, ``PKG.MODULE:FUNCTION``, else
a folder of images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import SelectError
from skipc.compiler.recipes.clutter_data import load_clutter
from skipc.compiler.recipes.digits_data import load_digits
from skipc.compiler.select.samples import Parts, Samples
from skipc.runtime.bundle.tensors import BATCH, typical_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.recipes.digits_data import FixedData
    from skipc.runtime.bundle.tensors import Dimension, TensorSpec

MAX_DATA_BYTES = 8 << 30
"""Inputs are held in memory; more than this is a slip."""

NAMED: Mapping[str, Callable[[], FixedData]] = {
    "digits": load_digits,
    "clutter": load_clutter,
}
"""Data sets of ours, whose parts are fixed."""
_SHOWN = 3
PARTS = (20, 40, 40)
"""Shares of re-estimation, selection and report where nothing is said."""
EXITS_PARTS = (10, 30, 30, 30)
"""Shares of re-estimation, of fitting when configurations answer early, selection, report."""
HEADS_PARTS = (60, 20, 20)
"""Shares of training, choosing and report of heads."""
POLICY_PARTS = (30, 20, 30, 20)
"""Shares of a policy's fitting, selection, calibration and report."""
TOLERATE_PARTS = (30, 50, 20)
"""Shares of choosing the errors that are stood, of certifying them and of the report."""


@dataclass(frozen=True, slots=True)
class DataOptions:
    """What the command line says about the data.

    Attributes:
        text: ``--data``.
        samples: At most so many are used; of each part, where parts are fixed.
        parts: Shares of re-estimation, selection and report, or of other parts.
        seed: Chooses the samples and their parts.
        mean: Of an image folder: subtracted per channel, images being between 0 and 1.
        std: Of an image folder: what is divided by per channel, after that.
    """

    text: str
    samples: int = 2000
    parts: tuple[int, ...] = PARTS
    seed: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Data:
    """Data in its parts.

    Attributes:
        parts: The parts.
        sha256: Hash of all inputs and targets, part by part.
        description: In a few words, for people.
        classes: The names of the folders that the labels number; empty of other data.
    """

    parts: Parts
    sha256: str
    description: str
    classes: tuple[str, ...] = ()


def read_data(
    options: DataOptions,
    inputs: tuple[TensorSpec, ...],
    note: Callable[[str], None] = lambda _: None,
    dimensions: Sequence[Dimension] = (),
) -> Data:
    """Returns the data that ``options`` name, fit for a network with these inputs.

    ``note`` is told in one line what is odd about the labels' order.

    Raises:
        SelectError: It cannot be read, does not fit the network, or is too little.
        ExtraMissingError: A library is needed for it and not installed.
    """
    parts = read_parts(options, inputs, dimensions)
    counts = "/".join(str(len(part)) for part in parts)
    description = f"{options.text} ({counts})"
    first, *fitting, selection, report = parts
    made = Parts(first, selection, report, *fitting)
    return Data(made, samples_sha256(parts), description, _classes(options, note))


def read_parts(
    options: DataOptions,
    inputs: tuple[TensorSpec, ...],
    dimensions: Sequence[Dimension] = (),
) -> tuple[Samples, ...]:
    """Returns the data in as many disjoint parts as ``options`` have shares.

    All samples have one size of a free dimension; images of a folder get the typical one.

    Raises:
        SelectError: It cannot be read, does not fit the network, or is too little.
        ExtraMissingError: A library is needed for it and not installed.
    """
    from skipc.compiler.select.data.arrays import function_samples, npz_samples
    from skipc.compiler.select.data.folder import folder_samples

    path = Path(options.text)
    is_file, is_function = path.suffix == ".npz", ":" in options.text and not path.exists()
    if (options.mean or options.std) and (options.text in NAMED or is_file or is_function):
        raise SelectError(
            f"--mean and --std are for a folder of images; --data {options.text} gives inputs"
            " as the network takes them. Leave both out."
        )
    if options.text in NAMED:
        parts = _fixed(options)
        check_samples(parts[1], inputs, options.text, dimensions)
    else:
        if is_file:
            samples = npz_samples(path, inputs)
        elif is_function:
            samples = function_samples(options, inputs)
        else:
            typical = typical_sizes(dimensions)
            fixed = (replace(spec, shape=spec.shape_at(typical)) for spec in inputs)
            samples = folder_samples(path, options, tuple(fixed))
        check_samples(samples, inputs, options.text, dimensions)
        parts = split(samples, options)
    targets = parts[1].targets
    if targets.ndim == 1 and targets.dtype.kind in "iu" and len(np.unique(targets)) == 1:
        raise SelectError(
            f"--data {options.text}: all targets are {targets[0]}: with one class every"
            " configuration is right. Give data of all classes."
        )
    return parts


def _fixed(options: DataOptions) -> tuple[Samples, ...]:
    """Returns those parts of a data set of ours that fit what they are asked for.

    The training recipes use the same parts: what they train on is not reported on. Heads get
    all of the training part; a selection as much of it, to re-estimate on, as it selects on.
    With exits it is fitted and selected on what a policy is.
    """
    data = NAMED[options.text]()
    parts = {
        HEADS_PARTS: (data.train, data.selection, data.report),
        PARTS: (
            data.train.rows(slice(len(data.selection.labels))),
            *(data.selection, data.report),
        ),
        EXITS_PARTS: (
            data.train.rows(slice(len(data.policy[1].labels))),
            *(*data.policy[:2], data.report),
        ),
        POLICY_PARTS: data.policy,
        TOLERATE_PARTS: (data.selection, *data.policy[2:]),
    }
    if options.parts not in parts:
        raise SelectError(
            f"--parts {':'.join(map(str, options.parts))}: {options.text} has fixed parts, so"
            " that nothing that was trained on is reported on. Leave --parts out."
        )
    most = slice(options.samples)
    return tuple(
        Samples({"images": part.images[most]}, part.labels[most])
        for part in parts[options.parts]
    )


def _rows(samples: Samples, rows: Any) -> Samples:
    inputs = {name: array[rows] for name, array in samples.inputs.items()}
    return Samples(inputs, samples.targets[rows])


def _classes(options: DataOptions, note: Callable[[str], None]) -> tuple[str, ...]:
    """Returns the folders of classes; notes where their order is not that of their numbers."""
    path = Path(options.text)
    if options.text in NAMED or not path.is_dir():
        return ()
    from skipc.compiler.select.data.folder import class_folders, numeric_order

    names = tuple(folder.name for folder in class_folders(path))
    moved = [
        f"{label} is {name!r}, not {other!r}"
        for label, (name, other) in enumerate(zip(names, numeric_order(names), strict=True))
        if name != other
    ]
    if moved:
        more = "" if len(moved) <= _SHOWN else ", …"
        note(
            f"--data {options.text}: labels number its folders in the order of text, as"
            " torchvision does, not in that of the numbers in their names: label"
            f" {', '.join(moved[:_SHOWN])}{more}. If the network was trained in the other"
            " order, rename them with zeros before (01, 02 …)."
        )
    return names


def split(samples: Samples, options: DataOptions) -> tuple[Samples, ...]:
    """Returns ``samples`` in disjoint parts.

    Raises:
        SelectError: One of them would have fewer than two samples.
    """
    total = min(len(samples), options.samples)
    chosen = np.random.default_rng(options.seed).permutation(len(samples))[:total]
    shares = np.cumsum(options.parts) / sum(options.parts)
    ends = [round(total * share) for share in shares[:-1]]
    indices = np.split(chosen, ends)
    if min(len(index) for index in indices) < 2:
        raise SelectError(
            f"--data {options.text}: {total} samples are too few for {len(shares)} parts of"
            f" {':'.join(map(str, options.parts))}; each needs at least 2. Give more data."
        )
    return tuple(_rows(samples, index) for index in indices)


def check_samples(
    samples: Samples,
    inputs: tuple[TensorSpec, ...],
    text: str,
    dimensions: Sequence[Dimension] = (),
) -> None:
    """Checks that samples fit the network.

    Raises:
        SelectError: An input is missing, or has another shape, type or number of samples.
    """
    ranges = {each.name: each for each in dimensions if each.name != BATCH}
    free: dict[str, int] = {}
    for spec in inputs:
        if spec.name not in samples.inputs:
            raise SelectError(
                f"--data {text}: gives no input {spec.name!r}; it gives"
                f" {', '.join(sorted(samples.inputs)) or 'none'}."
            )
        array = samples.inputs[spec.name]
        wanted = replace(spec, shape=spec.shape[1:]).shape_at(free)
        fits = array.ndim == len(spec.shape) and all(
            size in (-1, found) for found, size in zip(array.shape[1:], wanted, strict=True)
        )
        outside = [name for name, each in ranges.items() if name in spec.shape[1:] and fits
                   and not each.takes(array.shape[spec.shape.index(name)])]  # fmt: skip
        if not fits or outside:
            within = [f"{each.name} from {each.text}" for each in ranges.values()]
            raise SelectError(
                f"--data {text}: the input {spec.name!r} has samples of shape"
                f" {array.shape[1:]}, the network takes {tuple(spec.shape[1:])}"
                f"{', ' if within else ''}{' and '.join(within)}."
            )
        sizes = zip(spec.shape[1:], array.shape[1:], strict=True)
        free |= {size: found for size, found in sizes if isinstance(size, str)}
        if array.dtype != np.dtype(spec.dtype):
            raise SelectError(
                f"--data {text}: the input {spec.name!r} is {array.dtype}, the network takes"
                f" {spec.dtype}. Convert it as in training, e.g."
                f" (x / 255).astype('{spec.dtype}') for images of bytes."
            )
        if len(array) != len(samples):
            raise SelectError(
                f"--data {text}: {len(array)} samples of the input {spec.name!r}, but"
                f" {len(samples)} targets."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SelectError(
                f"--data {text}: the input {spec.name!r} holds NaN or infinity. Remove those"
                " samples."
            )


def labelled_parts(
    options: DataOptions,
    inputs: tuple[TensorSpec, ...],
    output: TensorSpec,
    dimensions: Sequence[Dimension] = (),
) -> tuple[Samples, ...]:
    """Returns the data as ``read_parts``, its targets the numbers of a network's classes.

    Raises:
        SelectError: It cannot be read, does not fit, is too little, or is labelled otherwise.
        ExtraMissingError: A library is needed for it and not installed.
    """
    parts = read_parts(options, inputs, dimensions)
    return tuple(
        Samples(part.inputs, class_labels(part, output, options.text)) for part in parts
    )


def class_labels(samples: Samples, output: TensorSpec, text: str) -> NDArray[np.int64]:
    """Returns the labels of samples, (N,), which are numbers of a network's classes.

    Args:
        samples: The samples.
        output: The network's output, (N, classes).
        text: ``--data``, for messages.

    Raises:
        SelectError: They are not.
    """
    targets, classes = samples.targets, output.shape_at({})[1]
    if classes < 0:
        raise SelectError(
            f"--data {text}: labels are numbers of classes, the second dimension of the output"
            f" {output.name!r}, which is free: {output.kind}. Choose another with --output."
        )
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise SelectError(
            f"--data {text}: targets must be whole numbers, one per sample; they are"
            f" {targets.dtype} of shape {targets.shape}."
        )
    if int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise SelectError(
            f"--data {text}: labels reach from {targets.min()} to {targets.max()}, but the"
            f" network has {classes} classes (0 to {classes - 1})."
        )
    return targets.astype(np.int64)


def samples_sha256(parts: Iterable[Samples]) -> str:
    """Returns the hash of all inputs and targets, part by part."""
    digest = hashlib.sha256()
    for part in parts:
        for name, array in (*sorted(part.inputs.items()), ("targets", part.targets)):
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

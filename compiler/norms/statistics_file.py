"""Norm statistics beside ``front.json``: ``<front>.norms.npz``, or ``<front>.norms-2.npz``.

Arrays are named ``<configuration>/<norm>/mean`` (float32, per channel), and beside it either
``variance`` (float32, per channel) or ``scale`` (float64, one number). The base statistics
stand under ``base:`` instead of a configuration's name, which holds no colon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.bundle.array_files import write_arrays
from skipc.compiler.errors import FrontError
from skipc.compiler.norms.statistics import FamilyNorms, NetworkNorms, NormStatistics
from skipc.runtime.bundle.npz import read_npz
from skipc.runtime.errors import FormatError, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.norms.statistics import NormMode

_BASE = "base:"


def write_statistics(path: Path, norms: FamilyNorms) -> None:
    """Writes the statistics to ``path``, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, network in ((_BASE, norms.base), *norms.configurations.items()):
        for norm, found in network.items():
            arrays[f"{name}/{norm}/mean"] = found.mean.astype(np.float32)
            if found.scale is None:
                arrays[f"{name}/{norm}/variance"] = found.variance.astype(np.float32)
            else:
                arrays[f"{name}/{norm}/scale"] = np.asarray(found.scale, np.float64)
    write_arrays(path, arrays)


def read_statistics(path: Path, mode: NormMode) -> FamilyNorms:
    """Returns the statistics in ``path``.

    Raises:
        FrontError: The file cannot be read, or an array is missing or not of its form.
    """
    try:
        arrays = read_npz(path)
    except FormatError as cause:
        raise FrontError(f"{sentence(str(cause))} Run `skipc select` again.") from cause
    found: dict[str, dict[str, NormStatistics]] = {}
    for key in arrays:
        place, slash, kind = key.rpartition("/")
        name, middle, norm = place.partition("/")
        if not slash or not middle or kind not in ("mean", "variance", "scale"):
            raise FrontError(
                f"{path}: the array {key[:120]!r} is not named"
                " <configuration>/<norm>/mean, variance or scale."
            )
        if kind == "mean":
            found.setdefault(name, {})[norm] = _statistics(path, place, arrays)
    base = found.pop(_BASE, {})
    for name, network in found.items():
        for norm, statistics in network.items():
            if statistics.scale is not None and norm not in base:
                raise FrontError(
                    f"{path}: {name!r} scales the norm {norm!r}, of which there are no base"
                    " statistics. Run `skipc select` again."
                )
    return FamilyNorms(mode, base, found)


def _statistics(path: Path, place: str, arrays: Mapping[str, NDArray[Any]]) -> NormStatistics:
    mean = arrays[f"{place}/mean"]
    variance = arrays.get(f"{place}/variance")
    scale = arrays.get(f"{place}/scale")
    where = f"{path}: {place!r}"
    if (variance is None) == (scale is None):
        raise FrontError(f"{where} needs either 'variance' or 'scale' beside 'mean'.")
    for array in (mean, variance):
        if array is None:
            continue
        if array.dtype != np.float32 or array.ndim != 1 or len(array) != len(mean):
            raise FrontError(
                f"{where}: mean and variance are float32 with one entry per channel, found"
                f" {array.dtype} {array.shape}."
            )
        if not np.isfinite(array).all():
            raise FrontError(f"{where}: holds a number that is not finite.")
    if scale is None:
        assert variance is not None
        return NormStatistics(mean, variance)
    if scale.shape != () or scale.dtype != np.float64 or not 0 < float(scale) < np.inf:
        raise FrontError(f"{where}: 'scale' is one positive float64, found {scale!r}.")
    return NormStatistics(mean, np.zeros_like(mean), float(scale))


def check_statistics(
    norms: NetworkNorms, channels: Mapping[str, int], configuration: str, where: str
) -> None:
    """Checks that statistics are those of this network.

    Args:
        norms: The statistics of ``configuration``.
        channels: Channels by the name of each norm that its subnet has.
        configuration: For the message.
        where: The file, for the message.

    Raises:
        FrontError: A norm has none, or has another number of channels.
    """
    for name, count in channels.items():
        if name not in norms:
            raise FrontError(
                f"{where}: holds no statistics of the norm {name!r} for the configuration"
                f" {configuration!r}. Was the front changed by hand? Run `skipc select` again,"
                " or give the data to estimate on with --reestimate."
            )
        if len(norms[name].mean) != count:
            raise FrontError(
                f"{where}: the norm {name!r} has {count} channels, the statistics for"
                f" {configuration!r} have {len(norms[name].mean)}. They are another network's."
            )

"""The norm statistics that belong to a front, and their file beside ``front.json``.

The file is ``<front>.norms.npz``, or ``<front>.norms-2.npz``. Its arrays are named
``<configuration>/<norm>/mean`` (float32, per channel), and beside it either ``variance``
(float32, per channel) or ``scale`` (float64, one number). The base statistics stand under
``base:`` instead of a configuration's name, which holds no colon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.bundle.array_files import write_arrays
from skipc.compiler.bundle.files import checkpoint_sha256
from skipc.compiler.errors import CompileError, FrontError
from skipc.compiler.norms.statistics import FamilyNorms, NormMode, NormStatistics
from skipc.runtime.bundle.folder import file_sha256
from skipc.runtime.bundle.npz import read_npz
from skipc.runtime.errors import FormatError, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.front import NetworkSaid

_BASE = "base:"


def known_norms(
    path: Path,
    front: NetworkSaid,
    checkpoint: Path,
    asked: NormMode | None,
    reestimate: str | None,
) -> FamilyNorms | None:
    """Returns the statistics to build with; None where they are estimated anew.

    Args:
        path: The front's file.
        front: What it says of the network.
        checkpoint: The checkpoint to build.
        asked: How norms are to adapt; None for what the front says.
        reestimate: The data to estimate on; None for none.

    Raises:
        CompileError: They are neither in the front nor to be estimated.
    """
    mode = asked or front.norm
    if mode is NormMode.SHARED:
        if reestimate is not None:
            raise CompileError(
                "--reestimate: nothing is estimated for --norm shared. Give --norm scalar or"
                " full."
            )
        return FamilyNorms(mode)
    if reestimate is not None:
        return None
    if mode is not front.norm:
        raise CompileError(
            f"--norm {mode.value}: the statistics of {path} are for {front.norm.value}. Give"
            " the data to estimate on with --reestimate, or run `skipc select` with this"
            " --norm."
        )
    return norms_of_front(path, front, checkpoint)


def norms_of_front(path: Path, front: NetworkSaid, checkpoint: Path) -> FamilyNorms:
    """Returns the statistics of the front at ``path``; none where it shares the checkpoint's.

    Raises:
        FrontError: The statistics are missing, altered, or of other weights.
    """
    mode = front.norm
    if mode is NormMode.SHARED:
        return FamilyNorms(mode)
    if front.statistics is None:
        raise FrontError(
            f"{path}: 'norm' is {mode.value!r}, but there are no 'statistics'. Write the front"
            " with `skipc select`, or give the data to estimate on with --reestimate."
        )
    found = front.provenance.get("checkpoint_sha256")
    if found is not None and found != checkpoint_sha256(checkpoint):
        raise FrontError(
            f"{path}: its norm statistics were estimated for other weights than those in"
            f" {checkpoint}. Run `skipc select` on this checkpoint, or set 'norm' to 'shared'"
            " to use the checkpoint's own."
        )
    file = path.parent / front.statistics.path
    if not file.is_file():
        raise FrontError(
            f"{file}: there is no such file, but {path} says that its norm statistics are in"
            " it. Copy both."
        )
    if file_sha256(file) != front.statistics.sha256:
        raise FrontError(
            f"{file}: altered, or of another front than {path}: its hash is not the one given"
            " there. Copy both files again, or run `skipc select` again."
        )
    return read_statistics(file, mode)


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
    found: dict[str, dict[str, NormStatistics]] = {_BASE: {}}
    for key in sorted(arrays, key=lambda key: not key.startswith(_BASE)):
        place, slash, kind = key.rpartition("/")
        name, middle, norm = place.partition("/")
        if not slash or not middle or kind not in ("mean", "variance", "scale"):
            raise FrontError(
                f"{path}: the array {key[:120]!r} is not named"
                " <configuration>/<norm>/mean, variance or scale."
            )
        if kind == "mean":
            base = found[_BASE].get(norm)
            found.setdefault(name, {})[norm] = _statistics(path, place, arrays, base)
    return FamilyNorms(mode, found.pop(_BASE), found)


def _statistics(
    path: Path, place: str, arrays: Mapping[str, NDArray[Any]], base: NormStatistics | None
) -> NormStatistics:
    """Returns what stands at a place; a scale goes with the variance of ``base``."""
    mean = arrays[f"{place}/mean"]
    variance = arrays.get(f"{place}/variance")
    scale = arrays.get(f"{place}/scale")
    where = f"{path}: {place!r}"
    if (variance is None) == (scale is None):
        raise FrontError(f"{where} needs either 'variance' or 'scale' beside 'mean'.")
    if scale is not None:
        if scale.shape != () or scale.dtype != np.float64 or not 0 < float(scale) < np.inf:
            raise FrontError(f"{where}: 'scale' is one positive float64, found {scale!r}.")
        if base is None:
            raise FrontError(
                f"{where} scales a norm of which there are no base statistics. Run"
                " `skipc select` again."
            )
        variance = base.variance
    assert variance is not None
    for array in (mean, variance):
        if array.dtype != np.float32 or array.ndim != 1 or len(array) != len(mean):
            raise FrontError(
                f"{where}: mean and variance are float32 with one entry per channel, found"
                f" {array.dtype} {array.shape}."
            )
        if not np.isfinite(array).all():
            raise FrontError(f"{where}: holds a number that is not finite.")
    return NormStatistics(mean, variance, None if scale is None else float(scale))

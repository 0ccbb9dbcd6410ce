"""The norm statistics that belong to a front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import checkpoint_sha256, sha256_of
from skipc.compiler.errors import FrontError
from skipc.compiler.norms.statistics import FamilyNorms, NormMode
from skipc.compiler.norms.statistics_file import read_statistics

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.front import Front


def norms_of_front(path: Path, front: Front, checkpoint: Path) -> FamilyNorms:
    """Returns the statistics of ``front``; none where it shares those of the checkpoint.

    Args:
        path: The front's file; the statistics lie beside it.
        front: What is in it.
        checkpoint: The checkpoint to build.

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
    if sha256_of(file) != front.statistics.sha256:
        raise FrontError(
            f"{file}: altered, or of another front than {path}: its hash is not the one given"
            " there. Copy both files again, or run `skipc select` again."
        )
    return read_statistics(file, mode)

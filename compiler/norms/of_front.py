"""The norm statistics that belong to a front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import checkpoint_sha256
from skipc.compiler.errors import CompileError, FrontError
from skipc.compiler.norms.statistics import FamilyNorms, NormMode
from skipc.compiler.norms.statistics_file import read_statistics
from skipc.runtime.bundle.folder import file_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.front import Front


def known_norms(
    path: Path, front: Front, checkpoint: Path, asked: NormMode | None, reestimate: str | None
) -> FamilyNorms | None:
    """Returns the statistics to build with; None where they are estimated anew.

    Args:
        path: The front's file.
        front: What is in it.
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
    if file_sha256(file) != front.statistics.sha256:
        raise FrontError(
            f"{file}: altered, or of another front than {path}: its hash is not the one given"
            " there. Copy both files again, or run `skipc select` again."
        )
    return read_statistics(file, mode)

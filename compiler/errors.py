"""Every error the compiler raises; the root and the bundle's errors are the runtime's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime.errors import SkipcError

if TYPE_CHECKING:
    from pathlib import Path


class CompileError(SkipcError):
    """Something the compiler was given cannot be compiled."""


class CheckpointError(CompileError):
    """The checkpoint, the model factory or the inputs do not fit together."""


class SupernetError(CompileError):
    """The network cannot be exported as a graph that can be pruned."""


class UnitError(CompileError):
    """A name that is no unit of this network."""


class HeadsError(CompileError):
    """Heads cannot be attached to this network, or a file of heads is not one for it."""


class GatesError(CompileError):
    """Gates cannot be attached to this network, or a file of gates is not one for it."""


class FrontError(CompileError):
    """``front.json`` is not a front, or is one for another network."""


class NumericsError(CompileError):
    """A subnet's outputs differ from the reference by more than the tolerance."""


class SelectError(CompileError):
    """Configurations cannot be evaluated or selected with what was given."""


class PolicyError(CompileError):
    """No policy can be solved for this bundle with this data, or none holds what was asked."""


class TolerateError(CompileError):
    """What a bundle tolerates cannot be found with this, or a file of it is none."""


class RouterError(CompileError):
    """A router cannot be trained with this, or a file of one is not for these networks."""


class PrologueError(CompileError):
    """A prologue is none, or does not fit what the networks take."""


class TargetError(CompileError):
    """The target is unknown, or engines for it cannot be built on this host."""


class ClusterError(CompileError):
    """A Ray cluster cannot be reached."""


class RemoteError(CompileError):
    """A device cannot be used over ssh, or what it sent is not what was expected."""


class ExtraMissingError(CompileError):
    """An optional dependency is not installed; the message names the extra."""


def no_folder_text(path: Path) -> str:
    """Returns why ``path`` is no folder, for a message."""
    if path.exists():
        return f"{path} is a file, not a folder"
    return f"the folder {path} does not exist"

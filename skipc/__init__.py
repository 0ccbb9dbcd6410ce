"""Deployment compiler and runtime for networks that can drop parts of themselves.

``skipc.runtime`` runs a bundle, ``skipc.compiler`` makes one. The commands are functions of this
package, imported when they are used: ``skipc.network``, ``units``, ``select``, ``build``,
``bench``, ``report``, and the options that they take (``skipc.tools.api``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skipc.tools.api import BuildOptions as BuildOptions
    from skipc.tools.api import Checkpoint as Checkpoint
    from skipc.tools.api import Constraints as Constraints
    from skipc.tools.api import CostKind as CostKind
    from skipc.tools.api import DataOptions as DataOptions
    from skipc.tools.api import NormMode as NormMode
    from skipc.tools.api import Precision as Precision
    from skipc.tools.api import SelectOptions as SelectOptions
    from skipc.tools.api import TargetOptions as TargetOptions
    from skipc.tools.api import bench as bench
    from skipc.tools.api import build as build
    from skipc.tools.api import network as network
    from skipc.tools.api import report as report
    from skipc.tools.api import select as select
    from skipc.tools.api import units as units

__version__ = "0.1.0"

_OPTIONS = "BuildOptions Checkpoint Constraints CostKind DataOptions NormMode Precision"
_OPTIONS += " SelectOptions TargetOptions"
__all__ = ["__version__", *_OPTIONS.split(), *"bench build network report select units".split()]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'skipc' has no attribute {name!r}")
    from skipc.tools import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)

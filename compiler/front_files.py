"""The files that lie beside ``front.json``, as it names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated

from skipc.compiler.errors import FrontError
from skipc.runtime.bundle.constraints import AtLeast, Sha256


@dataclass(frozen=True, slots=True)
class StatisticsFile:
    """The file of norm statistics that goes with a front.

    Attributes:
        path: Its name, beside ``front.json``.
        sha256: Its hash.
    """

    path: str
    sha256: Annotated[str, Sha256()]

    def check(self, where: str) -> None:
        """Raises ``FrontError`` where the path leads into a folder."""
        _check_beside(self.path, where)


@dataclass(frozen=True, slots=True)
class FrontRouter:
    """The router of a configuration that chooses others of the front.

    Attributes:
        path: Its file's name, beside ``front.json``.
        sha256: The file's hash.
        bias: What a unit of cost must bring in its scores.
    """

    path: str
    sha256: Annotated[str, Sha256()]
    bias: Annotated[float, AtLeast(0)] = 0.0

    def check(self, where: str) -> None:
        """Raises ``FrontError`` where the path leads into a folder."""
        _check_beside(self.path, where)


def _check_beside(path: str, where: str) -> None:
    """Raises ``FrontError`` where a path is more than a file's name."""
    if path != PurePath(path).name or "\\" in path or path in (".", ".."):
        raise FrontError(
            f"{where}: 'path' is {path!r}; it must be the name of a file beside the front,"
            " without folders."
        )

"""What a user may tell the builder of engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.errors import TargetError

if TYPE_CHECKING:
    from skipc.profiles import Profile

LEVELS = range(6)
"""TensorRT's ``builder_optimization_level``: 0 builds fastest, 5 tries most."""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """Options of a target; None leaves the library's default.

    Attributes:
        workspace_bytes: Most scratch memory that a layer may ask for.
        optimization_level: How much TensorRT tries, of ``LEVELS``.

    Raises:
        TargetError: A value is out of its range.
    """

    workspace_bytes: int | None = None
    optimization_level: int | None = None

    def __post_init__(self) -> None:
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise TargetError(
                f"workspace of {self.workspace_bytes} bytes: expected at least 1."
            )
        if self.optimization_level is not None and self.optimization_level not in LEVELS:
            raise TargetError(
                f"optimization level {self.optimization_level}: expected 0 to {LEVELS[-1]}."
            )

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the options that were given, as on the command line."""
        names = {
            "--workspace": self.workspace_bytes,
            "--optimization-level": self.optimization_level,
        }
        return tuple(name for name, value in names.items() if value is not None)

    def refuse(self, profile: Profile) -> None:
        """Refuses options where the target has none.

        Raises:
            TargetError: One was given.
        """
        if self.given:
            raise TargetError(
                f"{self.given[0]} is TensorRT's; target {profile.name!r} runs on"
                f" {profile.backend}. Leave it out."
            )

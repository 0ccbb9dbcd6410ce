"""How a bundle's engines are to be built, as decided where the bundle was built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .contained import check_relative

if TYPE_CHECKING:
    from .records import Record


@dataclass(frozen=True, slots=True)
class Recipe:
    """What ``skipc finish`` does on the device unless it is told otherwise.

    Attributes:
        target: The profile's name.
        profile: The profile's file in the bundle; empty for one that comes with skipc.
        workspace_bytes: Most scratch memory that a layer may ask for; None for the library's
            default.
        optimization_level: How much the builder tries; None for the library's default.
    """

    target: str
    profile: str = ""
    workspace_bytes: int | None = None
    optimization_level: int | None = None

    @classmethod
    def from_record(cls, record: Record) -> Recipe:
        """Reads the manifest's ``recipe``.

        Raises:
            FormatError: It is not as FORMAT.md says.
            IntegrityError: The profile's path leads out of the bundle.
        """
        profile = record.optional_text("profile")
        if profile:
            check_relative(profile, f"{record.where}: 'profile'")
        return cls(
            target=record.text("target"),
            profile=profile,
            workspace_bytes=record.optional_integer("workspace_bytes", 1),
            optimization_level=record.optional_integer("optimization_level"),
        )

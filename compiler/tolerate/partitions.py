"""A file of memory partitions: how many errors each makes, and what reading it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from skipc.compiler.errors import TolerateError
from skipc.profiles import read_toml
from skipc.runtime.bundle.constraints import (
    AtLeast,
    AtMost,
    Count,
    Distinct,
    NotEmpty,
    Positive,
)
from skipc.runtime.bundle.records import read

if TYPE_CHECKING:
    from pathlib import Path

NORMAL = "normal"


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of the memory that is run out of specification.

    Attributes:
        name: Its name.
        rate: The share of its bits that fail.
        energy: Of reading it, over that of normal memory.
        latency: Of reading it, over that of normal memory.
        capacity_bytes: What it holds; None for as much as one likes.
    """

    name: str
    rate: Annotated[float, AtLeast(0), AtMost(0.5)]
    energy: Positive
    latency: Positive
    capacity_bytes: Count | None = None


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions that tensors can be put into, beside normal memory."""

    FORMAT: ClassVar[str] = "skipc.partitions/1"

    partition: Annotated[tuple[Partition, ...], NotEmpty(), Distinct("name")]

    def check(self, where: str) -> None:
        """Raises ``TolerateError`` where a partition has the name of the normal memory."""
        if any(one.name == NORMAL for one in self.partition):
            raise TolerateError(
                f"{where}: a partition is called {NORMAL!r}, which is the memory without"
                " errors, always there. Give it another name."
            )


def read_partitions(path: Path) -> tuple[Partition, ...]:
    """Returns normal memory, then the partitions in a TOML file.

    Raises:
        TolerateError: It is not one.
    """
    document = read_toml(path, TolerateError)
    found = read(Partitions, document, str(path), TolerateError)
    return (Partition(NORMAL, 0.0, 1.0, 1.0), *found.partition)

"""What a value of a document must be besides its type: ``Annotated[int, AtLeast(1)]``.

A constraint is a small frozen dataclass with one method, ``check(value, place)``, which raises
what ``place`` words. ``records.read`` calls it with the value that it has read.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple, Protocol

from ..errors import FormatError, choices_text, shown
from .contained import check_relative

_SHA256 = re.compile("[0-9a-f]{64}")


class Place(NamedTuple):
    """Where a value stands in a document: the place of the object around it, and its key.

    For error messages: ``manifest.json: units[3]``; ``shape[2]`` for an item of a list.
    """

    where: str
    key: str

    @property
    def inside(self) -> str:
        """The place of what the value holds, e.g. ``manifest.json: units[3]: metrics``."""
        return f"{self.where}: {self.key}"

    def must_be(self, expected: str, value: object) -> FormatError:
        """Returns the error that says what was expected in place of ``value``."""
        return FormatError(
            f"{self.where}: {self.key!r} must be {expected}, found {shown(value)}."
        )

    def is_none_of(self, value: str, choices: tuple[str, ...]) -> FormatError:
        """Returns the error that lists what ``value`` could have been."""
        listed = choices_text(value, choices)
        return FormatError(f"{self.where}: {self.key!r} is {shown(value)}. {listed}")


class Constraint(Protocol):
    """What a value must be besides its type."""

    def check(self, value: Any, place: Place) -> None:
        """Raises ``FormatError`` where ``value`` is not so."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A number on one side of ``limit``."""

    side: str
    limit: float

    def check(self, value: float, place: Place) -> None:
        """Raises ``FormatError`` where ``value`` is not so."""
        if not _SIDES[self.side](value, self.limit):
            number = "a whole number" if isinstance(value, int) else "a number"
            limit = "zero" if self.limit == 0 and self.side == "above" else self.limit
            raise place.must_be(f"{number} {self.side} {limit}", value)


_SIDES: Mapping[str, Callable[[float, float], bool]] = {
    "of at least": operator.ge,
    "of at most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}
AtLeast, AtMost = partial(Bound, "of at least"), partial(Bound, "of at most")
Above, Below = partial(Bound, "above"), partial(Bound, "below")


@dataclass(frozen=True, slots=True)
class Sha256:
    """A hash: 64 hexadecimal digits in lower case."""

    def check(self, value: str, place: Place) -> None:
        """Raises ``FormatError`` where ``value`` is not so."""
        if not _SHA256.fullmatch(value):
            raise place.must_be("64 hexadecimal digits in lower case", value)


@dataclass(frozen=True, slots=True)
class RelativePath:
    """A path that stays in the bundle's folder; an empty text, where allowed, is none."""

    def check(self, value: str, place: Place) -> None:
        """Raises ``IntegrityError`` where ``value`` is not so."""
        if value:
            check_relative(value, f"{place.where}: {place.key!r}")


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some texts."""

    choices: tuple[str, ...]

    def check(self, value: str, place: Place) -> None:
        """Raises ``FormatError`` where ``value`` is not so."""
        if value not in self.choices:
            raise place.is_none_of(value, self.choices)


@dataclass(frozen=True, slots=True)
class KeysOf:
    """An object whose keys are some of ``choices``."""

    choices: tuple[str, ...]

    def check(self, value: Mapping[str, object], place: Place) -> None:
        """Raises ``FormatError`` where ``value`` is not so."""
        for key in value:
            if key not in self.choices:
                listed = choices_text(key, self.choices)
                raise FormatError(f"{place.inside}: unknown key {shown(key)}. {listed}")


@dataclass(frozen=True, slots=True)
class NotEmpty:
    """A list or an object with at least one entry."""

    def check(self, value: Sized, place: Place) -> None:
        """Raises ``FormatError`` where ``value`` is not so."""
        if not len(value):
            raise FormatError(
                f"{place.where}: {place.key!r} is empty, expected at least one entry."
            )


@dataclass(frozen=True, slots=True)
class Distinct:
    """A list without two equal entries, or without two that are equal in an attribute."""

    by: str = ""

    def check(self, value: tuple[Any, ...], place: Place) -> None:
        """Raises ``FormatError`` where ``value`` is not so."""
        names = [getattr(item, self.by) for item in value] if self.by else value
        if len(set(names)) == len(names):
            return
        twice = shown(next(name for name, count in Counter(names).items() if count > 1))
        if self.by:
            raise FormatError(f"{place.inside}: the {self.by} {twice} is given twice.")
        raise FormatError(f"{place.where}: {place.key!r} names {twice} twice. Remove one.")


@dataclass(frozen=True, slots=True)
class MayBeEmpty:
    """A text that may be empty, which no other may."""

    def check(self, value: str, place: Place) -> None:
        """Raises nothing: it allows something."""


Text = Annotated[str, MayBeEmpty()]
Positive = Annotated[float, Above(0)]
Count = Annotated[int, AtLeast(1)]

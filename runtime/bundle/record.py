"""Records read by hand, until every document is read by its dataclass: see ``records``."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from ..errors import FormatError, choices_text, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHA256 = re.compile("[0-9a-f]{64}")
_LARGEST_INTEGER = 2**63 - 1


class Record:
    """One JSON object with a known set of keys.

    Args:
        value: The parsed JSON value; must be an object.
        where: The object's place for error messages, e.g. ``manifest.json: units[3]``.
        keys: The keys that the object may have.
        error: The exception class to raise.
    """

    def __init__(
        self,
        value: object,
        where: str,
        keys: tuple[str, ...],
        error: type[Exception] = FormatError,
    ) -> None:
        self.where = where
        self._error = error
        if not isinstance(value, dict):
            raise error(f"{where}: expected an object, found {shown(value)}.")
        unknown = [key for key in value if key not in keys]
        if unknown:
            choices = choices_text(unknown[0][:80], keys)
            raise error(f"{where}: unknown key {shown(unknown[0])}. {choices}")
        self._value: dict[str, object] = value

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def holds_text(self, key: str) -> bool:
        """Tells whether a string is under ``key``, where other types are valid, too."""
        return isinstance(self._get(key), str)

    def _get(self, key: str) -> object:
        if key not in self._value:
            raise self._error(f"{self.where}: the key {key!r} is missing.")
        return self._value[key]

    def _wrong(self, key: str, expected: str, value: object) -> Exception:
        return self._error(f"{self.where}: {key!r} must be {expected}, found {shown(value)}.")

    def text(self, key: str) -> str:
        """Returns the non-empty string under ``key``."""
        value = self._get(key)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, "a non-empty string", value)
        return value

    def optional_text(self, key: str) -> str:
        """Returns the string under ``key``, which may be empty."""
        value = self._get(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        return value

    def integer(self, key: str, minimum: int = 0) -> int:
        """Returns the whole number under ``key``, at least ``minimum`` and below 2^63."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise self._wrong(key, f"a whole number of at least {minimum}", value)
        if value > _LARGEST_INTEGER:
            raise self._wrong(key, "a whole number below 2^63", value)
        return value

    def optional_integer(self, key: str, minimum: int = 0) -> int | None:
        """Returns the whole number under ``key``, or None where it is ``null``."""
        return None if self._get(key) is None else self.integer(key, minimum)

    def number(self, key: str) -> float:
        """Returns the finite number under ``key``."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(key, "a number", value)
        try:
            number = float(value)
        except OverflowError as cause:
            raise self._wrong(key, "a number that a float can hold", value) from cause
        if not math.isfinite(number):
            raise self._wrong(key, "a finite number", value)
        return number

    def optional_number(self, key: str) -> float | None:
        """Returns the finite number under ``key``, or None where it is ``null``."""
        return None if self._get(key) is None else self.number(key)

    def boolean(self, key: str) -> bool:
        """Returns the true or false under ``key``."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def positive(self, key: str) -> float:
        """Returns the finite number above zero under ``key``."""
        number = self.number(key)
        if number <= 0:
            raise self._wrong(key, "a number above zero", number)
        return number

    def sha256(self, key: str) -> str:
        """Returns the hash under ``key``: 64 hexadecimal digits in lower case."""
        value = self.text(key)
        if not _SHA256.fullmatch(value):
            raise self._wrong(key, "64 hexadecimal digits in lower case", value)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Returns the list of strings under ``key``."""
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of strings", value)
        return tuple(value)

    def items(self, key: str) -> list[object]:
        """Returns the list under ``key``, whatever it holds."""
        value = self._get(key)
        if not isinstance(value, list):
            raise self._wrong(key, "a list", value)
        return value

    def record(self, key: str, *keys: str) -> Record:
        """Returns the object under ``key``, which may have ``keys``."""
        return Record(self._get(key), f"{self.where}: {key}", keys, self._error)

    def optional_record(self, key: str, *keys: str) -> Record | None:
        """Returns the object under ``key``, or None where it is ``null``."""
        return None if self._get(key) is None else self.record(key, *keys)

    def records(self, key: str, *keys: str) -> Iterator[Record]:
        """Yields the objects of the list under ``key``, each of which may have ``keys``."""
        for index, item in enumerate(self.items(key)):
            yield Record(item, f"{self.where}: {key}[{index}]", keys, self._error)

    def numbers(self, key: str) -> dict[str, float]:
        """Returns the object under ``key``, whose values are all finite numbers."""
        value = self._get(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object of numbers", value)
        inner = Record(value, f"{self.where}: {key}", tuple(value), self._error)
        return {name: inner.number(name) for name in value}

    def strings(self, key: str) -> dict[str, str]:
        """Returns the object under ``key``, whose values are all non-empty strings."""
        value = self._get(key)
        if not isinstance(value, dict):
            raise self._wrong(key, "an object of strings", value)
        inner = Record(value, f"{self.where}: {key}", tuple(value), self._error)
        return {name: inner.text(name) for name in value}

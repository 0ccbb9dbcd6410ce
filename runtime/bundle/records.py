"""Strict reading of documents, by the annotations of the dataclasses that hold them.

``read(cls, value, where)`` makes a frozen dataclass of parsed JSON or TOML. What the object
may hold is said once, by the annotations:

=============================  ==========================================================
``str``                        a string that is not empty; ``Text``: one that may be
``int``                        a whole number from 0, below 2^63; ``Count``: from 1
``float``                      a finite number; ``Positive``: above zero
``bool``, ``object``           true or false; anything
``X | None``                   null, or as X
``X | Y``                      as the first that the value's JSON type fits
``tuple[X, ...]``              a list
``Mapping[str, X]``            an object with any keys
``Literal[...]``, an ``Enum``  one of its strings
a dataclass                    an object with its fields as keys
``Annotated[X, AtLeast(1)]``   as X; then the constraint is checked, see ``constraints``
=============================  ==========================================================

A key may be left out exactly where its field has a default, and no other key may be there.
What fields say of each other is checked by the class itself: in an optional method
``check(self, where)``, or when it is made. A class with a ``FORMAT`` is a document: its object
begins with that format line, which ``read`` checks and ``written`` writes; its ``AGAIN`` tells
the user of another version how to get one of this. An ``EXAMPLE`` is shown to whoever wrote
something else than an object.

Every wrong key or value is named by its place: ``manifest.json: units[3]: 'macs' must be …``.
The annotations are resolved when a class is first read, so what they name is imported where it
is defined, not under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import json
import math
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from ..errors import BundleError, FormatError, SkipcError, VersionError, choices_text, shown
from .constraints import AtLeast, Constraint, MayBeEmpty, Place

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

_LARGEST_INTEGER = 2**63 - 1

_AGAIN = "let this one write it anew"

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""No manifest of a real family comes near this; a larger file is refused unread."""


class _KeysError(FormatError):
    """A record has other keys than its class."""


class Document(Protocol):
    """A dataclass that is written with a format line."""

    FORMAT: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


def read(cls: type[T], value: object, where: str, error: type[Exception] = FormatError) -> T:
    """Returns the dataclass ``cls`` that ``value``, parsed JSON or TOML, describes.

    ``where`` is its place for messages, e.g. ``manifest.json``; ``error`` is what to raise
    where the document is none of a bundle.

    Raises:
        VersionError: The format line names another version.
        IntegrityError: A path leads out of the bundle.
        FormatError: (or ``error`` for all of them) Anything else is not as ``cls`` says.
    """
    expected: str | None = getattr(cls, "FORMAT", None)
    again: str = getattr(cls, "AGAIN", _AGAIN)
    try:
        if expected is not None:
            value = _without_format(value, expected, where, again)
        made: T = _record(cls, value, where)
    except BundleError as cause:
        if isinstance(cause, _KeysError) and hasattr(cls, "AGAIN"):  # nobody writes it by hand
            told = f"{cause} If an earlier skipc wrote it, {again}."
            raise error(told) from cause
        if error is FormatError:
            raise
        raise error(str(cause)) from cause
    return made


def written(document: Document) -> dict[str, object]:
    """Returns the JSON object of a document, format line first."""
    return {"format": document.FORMAT, **asdict(document)}


def _without_format(value: object, expected: str, where: str, again: str) -> object:
    """Returns a document without its ``format`` line, which is checked before all else.

    ``again`` is what the user of another version may do about it.
    """
    found = value.get("format") if isinstance(value, dict) else None
    if isinstance(value, dict) and found == expected:
        return {key: inner for key, inner in value.items() if key != "format"}
    kind = expected.rpartition("/")[0]
    if isinstance(found, str) and found.startswith(f"{kind}/"):
        raise VersionError(
            f"{where}: written in format {shown(found)}, this skipc reads {expected!r}."
            f" Install the skipc version that wrote it, or {again}."
        )
    raise FormatError(f"{where}: 'format' must be {expected!r}, found {shown(found)}.")


@dataclass(frozen=True, slots=True)
class _Kind:
    """How values of one annotation are read: of which types of parsed JSON, and by what.

    ``plural`` is what several are called; empty for what a list of them shows best.
    """

    types: tuple[type, ...]
    plural: str
    read: Callable[[Any, Place], Any]


def _record(cls: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        example = f" Write {cls.EXAMPLE}." if hasattr(cls, "EXAMPLE") else ""
        raise FormatError(f"{where}: expected an object, found {shown(value)}.{example}")
    kinds, required = _fields(cls)
    if value.keys() != kinds.keys():
        for key in value:
            if key not in kinds:
                choices = choices_text(str(key), kinds)
                raise _KeysError(f"{where}: unknown key {shown(key)}. {choices}")
        for key in required:
            if key not in value:
                raise _KeysError(f"{where}: the key {key!r} is missing.")
    found = {key: kinds[key].read(inner, Place(where, key)) for key, inner in value.items()}
    try:
        made = cls(**found)
    except SkipcError as cause:
        raise FormatError(f"{where}: {cause}") from cause
    if hasattr(cls, "check"):
        made.check(where)
    return made


@cache
def _fields(cls: type[Any]) -> tuple[dict[str, _Kind], tuple[str, ...]]:
    """Returns how each field of a dataclass is read, and which must be there."""
    hints = get_type_hints(cls, include_extras=True)
    given = [each for each in fields(cls) if each.init]
    required = [
        each.name
        for each in given
        if each.default is MISSING and each.default_factory is MISSING
    ]
    return {each.name: _kind(hints[each.name]) for each in given}, tuple(required)


def _kind(hint: Any) -> _Kind:
    if hint in _SCALARS:
        return _SCALARS[hint]
    made = _COMPOSED.get(get_origin(hint))
    if made is not None:
        return made(*get_args(hint))
    if is_dataclass(hint) and isinstance(hint, type):
        return _Kind((dict,), "", lambda value, place: _record(hint, value, place.inside))
    if issubclass(hint, Enum):
        values = _choice(*(member.value for member in hint))
        return _Kind((str,), "", lambda value, place: hint(values.read(value, place)))
    raise TypeError(f"{hint!r}: a field of this type cannot be read from a document")


def _constrained(hint: Any, *constraints: Constraint) -> _Kind:
    if hint is int:  # the least value is said by its own constraint where it has one
        plain, constraints = _ANY_INTEGER, (*constraints, AtLeast(0))
    else:
        plain = _ANY_TEXT if MayBeEmpty() in constraints else _kind(hint)

    def read_constrained(value: object, place: Place) -> object:
        found = plain.read(value, place)
        for constraint in constraints:
            constraint.check(found, place)
        return found

    return _Kind(plain.types, plain.plural, read_constrained)


def _either(*hints: Any) -> _Kind:
    kinds = [_kind(hint) for hint in hints if hint is not NoneType]
    optional = NoneType in hints

    def read_either(value: object, place: Place) -> object:
        if value is None and optional:
            return None
        fits = (kind for kind in kinds if isinstance(value, kind.types))
        return next(fits, kinds[0]).read(value, place)

    return _Kind(tuple(t for kind in kinds for t in kind.types), "", read_either)


def _list(hint: Any, *_: Any) -> _Kind:
    kind = _kind(hint)

    def read_list(value: object, place: Place) -> tuple[object, ...]:
        where, key = place
        known = not kind.plural or (
            isinstance(value, list) and all(isinstance(item, kind.types) for item in value)
        )
        if not isinstance(value, list) or not known:
            of = f" of {kind.plural}" if kind.plural else ""
            raise place.must_be(f"a list{of}", value)
        return tuple(
            kind.read(item, Place(where, f"{key}[{index}]"))
            for index, item in enumerate(value)
        )

    return _Kind((list,), "", read_list)


def _mapping(_: Any, hint: Any) -> _Kind:
    kind = _kind(hint)

    def read_mapping(value: object, place: Place) -> dict[str, object]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            of = f" of {kind.plural}" if kind.plural else ""
            raise place.must_be(f"an object{of}", value)
        inside = place.inside
        return {key: kind.read(item, Place(inside, key[:80])) for key, item in value.items()}

    return _Kind((dict,), "", read_mapping)


def _choice(*choices: str) -> _Kind:
    def read_choice(value: object, place: Place) -> str:
        found = _text(value, place)
        if found not in choices:
            raise place.is_none_of(found, choices)
        return found

    return _Kind((str,), "", read_choice)


def _text(value: object, place: Place) -> str:
    if not isinstance(value, str) or not value:
        raise place.must_be("a non-empty string", value)
    return value


def _any_text(value: object, place: Place) -> str:
    if not isinstance(value, str):
        raise place.must_be("a string", value)
    return value


def _any_integer(value: object, place: Place) -> int:
    if type(value) is not int:
        raise place.must_be("a whole number", value)
    if value > _LARGEST_INTEGER:
        raise place.must_be("a whole number below 2^63", value)
    return value


def _number(value: object, place: Place) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise place.must_be("a number", value)
    try:
        number = float(value)
    except OverflowError as cause:
        raise place.must_be("a number that a float can hold", value) from cause
    if not math.isfinite(number):
        raise place.must_be("a finite number", value)
    return number


def _boolean(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.must_be("true or false", value)
    return value


_ANY_TEXT = _Kind((str,), "strings", _any_text)
_ANY_INTEGER = _Kind((int,), "whole numbers", _any_integer)
_SCALARS: dict[Any, _Kind] = {
    str: _Kind((str,), "strings", _text),
    int: _constrained(int),
    float: _Kind((int, float), "numbers", _number),
    bool: _Kind((bool,), "", _boolean),
    object: _Kind((object,), "", lambda value, place: value),
}
_COMPOSED: dict[Any, Callable[..., _Kind]] = {
    Annotated: _constrained,
    Literal: _choice,
    Mapping: _mapping,
    Union: _either,
    UnionType: _either,
    tuple: _list,
}


def read_document(path: Path, error: type[Exception] = FormatError) -> bytes:
    """Returns the bytes of the small document in ``path``.

    Raises ``FormatError`` (or ``error``) where it cannot be read, is not a regular file or is
    larger than ``MAX_DOCUMENT_BYTES``.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would block, a device never end
            raise error(f"{path}: not a regular file.")
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise error(f"{path}: cannot be read: {reason}.") from cause
    if len(data) > MAX_DOCUMENT_BYTES:
        raise error(
            f"{path}: {status.st_size} bytes, more than the {MAX_DOCUMENT_BYTES} bytes that"
            " such a file may have. It is not one that skipc wrote."
        )
    return data


def parse_json(data: bytes, where: str, error: type[Exception] = FormatError) -> object:
    """Returns the JSON value in ``data``; ``where`` names it in error messages.

    Raises ``FormatError`` (or ``error``) where it is not JSON in UTF-8, or names a key twice.
    """

    def without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        value = dict(pairs)
        if len(value) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice = next(name for name, count in counts.items() if count > 1)
            raise error(f"{where}: the key {shown(twice)} is given twice in one object.")
        return value

    try:
        value: object = json.loads(data.decode("utf-8"), object_pairs_hook=without_duplicates)
    except UnicodeDecodeError as cause:
        raise error(f"{where}: not valid JSON, which is text in UTF-8.") from cause
    except (ValueError, RecursionError) as cause:
        raise error(f"{where}: not valid JSON: {cause}.") from cause
    return value


def read_json(path: Path, error: type[Exception] = FormatError) -> object:
    """Returns the JSON value in ``path``; see ``read_document`` and ``parse_json``."""
    return parse_json(read_document(path, error), str(path), error)

"""Reading a profile's TOML file: every wrong key or value is named by its place."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from skipc.profiles.model import (
    ARCHITECTURES,
    PEAK_PRECISIONS,
    PRECISIONS_OF_BACKEND,
    Board,
    Detection,
    LatencyTable,
    Number,
    Profile,
    ProfileError,
    Software,
)
from skipc.runtime.bundle.records import Record, read_document
from skipc.runtime.errors import choices_text, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

FORMAT = "skipc.profile/1"

_PROFILE_KEYS = ("format", *Profile.__dataclass_fields__)
_BOARD_KEYS = tuple(Board.__dataclass_fields__)
_SOFTWARE_KEYS = tuple(Software.__dataclass_fields__)
_DETECT_KEYS = tuple(Detection.__dataclass_fields__)
_CAPABILITY = re.compile(r"\d{1,2}\.\d")


def read_profile(path: Path) -> Profile:
    """Returns the profile in ``path``.

    Raises:
        ProfileError: The file cannot be read, or is no profile; the message names the key.
    """
    value = _parse(path)
    found = value.get("format")
    if found != FORMAT:
        raise ProfileError(f"{path}: 'format' must be {FORMAT!r}, found {shown(found)}.")
    doc = Record(value, str(path), _PROFILE_KEYS, ProfileError)
    name = doc.text("name")
    if name != path.stem:
        raise ProfileError(
            f"{path}: 'name' is {name!r}, but the file is called {path.stem!r}."
            " Engines lie in a folder of that name, so both must be equal."
        )
    backend = _choice(doc, "backend", PRECISIONS_OF_BACKEND)
    described = doc.text("description")
    return Profile(
        name=name,
        backend=backend,
        description=described,
        architecture=_choice(doc, "architecture", ARCHITECTURES, "any"),
        compute_capabilities=_capabilities(doc),
        precisions=_precisions(doc, backend),
        boards=_boards(doc),
        software=_software(doc),
        detect=_detection(doc) if "detect" in doc else Detection(),
        latency=_latency(doc) if "latency" in doc else None,
    )


def _parse(path: Path) -> dict[str, object]:
    data = read_document(path, ProfileError)
    try:
        value: dict[str, object] = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as cause:
        raise ProfileError(f"{path}: not valid TOML: {cause}.") from cause
    return value


def _choice(doc: Record, key: str, choices: Collection[str], default: str = "") -> str:
    if default and key not in doc:
        return default
    value = doc.text(key)
    if value not in choices:
        raise ProfileError(
            f"{doc.where}: unknown {key} {value!r}. {choices_text(value, choices)}"
        )
    return value


def _texts(doc: Record, key: str) -> tuple[str, ...]:
    """Returns a list of different, non-empty strings; empty where the key is missing."""
    if key not in doc:
        return ()
    values = doc.texts(key)
    for index, value in enumerate(values):
        if not value:
            raise ProfileError(f"{doc.where}: {key}[{index}] is empty. Remove it.")
        if value in values[:index]:
            raise ProfileError(f"{doc.where}: {key!r} names {value!r} twice. Remove one.")
    return values


def _capabilities(doc: Record) -> tuple[str, ...]:
    values = _texts(doc, "compute_capabilities")
    for value in values:
        if not _CAPABILITY.fullmatch(value):
            raise ProfileError(
                f"{doc.where}: 'compute_capabilities' holds {value!r}, which is none. Write"
                " major and minor number, e.g. '8.7'."
            )
    return values


def _precisions(doc: Record, backend: str) -> tuple[str, ...]:
    if "precisions" not in doc:
        return ("fp32",)
    values = _texts(doc, "precisions")
    able = PRECISIONS_OF_BACKEND[backend]
    if not values:
        raise ProfileError(
            f"{doc.where}: 'precisions' is empty. {choices_text('', able)} Name at least one,"
            " or leave the key out for 'fp32'."
        )
    for value in values:
        if value not in able:
            raise ProfileError(
                f"{doc.where}: 'precisions' holds {value!r}, which engines of the backend"
                f" {backend!r} cannot have. {choices_text(value, able)}"
            )
    return values


def _boards(doc: Record) -> tuple[Board, ...]:
    if "boards" not in doc:
        return ()
    boards: list[Board] = []
    for record in doc.records("boards", *_BOARD_KEYS):
        board = _board(record)
        for other in boards:
            if board.name == other.name:
                raise ProfileError(
                    f"{record.where}: 'name' is {board.name!r}, as another board's is. Give"
                    " each board a name of its own."
                )
            shared = set(board.module_ids).intersection(other.module_ids)
            if shared:
                raise ProfileError(
                    f"{record.where}: 'module_ids' holds {min(shared)!r}, which the board"
                    f" {other.name!r} has, too. Boards are told apart by it: remove one."
                )
        boards.append(board)
    return tuple(boards)


def _board(record: Record) -> Board:
    rails = _texts(record, "rails")
    total_rails = _texts(record, "total_rails")
    for rail in total_rails:
        if rail not in rails:
            raise ProfileError(
                f"{record.where}: 'total_rails' holds {rail!r}, which is not in 'rails'."
                f" {choices_text(rail, rails)}"
            )
    multiprocessors = _number(record, "multiprocessors")
    if multiprocessors is not None and not multiprocessors.value.is_integer():
        raise ProfileError(
            f"{record.where}: multiprocessors: {multiprocessors.value:g} is not a whole"
            " number."
        )
    peak_tops: dict[str, Number] = {}
    if "peak_tops" in record:
        peaks = record.record("peak_tops", *PEAK_PRECISIONS)
        for key in PEAK_PRECISIONS:
            number = _number(peaks, key)
            if number is not None:
                peak_tops[key] = number
    return Board(
        name=record.text("name"),
        module_ids=_texts(record, "module_ids"),
        memory_gb=_number(record, "memory_gb"),
        bandwidth_gb_s=_number(record, "bandwidth_gb_s"),
        peak_tops=peak_tops,
        multiprocessors=multiprocessors,
        power_modes=_texts(record, "power_modes"),
        rails=rails,
        total_rails=total_rails,
    )


def _number(doc: Record, key: str) -> Number | None:
    if key not in doc:
        return None
    try:
        record = doc.record(key, "value", "source", "derived")
    except ProfileError as cause:
        raise ProfileError(
            f"{cause} Say where the number comes from:"
            f' {key} = {{ value = ..., source = "..." }}, with derived = true where it was'
            " computed from others."
        ) from cause
    derived = "derived" in record and record.boolean("derived")
    if "source" not in record and not derived:
        raise ProfileError(
            f"{record.where}: no 'source'. Add source = \"...\", or"
            " derived = true where it was computed from other numbers."
        )
    source = record.text("source") if "source" in record else ""
    return Number(record.positive("value"), source, derived)


def _software(doc: Record) -> tuple[Software, ...]:
    if "software" not in doc:
        return ()
    return tuple(
        Software(
            record.text("name"),
            **{key: record.text(key) for key in _SOFTWARE_KEYS[1:] if key in record},
        )
        for record in doc.records("software", *_SOFTWARE_KEYS)
    )


def _detection(doc: Record) -> Detection:
    record = doc.record("detect", *_DETECT_KEYS)
    files = _texts(record, "files")
    for file in files:
        if not file.startswith("/"):
            raise ProfileError(
                f"{record.where}: 'files' holds {file!r}, which is relative to no folder."
                " Write a path that begins with '/'."
            )
    return Detection(
        _texts(record, "compatible"),
        files,
        "fallback" in record and record.boolean("fallback"),
    )


def _latency(doc: Record) -> LatencyTable:
    record = doc.record("latency", "base_ms", "unit_ms")
    table = LatencyTable(record.positive("base_ms"), record.numbers("unit_ms"))
    for unit, added_ms in table.unit_ms.items():
        if added_ms < 0:
            raise ProfileError(
                f"{record.where}: unit_ms: {unit!r} adds {added_ms:g} ms; at least 0 is"
                " expected."
            )
    return table

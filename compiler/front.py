"""``front.json``: the configurations to build, with their metrics."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import write_whole
from skipc.compiler.errors import FrontError
from skipc.compiler.graph.index import is_inside
from skipc.compiler.norms.mode import NormMode
from skipc.runtime.bundle.records import Record, read_json
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skipc.compiler.axes.units import Unit

FORMAT = "skipc.front/1"

MAX_CONFIGURATIONS = 1000

_KEYS = ("format", "units", "norm", "statistics", "provenance", "configurations")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?\Z")
_UNITLESS = {
    "latency": "latency_ms",
    "energy": "energy_mj",
    "power": "power_w",
    "memory": "memory_bytes",
    "size": "size_bytes",
}


@dataclass(frozen=True, slots=True)
class FrontEntry:
    """One configuration.

    Attributes:
        name: Also the name of its files.
        skip: Module paths of the skipped units, or one bit string over all units.
        metrics: Numbers with a unit suffix, e.g. ``latency_ms``; ``accuracy`` is a fraction.
    """

    name: str
    skip: tuple[str, ...] | str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatisticsFile:
    """The file of norm statistics that goes with a front.

    Attributes:
        path: Its name, beside ``front.json``.
        sha256: Its hash.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Front:
    """The Pareto-optimal configurations.

    Attributes:
        entries: The configurations, in the order of the file.
        units: The network's units that the front was made for; empty if it does not say.
        norm: How batch norm adapts to what is skipped; None if it does not say.
        statistics: The file of norm statistics, where ``norm`` is not ``shared``.
        provenance: Where the front comes from, for people, except ``checkpoint_sha256``:
            statistics are refused for other weights.
    """

    entries: tuple[FrontEntry, ...]
    units: tuple[str, ...] = ()
    norm: NormMode | None = None
    statistics: StatisticsFile | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A front entry resolved against a network: its units, in network order."""

    name: str
    units: tuple[Unit, ...]
    metrics: Mapping[str, float]


def read_front(path: Path) -> Front:
    """Returns the front in ``path``.

    Raises:
        FrontError: The file is not a front; the message names the entry.
    """
    return _front(read_json(path, FrontError), str(path))


def _front(value: object, where: str) -> Front:
    doc = Record(value, where, _KEYS, FrontError)
    found = doc.text("format")
    if found != FORMAT:
        raise FrontError(f"{where}: 'format' is {found!r}; this skipc reads {FORMAT!r}.")
    entries = tuple(
        _entry(record) for record in doc.records("configurations", "name", "skip", "metrics")
    )
    if not entries:
        raise FrontError(
            f"{where}: 'configurations' is empty. Give at least one, e.g."
            ' {"name": "full", "skip": []}.'
        )
    if len(entries) > MAX_CONFIGURATIONS:
        raise FrontError(
            f"{where}: {len(entries)} configurations, more than the {MAX_CONFIGURATIONS} that"
            " a front may have."
        )
    _check_names(entries, where)
    return Front(
        entries,
        units=doc.texts("units") if "units" in doc else (),
        norm=_norm(doc) if "norm" in doc else None,
        statistics=_statistics(doc) if "statistics" in doc else None,
        provenance=doc.strings("provenance") if "provenance" in doc else {},
    )


def write_front(path: Path, front: Front) -> None:
    """Writes ``front`` to ``path``, whole or not at all.

    Raises:
        FrontError: ``read_front`` would refuse it.
    """
    document: dict[str, object] = {"format": FORMAT}
    if front.units:
        document["units"] = list(front.units)
    if front.norm is not None:
        document["norm"] = front.norm.value
    if front.statistics is not None:
        document["statistics"] = asdict(front.statistics)
    if front.provenance:
        document["provenance"] = dict(front.provenance)
    document["configurations"] = [_entry_json(entry) for entry in front.entries]
    _front(document, str(path))
    write_whole(path, json.dumps(document, indent=2).encode() + b"\n")


def configurations_from_front(
    front: Front, units: tuple[Unit, ...], where: str
) -> tuple[Configuration, ...]:
    """Returns the front's configurations with their units.

    Args:
        front: The front.
        units: The network's units, in network order.
        where: The front's file, for error messages.

    Raises:
        FrontError: An entry names no unit of this network, or two entries skip the same.
    """
    names = tuple(unit.name for unit in units)
    if front.units and front.units != names:
        raise FrontError(
            f"{where}: made for another network: it lists {len(front.units)} units"
            f" ({_first(front.units)}), this network has {len(names)} ({_first(names)})."
        )
    _check_same_network(front, units, where)
    resolved = tuple(
        Configuration(
            entry.name, _units(entry, units, f"{where}: {entry.name!r}"), dict(entry.metrics)
        )
        for entry in front.entries
    )
    seen: dict[tuple[str, ...], str] = {}
    for configuration in resolved:
        key = tuple(unit.name for unit in configuration.units)
        if key in seen:
            raise FrontError(
                f"{where}: {seen[key]!r} and {configuration.name!r} skip the same units"
                f" ({', '.join(key) or 'none'}). Remove one."
            )
        seen[key] = configuration.name
    return resolved


def _norm(doc: Record) -> NormMode:
    found = doc.text("norm")
    modes = [mode.value for mode in NormMode]
    if found not in modes:
        raise FrontError(f"{doc.where}: 'norm' is {found!r}. {choices_text(found, modes)}")
    return NormMode(found)


def _statistics(doc: Record) -> StatisticsFile:
    record = doc.record("statistics", "path", "sha256")
    path = record.text("path")
    if path != PurePath(path).name or "\\" in path or path in (".", ".."):
        raise FrontError(
            f"{record.where}: 'path' is {path!r}; it must be the name of a file beside the"
            " front, without folders."
        )
    return StatisticsFile(path, record.sha256("sha256"))


def _entry(record: Record) -> FrontEntry:
    name = record.text("name")
    if not _NAME.match(name) or _RESERVED.match(name):
        raise FrontError(
            f"{record.where}: {name!r} cannot name files. Use letters, digits, '.', '_' and"
            " '-', at most 64 of them, starting with a letter or digit."
        )
    where = f"{record.where} ({name!r})"
    metrics = record.numbers("metrics") if "metrics" in record else {}
    for key, value in metrics.items():
        if key in _UNITLESS:
            raise FrontError(
                f"{where}: the metric {key!r} has no unit. Write {_UNITLESS[key]!r}."
            )
        if key == "accuracy" and not 0 <= value <= 1:
            raise FrontError(
                f"{where}: 'accuracy' is a fraction between 0 and 1, found {value:g}."
            )
    return FrontEntry(name, _skip(record), metrics)


def _skip(record: Record) -> tuple[str, ...] | str:
    if record.holds_text("skip"):
        bits = record.optional_text("skip")
        if set(bits) - {"0", "1"} or not bits:
            raise FrontError(
                f"{record.where}: 'skip' is the text {bits[:80]!r}; a text must be a bit"
                " string over the units (1 = skipped). For names write a list."
            )
        return bits
    paths = record.texts("skip")
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise FrontError(f"{record.where}: 'skip' names {twice[0]!r} twice.")
    return paths


def _entry_json(entry: FrontEntry) -> dict[str, object]:
    skip = entry.skip if isinstance(entry.skip, str) else list(entry.skip)
    document: dict[str, object] = {"name": entry.name, "skip": skip}
    if entry.metrics:
        document["metrics"] = dict(entry.metrics)
    return document


def _check_names(entries: tuple[FrontEntry, ...], where: str) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        key = entry.name.lower()
        if key in seen:
            raise FrontError(
                f"{where}: two configurations are named {entry.name!r}"
                + ("." if seen[key] == entry.name else f" but for case ({seen[key]!r}).")
                + " Names become file names and must differ."
            )
        seen[key] = entry.name


def _check_same_network(front: Front, units: tuple[Unit, ...], where: str) -> None:
    paths = [path for entry in front.entries if not isinstance(entry.skip, str)
             for path in entry.skip]  # fmt: skip
    if paths and not any(_matching(path, units) for path in paths):
        raise FrontError(
            f"{where}: none of the {len(set(paths))} module paths it skips ({_first(paths)})"
            f" is a unit of this network ({_first([unit.name for unit in units])}). Is it the"
            f" front of another network? {_near(paths[0], units)}"
        )


def _units(entry: FrontEntry, units: tuple[Unit, ...], where: str) -> tuple[Unit, ...]:
    if isinstance(entry.skip, str):
        if len(entry.skip) != len(units):
            raise FrontError(
                f"{where}: the bit string has {len(entry.skip)} bits, but the network has"
                f" {len(units)} units. Give one bit per unit, in the order of `skipc units`."
            )
        return tuple(u for u, bit in zip(units, entry.skip, strict=True) if bit == "1")
    chosen: set[str] = set()
    for path in entry.skip:
        matching = _matching(path, units)
        if not matching:
            raise FrontError(f"{where}: {path!r} is no unit. {_near(path, units)}")
        chosen |= {unit.name for unit in matching}
    return tuple(unit for unit in units if unit.name in chosen)


def _matching(path: str, units: tuple[Unit, ...]) -> list[Unit]:
    """Returns the unit of that name, or all units inside the module of that path."""
    exact = [unit for unit in units if unit.name == path]
    return exact or [
        u for u in units if path and (is_inside(u.name, path) or u.module == path)
    ]


def _near(path: str, units: tuple[Unit, ...]) -> str:
    choices = {unit.name for unit in units} | {unit.module for unit in units if unit.module}
    return choices_text(path, choices)


def _first(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:2])
    return f"{shown} ..." if len(names) > 2 else shown or "none"

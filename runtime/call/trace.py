"""What an engine's calls did, as a file: JSON Lines, for ``skipc trace`` and for scripts.

The first line says what the file is; each further line is one call. A reader needs nothing but
``json``:

    {"format": "skipc.trace/2", "engine": "net.skipc", "ranked_by": "accuracy",
     "meter_estimated": false,
     "configurations": [{"name": "full", "rank": 0.95, "p50_ms": 8.0, "energy_mj": 80.0}, ...]}
    {"time_s": 0.012, "configuration": "full", "stage": 0, "stopped_by": "end",
     "latency_ms": 8.1, "predicted_ms": 9.4, "feasible": true, "binding": "", "limit_ms": 12.0,
     "budget": {"latency_ms": 12.0, "quantile": 0.99}, "energy_mj": 80.0, "metered_mj": null,
     "failure": "", "reason": "...", "route": ["full"], "units": {}, "mode": ""}

Whoever writes it may be stopped within a line. A last line that has no end and is not whole is
left out by the reader, which says so (``Trace.cut_short``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, ClassVar

from ..bundle.constraints import AtLeast, AtMost, OneOf, Place, Text
from ..bundle.records import parse_json, read, read_document, written
from ..errors import FormatError, choices_text, sentence
from ..governor.budget import MOST, Budget

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .record import CallRecord
    from .stats import EngineStats


@dataclass(frozen=True, slots=True)
class _Plausible:
    """A number that a sum of many stays finite with."""

    def check(self, value: float, place: Place) -> None:
        if abs(value) > MOST:
            raise FormatError(
                f"{place.where}: {place.key!r} is {value:g}. Expected at most {MOST:g}; the"
                " file was damaged, or not written by skipc."
            )


_BUDGET_KEYS = tuple(each.name for each in fields(Budget) if each.init)
STOPPED_BY = ("end", "test", "deadline")
"""What ends a call: see ``CallRecord``."""
Plausible = Annotated[float, _Plausible()]


@dataclass(frozen=True, slots=True)
class TracedConfiguration:
    """One configuration of a traced engine: its rank, its median latency as tabled.

    ``energy_mj`` is a call's energy as expected at the end; 0 if nothing was known.
    """

    name: str
    rank: Plausible
    p50_ms: Plausible
    energy_mj: Plausible


@dataclass(frozen=True, slots=True)
class TracedCall:
    """One call of a trace: what ``CallRecord`` has and tells, as a line of the file has it."""

    time_s: Plausible
    configuration: str
    stage: Annotated[int, AtLeast(0), AtMost(999)]
    stopped_by: Annotated[str, OneOf(STOPPED_BY)]
    latency_ms: Plausible
    predicted_ms: Plausible
    feasible: bool
    binding: Text
    limit_ms: float | None
    budget: Budget
    energy_mj: Plausible
    metered_mj: Plausible | None
    failure: Text
    reason: Text
    route: tuple[str, ...] = ()
    units: Mapping[str, Annotated[float, AtLeast(0), AtMost(1)]] = field(default_factory=dict)
    mode: Text = ""


_CALL_KEYS = tuple(each.name for each in fields(TracedCall))


@dataclass(frozen=True, slots=True)
class _Head:
    """The first line of a trace's file."""

    FORMAT: ClassVar[str] = "skipc.trace/2"

    engine: Text
    ranked_by: str
    configurations: tuple[TracedConfiguration, ...]
    meter_estimated: bool = False

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where a configuration is listed twice."""
        counts = Counter(each.name for each in self.configurations)
        twice = next((name for name, count in counts.items() if count > 1), None)
        if twice is not None:
            raise FormatError(
                f"{where}: the configuration {twice[:80]!r} is listed twice. Expected each"
                " once."
            )


@dataclass(frozen=True, slots=True)
class Trace(_Head):
    """The calls of an engine.

    Attributes:
        engine: What was traced, e.g. the bundle's name.
        ranked_by: What the ranks are: ``accuracy``, ``macs`` or ``rank``.
        configurations: The engine's configurations.
        meter_estimated: Whether ``metered_mj`` was not measured: a power taken for granted.
        calls: Oldest first, as they ended.
        cut_short: Whether the file ended within a line, whose call is missing here.
    """

    calls: tuple[TracedCall, ...] = ()
    cut_short: bool = False


def trace_of(engine: str, stats: EngineStats, records: Sequence[CallRecord]) -> Trace:
    """Returns the trace of an ``AdaptiveEngine``, by its ``stats()`` and its ``trace()``.

    ``engine`` is what to call it, e.g. the bundle's name.
    """
    return Trace(
        engine,
        stats.ranked_by,
        tuple(
            TracedConfiguration(each.configuration, each.rank, each.p50_ms, each.energy_mj)
            for each in stats.configurations
        ),
        stats.meter_estimated,
        tuple(TracedCall(*(getattr(each, key) for key in _CALL_KEYS)) for each in records),
    )


def trace_lines(trace: Trace) -> Iterator[str]:
    """Yields the lines of a trace's file, each with its line end."""
    head = _Head(trace.engine, trace.ranked_by, trace.configurations, trace.meter_estimated)
    yield _line(written(head))
    for call in trace.calls:
        document = {key: getattr(call, key) for key in _CALL_KEYS}
        granted = ((key, getattr(call.budget, key)) for key in _BUDGET_KEYS)
        document["units"] = dict(call.units)
        document["budget"] = {key: value for key, value in granted if value is not None}
        yield _line(document)


def _line(document: dict[str, object]) -> str:
    return json.dumps(document, allow_nan=False) + "\n"


def read_trace(path: Path) -> Trace:
    """Returns the trace in ``path``.

    Raises:
        FormatError: The file cannot be read, or is no trace; the message names the line.
        VersionError: Its format is not ``skipc.trace/2``.
    """
    first, *rest = read_document(path).split(b"\n")
    if not first.strip():
        raise FormatError(
            f"{path}: its first line is empty. Expected a trace, whose first line says"
            f" {_Head.FORMAT!r}."
        )
    if not rest and _is_cut(first):
        raise FormatError(
            f"{path}: ends within its first line, so no call is in it. Whoever wrote it was"
            " stopped, or it is no trace. Trace again."
        )
    where = f"{path}: line 1"
    try:
        head = read(_Head, parse_json(first, where), where)
    except FormatError as cause:
        raise FormatError(
            f"{sentence(str(cause))} Expected a trace, as `trace_lines` gives it."
        ) from cause
    names = frozenset(each.name for each in head.configurations)
    cut_short = bool(rest) and _is_cut(rest[-1])
    if cut_short:
        rest.pop()
    calls = tuple(
        _call(line, f"{path}: line {number}", names)
        for number, line in enumerate(rest, 2)
        if line.strip()
    )
    return Trace(
        head.engine,
        head.ranked_by,
        head.configurations,
        head.meter_estimated,
        calls,
        cut_short,
    )


def _is_cut(last: bytes) -> bool:
    """Tells whether what follows the last line end is the beginning of a line."""
    if not last.lstrip().startswith(b"{"):
        return False  # nothing, or something else, which is an error and not a crash
    try:
        json.loads(last)
    except (ValueError, RecursionError):
        return True
    return False


def _call(line: bytes, where: str, names: frozenset[str]) -> TracedCall:
    call = read(TracedCall, parse_json(line, where), where)
    if call.configuration not in names:
        name = call.configuration[:80]
        raise FormatError(
            f"{where}: the configuration {name!r} is not listed in line 1."
            f" {choices_text(name, names)}"
        )
    return call

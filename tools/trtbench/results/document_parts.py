"""Parts of the document ``skipc.trtbench/1``: memory, phases, how calls were made."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from skipc.runtime.backends.phases import LoadTimes, Wait, Way
from skipc.runtime.errors import FormatError, choices_text
from skipc.tools.trtbench.results.summary import Percentile
from skipc.tools.trtbench.running.memory import DeviceShare, Memory, Share
from skipc.tools.trtbench.running.phases import PhaseSummary, Times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime.bundle.records import Record

_PHASES = ("runs", "graph", "latency", "enqueue", "h2d", "compute", "d2h")
_TIMES = ("min_ms", "mean_ms", "median_ms", "max_ms")


def way_json(way: Way | None) -> object:
    """Returns how calls were made, for the regime."""
    if way is None:
        return None
    return {"graph": way.graph, "transfers": way.transfers, "wait": way.wait.value}


def read_way(regime: Record) -> Way | None:
    """Returns what ``way_json`` wrote under ``way``.

    Raises:
        FormatError: It is something else.
    """
    record = regime.optional_record("way", "graph", "transfers", "wait")
    if record is None:
        return None
    waits = {wait.value: wait for wait in Wait}
    text = record.text("wait")
    if text not in waits:
        raise FormatError(f"{record.where}: 'wait' is {text!r}. {choices_text(text, waits)}")
    return Way(record.boolean("graph"), record.boolean("transfers"), waits[text])


def memory_json(memory: Memory) -> object:
    """Returns a configuration's memory."""
    return asdict(memory)


def read_memory(entry: Record) -> Memory:
    """Returns what ``memory_json`` wrote under ``memory``.

    Raises:
        FormatError: It is something else.
    """
    record = entry.record("memory", "disk", "host", "device")
    share = ("own_bytes", "shared_bytes")
    host = record.optional_record("host", *share)
    device = record.record("device", *share, "taken_bytes")
    return Memory(
        _share(record.record("disk", *share)),
        None if host is None else _share(host),
        DeviceShare(
            device.integer("own_bytes"),
            device.integer("shared_bytes"),
            device.integer("taken_bytes"),
        ),
    )


def load_parts_json(parts: LoadTimes | None) -> object:
    """Returns the parts of a load."""
    return None if parts is None else asdict(parts)


def read_load_parts(entry: Record) -> LoadTimes | None:
    """Returns what ``load_parts_json`` wrote under ``load_parts``.

    Raises:
        FormatError: It is something else.
    """
    record = entry.optional_record("load_parts", "deserialize_ms", "refit_ms")
    if record is None:
        return None
    return LoadTimes(
        _time_ms(record, "deserialize_ms"),
        None if record.optional_number("refit_ms") is None else _time_ms(record, "refit_ms"),
    )


def phases_json(phases: PhaseSummary | None) -> object:
    """Returns the summary of a configuration's phases."""
    if phases is None:
        return None
    return {
        "runs": phases.runs,
        "graph": phases.graph,
        "latency": _times_json(phases.latency),
        "enqueue": _times_json(phases.enqueue),
        "h2d": None if phases.h2d is None else _times_json(phases.h2d),
        "compute": _times_json(phases.compute),
        "d2h": None if phases.d2h is None else _times_json(phases.d2h),
    }


def read_phases(entry: Record) -> PhaseSummary | None:
    """Returns what ``phases_json`` wrote under ``phases``.

    Raises:
        FormatError: It is something else.
    """
    record = entry.optional_record("phases", *_PHASES)
    if record is None:
        return None
    keys = (*_TIMES, "percentiles_ms")
    h2d, d2h = (record.optional_record(name, *keys) for name in ("h2d", "d2h"))
    return PhaseSummary(
        runs=record.integer("runs", 1),
        graph=record.boolean("graph"),
        latency=_times(record.record("latency", *keys)),
        enqueue=_times(record.record("enqueue", *keys)),
        h2d=None if h2d is None else _times(h2d),
        compute=_times(record.record("compute", *keys)),
        d2h=None if d2h is None else _times(d2h),
    )


def percentiles_json(percentiles: Sequence[Percentile]) -> dict[str, float]:
    """Returns percentiles, milliseconds by percent."""
    return {f"{p.percent:.12g}": p.ms for p in percentiles}


def read_percentiles(record: Record) -> tuple[Percentile, ...]:
    """Returns what ``percentiles_json`` wrote under ``percentiles_ms``.

    Raises:
        FormatError: A key is no percentile, a value no number.
    """
    found = []
    for name, ms in record.numbers("percentiles_ms").items():
        try:
            percent = float(name)
        except ValueError:
            percent = -1.0
        if not 0 <= percent <= 100:
            raise FormatError(
                f"{record.where}: percentiles_ms: {name[:40]!r} is no percentile: expected a"
                " number from 0 to 100."
            )
        found.append(Percentile(percent, ms))
    return tuple(found)


def _share(record: Record) -> Share:
    return Share(record.integer("own_bytes"), record.integer("shared_bytes"))


def _times_json(times: Times) -> dict[str, object]:
    shown: dict[str, object] = {name: getattr(times, name) for name in _TIMES}
    return {**shown, "percentiles_ms": percentiles_json(times.percentiles)}


def _times(record: Record) -> Times:
    shown_ms = {name: _time_ms(record, name) for name in _TIMES}
    return Times(**shown_ms, percentiles=read_percentiles(record))


def _time_ms(record: Record, key: str) -> float:
    """Returns a time; 0 is one, below what the clock resolves."""
    ms = record.number(key)
    if ms < 0:
        raise FormatError(f"{record.where}: {key!r} is {ms:g}, expected a number from 0 on.")
    return ms

"""The document ``skipc.trtbench/1``, written and strictly read.

docs/trtbench.md says what its keys mean.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from skipc.runtime.bundle.records import Record, check_format, read_json
from skipc.runtime.errors import FormatError
from skipc.tools.trtbench.baselines.document import baselines_json, read_baselines
from skipc.tools.trtbench.results.document_parts import (
    load_parts_json,
    memory_json,
    percentiles_json,
    phases_json,
    read_load_parts,
    read_memory,
    read_percentiles,
    read_phases,
    read_way,
    way_json,
)
from skipc.tools.trtbench.results.report import Measured, MeterInfo, Regime, Report
from skipc.tools.trtbench.results.summary import MOST_BATCHES, Summary
from skipc.tools.trtbench.running.conditions import Conditions
from skipc.tools.trtbench.running.energy import Energy
from skipc.tools.trtbench.running.loop import Stop
from skipc.tools.trtbench.running.switching import Switching

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = "skipc.trtbench/1"

_REPORT = (
    *("format", "regime", "reference", "configurations", "ratios", "switching"),
    "baselines",
)
_REGIME = (
    *("created_utc", "bundle", "manifest_sha256", "backend", "target", "threads"),
    *("device", "power_mode", "before", "after"),
    *("versions", "inputs", "cases", "warm_up_ms", "duration_s", "iterations"),
    "streams",
    *("warm_up_rounds", "meter", "way"),
)
_CONFIGURATION = (
    *("name", "accuracy", "memory", "load_ms", "load_parts", "first_call_ms"),
    *("latency", "phases", "energy"),
)
_TIMES = (
    *("total_ms", "min_ms", "max_ms", "mean_ms", "median_ms"),
    *("lowest_average_ms", "highest_average_ms"),
)
_LATENCY = (
    *("runs", "throughput_per_s", *_TIMES, "percentiles_ms", "coefficient_of_variation"),
    "batch_medians_ms",
)


def document(report: Report) -> dict[str, object]:
    """Returns the JSON document of a report, format line first."""
    regime, stop = report.regime, report.regime.stop
    switching = report.switching
    return {
        "format": FORMAT,
        "regime": {
            "created_utc": regime.created_utc,
            "bundle": regime.bundle,
            "manifest_sha256": regime.manifest_sha256,
            "backend": regime.backend,
            "target": regime.target,
            "threads": regime.threads,
            "device": regime.device,
            "power_mode": regime.power_mode,
            "before": asdict(regime.before),
            "after": asdict(regime.after),
            "versions": dict(regime.versions),
            "inputs": dict(regime.inputs),
            "cases": regime.cases,
            "warm_up_ms": stop.warm_up_ms,
            "duration_s": stop.duration_s,
            "iterations": stop.iterations,
            "streams": regime.streams,
            "warm_up_rounds": regime.warm_up_rounds,
            "meter": None
            if regime.meter is None
            else {
                "name": regime.meter.name,
                "covers": regime.meter.covers,
                "estimated": regime.meter.estimated,
            },
            "way": way_json(regime.way),
        },
        "reference": report.reference,
        "configurations": [_measured_json(entry) for entry in report.configurations],
        "ratios": [
            {
                "configuration": ratio.configuration,
                "ratio": ratio.interval.ratio,
                "low": ratio.interval.low,
                "high": ratio.interval.high,
                "accuracy_drop": ratio.accuracy_drop,
            }
            for ratio in report.ratios()
        ],
        "switching": None
        if switching is None
        else {
            "repeats": switching.repeats,
            "steady_ms": dict(switching.steady_ms),
            "first_ms": {name: dict(row) for name, row in switching.first_ms.items()},
            "ratios": switching.ratios(),
        },
        "baselines": baselines_json(report, _summary_json),
    }


def encoded(report: Report) -> bytes:
    """Returns the document as it is written to a file."""
    return (json.dumps(document(report), indent=1, allow_nan=False) + "\n").encode()


def read_report(path: Path) -> Report:
    """Returns the report that ``--json`` wrote to ``path``.

    What follows from other values (throughput, ratios) is computed again, not read.

    Raises:
        VersionError: It is of another version of the format.
        FormatError: It cannot be read, or is not as docs/trtbench.md says.
    """
    where = str(path)
    value = read_json(path)
    check_format(value, FORMAT, where)
    doc = Record(value, where, _REPORT)
    doc.items("ratios")
    entries = tuple(_measured(r) for r in doc.records("configurations", *_CONFIGURATION))
    names = [entry.name for entry in entries]
    reference = doc.text("reference")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"{where}: the configuration {twice!r} is given twice.")
    if reference not in names:
        raise FormatError(f"{where}: 'reference' is {reference!r}, which is none of {names}.")
    batches = {len(e.latency.batch_medians_ms) for e in entries if e.latency is not None}
    timed = sum(entry.latency is not None for entry in entries)
    if len(batches) > 1 or timed not in (0, len(entries)):
        raise FormatError(
            f"{where}: the configurations' 'batch_medians_ms' differ in number, but all were"
            " measured in the same rounds."
        )
    latencies = {entry.name: entry.latency for entry in entries}
    baselines = read_baselines(doc, latencies, _latency)
    return Report(_regime(doc), reference, entries, _switching(doc, names), baselines)


def _measured_json(entry: Measured) -> dict[str, object]:
    return {
        "name": entry.name,
        "accuracy": entry.accuracy,
        "memory": memory_json(entry.memory),
        "load_ms": entry.load_ms,
        "load_parts": load_parts_json(entry.load_parts),
        "first_call_ms": entry.first_call_ms,
        "latency": None if entry.latency is None else _summary_json(entry.latency),
        "phases": phases_json(entry.phases),
        "energy": None
        if entry.energy is None
        else {
            "mean_mj": entry.energy.mean_mj,
            "spread_mj": entry.energy.spread_mj,
            "windows_mj": list(entry.energy.windows_mj),
        },
    }


def _summary_json(latency: Summary) -> dict[str, object]:
    return {
        "runs": latency.runs,
        "throughput_per_s": latency.throughput_per_s,
        **{name: getattr(latency, name) for name in _TIMES},
        "percentiles_ms": percentiles_json(latency.percentiles),
        "coefficient_of_variation": latency.variation,
        "batch_medians_ms": list(latency.batch_medians_ms),
    }


def _regime(doc: Record) -> Regime:
    record = doc.record("regime", *_REGIME)
    meter = record.optional_record("meter", "name", "covers", "estimated")
    return Regime(
        created_utc=record.text("created_utc"),
        bundle=record.text("bundle"),
        manifest_sha256=record.sha256("manifest_sha256"),
        backend=record.text("backend"),
        target=record.text("target"),
        threads=record.integer("threads", 1),
        device=record.text("device"),
        power_mode=record.optional_text("power_mode"),
        before=_conditions(record, "before"),
        after=_conditions(record, "after"),
        versions=record.strings("versions"),
        inputs=record.strings("inputs"),
        cases=record.integer("cases", 1),
        stop=Stop(
            record.number("warm_up_ms"),
            record.number("duration_s"),
            record.integer("iterations", 1),
        ),
        streams=record.integer("streams", 1),
        warm_up_rounds=record.integer("warm_up_rounds"),
        meter=None
        if meter is None
        else MeterInfo(meter.text("name"), meter.text("covers"), meter.boolean("estimated")),
        way=read_way(record),
    )


def _conditions(record: Record, key: str) -> Conditions:
    names = tuple(Conditions.__dataclass_fields__)
    found = record.record(key, *names)
    return Conditions(**{name: found.optional_number(name) for name in names})


def _measured(record: Record) -> Measured:
    energy = record.optional_record("energy", "mean_mj", "spread_mj", "windows_mj")
    return Measured(
        name=record.text("name"),
        accuracy=record.optional_number("accuracy"),
        memory=read_memory(record),
        load_ms=record.positive("load_ms"),
        load_parts=read_load_parts(record),
        first_call_ms=record.positive("first_call_ms"),
        latency=_latency(record),
        phases=read_phases(record),
        energy=None if energy is None else Energy(_positives(energy, "windows_mj")),
    )


def _latency(record: Record) -> Summary | None:
    latency = record.optional_record("latency", *_LATENCY)
    return None if latency is None else _summary(latency)


def _summary(record: Record) -> Summary:
    medians_ms = _positives(record, "batch_medians_ms")
    runs = record.integer("runs", 1)
    if len(medians_ms) != min(runs, MOST_BATCHES):
        raise FormatError(
            f"{record.where}: {runs} runs make {min(runs, MOST_BATCHES)} of"
            f" 'batch_medians_ms', found {len(medians_ms)}."
        )
    times_ms = {name: record.positive(name) for name in _TIMES}
    return Summary(
        runs=runs,
        **times_ms,
        percentiles=read_percentiles(record),
        variation=record.number("coefficient_of_variation"),
        batch_medians_ms=medians_ms,
    )


def _positives(record: Record, key: str) -> tuple[float, ...]:
    """Returns the list of numbers above zero under ``key``, at least one."""
    items = record.items(key)
    if not items:
        raise FormatError(f"{record.where}: {key!r} is empty, expected numbers above zero.")
    names = [f"{key}[{index}]" for index in range(len(items))]
    inner = Record(dict(zip(names, items, strict=True)), record.where, tuple(names))
    return tuple(inner.positive(name) for name in names)


def _switching(doc: Record, names: list[str]) -> Switching | None:
    record = doc.optional_record("switching", "repeats", "steady_ms", "first_ms", "ratios")
    if record is None:
        return None
    record.record("ratios", *names)
    rows = record.record("first_ms", *names)
    steady = record.record("steady_ms", *names)
    first_ms: dict[str, Mapping[str, float]] = {}
    for name in names:
        others = [other for other in names if other != name]
        row = rows.record(name, *others)
        first_ms[name] = {other: row.positive(other) for other in others}
    return Switching(
        record.integer("repeats", 1), {name: steady.positive(name) for name in names}, first_ms
    )

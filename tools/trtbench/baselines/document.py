"""The key ``baselines`` of ``skipc.trtbench/1``, written and strictly read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime.errors import FormatError, choices_text
from skipc.tools.trtbench.baselines.found import BaselineCalls, BaselineFound
from skipc.tools.trtbench.baselines.registry import BASELINES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skipc.runtime.bundle.records import Record
    from skipc.tools.trtbench.results.report import Report
    from skipc.tools.trtbench.results.summary import Summary

_CALLS = (
    "configuration",
    "load_ms",
    "first_call_ms",
    "relative_error",
    "latency",
    "over_ours",
)


def baselines_json(
    report: Report, summary_json: Callable[[Summary], dict[str, object]]
) -> list[dict[str, object]]:
    """Returns what is written of the report's baselines.

    Args:
        report: The report.
        summary_json: Gives what is written of latencies.
    """
    return [
        {
            "name": each.name,
            "not_run": each.not_run,
            "configurations": [
                {
                    "configuration": calls.configuration,
                    "load_ms": calls.load_ms,
                    "first_call_ms": calls.first_call_ms,
                    "relative_error": calls.relative_error,
                    "latency": None if calls.latency is None else summary_json(calls.latency),
                    "over_ours": _over_json(calls, report),
                }
                for calls in each.configurations
            ],
        }
        for each in report.baselines
    ]


def read_baselines(
    doc: Record,
    latencies: dict[str, Summary | None],
    read_latency: Callable[[Record], Summary | None],
) -> tuple[BaselineFound, ...]:
    """Returns the baselines of a report; ``over_ours`` is computed again, not read.

    Args:
        doc: The document.
        latencies: Those of the engines by configuration.
        read_latency: Reads the key ``latency`` of a record.

    Raises:
        FormatError: They are not as docs/trtbench.md says.
    """
    found = []
    for record in doc.records("baselines", "name", "not_run", "configurations"):
        calls = tuple(
            _calls(entry, latencies, read_latency)
            for entry in record.records("configurations", *_CALLS)
        )
        not_run = record.optional_text("not_run")
        names = [each.configuration for each in calls]
        expected = [] if not_run else list(latencies)
        if names != expected:
            raise FormatError(
                f"{record.where}: 'configurations' are {names}, expected {expected}: all of"
                " the report where it was run, none where it was not."
            )
        found.append(BaselineFound(record.text("name"), not_run, calls))
    _check_names(doc, [each.name for each in found])
    return tuple(found)


def _over_json(calls: BaselineCalls, report: Report) -> dict[str, object] | None:
    over = calls.over(report.measured(calls.configuration).latency)
    if over is None:
        return None
    return {"ratio": over.ratio, "low": over.low, "high": over.high}


def _calls(
    record: Record,
    latencies: dict[str, Summary | None],
    read_latency: Callable[[Record], Summary | None],
) -> BaselineCalls:
    record.optional_record("over_ours", "ratio", "low", "high")
    load_ms = record.optional_number("load_ms")
    if load_ms is not None:
        record.positive("load_ms")
    name = record.text("configuration")
    latency = read_latency(record)
    ours = latencies.get(name)
    if (latency is None) != (ours is None) or (
        latency is not None
        and ours is not None
        and len(latency.batch_medians_ms) != len(ours.batch_medians_ms)
    ):
        raise FormatError(
            f"{record.where}: its 'latency' does not hold the rounds of {name!r}, but both"
            " were measured in the same ones."
        )
    return BaselineCalls(
        configuration=name,
        load_ms=load_ms,
        first_call_ms=record.positive("first_call_ms"),
        relative_error=_not_negative(record, "relative_error"),
        latency=latency,
    )


def _not_negative(record: Record, key: str) -> float:
    value = record.number(key)
    if value < 0:
        raise FormatError(f"{record.where}: {key!r} must be 0 or more, found {value:g}.")
    return value


def _check_names(doc: Record, names: Sequence[str]) -> None:
    for name in names:
        if name not in BASELINES:
            raise FormatError(
                f"{doc.where}: there is no baseline {name[:40]!r}."
                f" {choices_text(name[:40], BASELINES)}"
            )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FormatError(f"{doc.where}: the baseline {twice!r} is given twice.")

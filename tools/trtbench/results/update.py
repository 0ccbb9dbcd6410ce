"""``--update``: the results as the device's table in the bundle, which the governor uses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from skipc.compiler.bundle.files import write_whole
from skipc.runtime.bundle.contained import inside
from skipc.runtime.bundle.device import Device
from skipc.runtime.bundle.measured import FOLDER, MeasuredTable, Row, table_key
from skipc.runtime.load.opening import NULL_TARGET
from skipc.tools.console import plural
from skipc.tools.trtbench.results.summary import summarize
from skipc.tools.trtbench.running.cases import are_typical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from skipc.runtime import Bundle
    from skipc.runtime.backends import Arrays
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.tools.trtbench.measuring import Found
    from skipc.tools.trtbench.results.report import Report
    from skipc.tools.trtbench.running.loop import Calls
    from skipc.tools.trtbench.wanted import Wanted

LEAST_ITERATIONS = 10
"""Fewer calls say nothing of a 95th percentile."""
_QUANTILES = (95.0, 99.0)


def check_update(
    bundle: Bundle,
    target: str | None,
    names: Sequence[str],
    cases: Sequence[Arrays],
    wanted: Wanted,
) -> None:
    """Raises unless what was asked for makes a table that stands for every call.

    Args:
        bundle: What is to be measured.
        target: Whose engines, as asked for.
        names: Which configurations of it.
        cases: The inputs.
        wanted: What else was asked for.

    Raises:
        click.UsageError: It does not; the message says what to leave out or change.
    """
    if target == NULL_TARGET or wanted.loading_only:
        other = "--target null" if target == NULL_TARGET else "--timeDeserialize"
        raise click.UsageError(f"--update: with {other} no latency is measured.")
    iterations, streams = wanted.stop.iterations, wanted.streams
    if iterations < LEAST_ITERATIONS:
        raise click.UsageError(
            f"--update: a table needs {LEAST_ITERATIONS} calls of each configuration, or more;"
            f" --iterations is {iterations}."
        )
    if streams > 1:
        raise click.UsageError(
            f"--update writes what a call takes alone, not one of {streams}. Leave out"
            " --infStreams."
        )
    if wanted.baselines.names:
        raise click.UsageError(
            f"--update: with --baseline {','.join(wanted.baselines.names)} calls take turns"
            " with those of something else, and find its data in the caches. Leave one of them"
            " out."
        )
    if len(names) < len(bundle.manifest.configurations):
        raise click.UsageError(
            "--update writes a table of all configurations. Leave out --configurations."
        )
    if not are_typical(bundle, cases):
        raise click.UsageError(
            "--update writes the table of the typical batch. Give inputs of that size, or"
            " none; `skipc show` names it."
        )


def update_text(path: Path, report: Report) -> str:
    """Returns what is said of a table that was written to ``path``."""
    regime = report.regime
    mode = f", {regime.power_mode}" if regime.power_mode else ""
    meter = regime.meter
    energy = (
        " Energies are left out: they were estimated." if meter and meter.estimated else ""
    )
    return (
        f"Written: {path}. With {plural(regime.threads, 'thread')} on this device"
        f" ({regime.device}{mode}) AdaptiveEngine starts from these latencies.{energy}"
    )


def measured_table(bundle: Bundle, engines: EngineSet, found: Found) -> MeasuredTable:
    """Returns what was found, as a table of the bundle.

    Energies are taken where a meter measured them, not where they are estimated.

    Args:
        bundle: What was measured, all configurations of it.
        engines: The engines that ran.
        found: What was found; with latencies.
    """
    regime = found.report.regime
    meter = regime.meter
    measured = meter is not None and not meter.estimated
    rows = []
    for entry in found.report.configurations:
        energy = entry.energy if measured else None
        p50_ms, p95_ms, p99_ms = _quantiles_ms(found.calls, entry.name)
        rows.append(
            Row(
                configuration=entry.name,
                p50_ms=p50_ms,
                p95_ms=p95_ms,
                p99_ms=p99_ms,
                runs=len(found.calls[entry.name].starts_ns),
                energy_mj=None if energy is None else energy.mean_mj,
                energy_spread_mj=None if energy is None else energy.spread_mj,
            )
        )
    return MeasuredTable(
        key=table_key(
            bundle, engines, Device(regime.device, regime.power_mode), regime.threads
        ),
        created_utc=regime.created_utc,
        versions=dict(regime.versions),
        meter=meter.name if measured and meter is not None else "",
        rows=tuple(rows),
    )


def write_table(bundle: Bundle, table: MeasuredTable) -> Path:
    """Writes a table into its bundle and returns its place; replaces the one of its key.

    Raises:
        IntegrityError: Its place lies outside of the bundle.
        OSError: It cannot be written.
    """
    inside(bundle.path, FOLDER).mkdir(exist_ok=True)
    path = inside(bundle.path, table.key.path())
    write_whole(path, (json.dumps(table.to_json(), indent=1) + "\n").encode())
    return path


def _quantiles_ms(
    calls: Mapping[str, Calls], configuration: str
) -> tuple[float, float, float]:
    latency = summarize(calls[configuration].latencies_ms, _QUANTILES, 1)
    p95, p99 = latency.percentiles
    return latency.median_ms, p95.ms, p99.ms

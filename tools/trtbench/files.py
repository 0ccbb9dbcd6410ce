"""The files that ``trtbench`` writes: results, ``trtexec``'s two, and the device's table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import numpy as np

from skipc.compiler.bundle.files import write_json
from skipc.runtime.bundle.contained import inside
from skipc.runtime.bundle.device import Device
from skipc.runtime.bundle.measured import FOLDER, MeasuredTable, Row, table_key
from skipc.runtime.bundle.records import written
from skipc.tools.console import plural, print_json
from skipc.tools.options import check_place
from skipc.tools.trtbench.latency import percentile_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skipc.runtime import Bundle
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.tools.trtbench.command import Asked
    from skipc.tools.trtbench.loop import Calls
    from skipc.tools.trtbench.measuring import Found
    from skipc.tools.trtbench.probes import PhasedCalls, Profile

STDOUT = Path("-")
"""Where ``--json`` writes to standard output."""


def check_places(asked: Asked) -> None:
    """Raises ``click.UsageError`` where nothing could be written."""
    named = {
        "--json": None if asked.as_json == STDOUT else asked.as_json,
        "--exportTimes": asked.times,
        "--exportProfile": asked.profile,
    }
    places = {option: path for option, path in named.items() if path is not None}
    for option, path in places.items():
        if path == STDOUT:
            raise click.UsageError(f"{option} -: this may be several files. Name one.")
        check_place(option, path)
    if len({path.absolute() for path in places.values()}) < len(places):
        raise click.UsageError(
            "--json, --exportTimes and --exportProfile name one file for two things. Name a"
            " file for each."
        )


def write_files(asked: Asked, found: Found) -> list[Path]:
    """Writes what was found; returns the files, in the order of writing."""
    documents: dict[Path, object] = {}
    if asked.as_json == STDOUT:
        print_json(written(found.report))
    elif asked.as_json is not None:
        documents[asked.as_json] = written(found.report)
    if asked.times is not None:
        phased, calls = found.timed.phased, found.timed.trace.calls
        names = [entry.name for entry in found.report.configurations]
        for name, path in _paths(asked.times, names).items():
            documents[path] = _times(phased.get(name) or _as_phases(calls[name]))
    if asked.profile is not None:
        for name, path in _paths(asked.profile, [*found.profiles]).items():
            documents[path] = _profile(found.profiles[name])
    for path, document in documents.items():
        write_json(path, document)
    return [*documents]


def _paths(path: Path, names: Sequence[str]) -> dict[str, Path]:
    """Returns each one's file, ``times.fast.json`` for ``times.json``; one alone has it."""
    if len(names) == 1:
        return {names[0]: path}
    places = {name: f"{path.stem}.{quote(name, safe='')}{path.suffix}" for name in names}
    return {name: path.with_name(place) for name, place in places.items()}


def _as_phases(calls: Calls) -> PhasedCalls:
    """Returns the calls of a CPU as calls taken apart: nothing is enqueued or moved."""
    starts_ns, none = calls.starts_ns.astype(np.float64), np.zeros(len(calls.starts_ns))
    return {
        **dict.fromkeys(("start_ns", "enqueue_start_ns", "enqueue_end_ns"), starts_ns),
        **dict.fromkeys(("h2d_ms", "d2h_ms"), none),
        "compute_ms": (calls.ends_ns - calls.starts_ns) / 1e6,
    }


def _times(calls: PhasedCalls) -> list[dict[str, float]]:
    """Returns the file of ``--exportTimes``: an object for each call, times in ms.

    Enqueueing is on the host's clock. The device's phases are put on it by taking the first
    event of a call, recorded on an idle stream, as passed when the call began.
    """
    start_ms = calls["start_ns"] / 1e6
    computing_ms = start_ms + calls["h2d_ms"]
    computed_ms = computing_ms + calls["compute_ms"]
    columns: dict[str, NDArray[np.float64]] = {
        "startEnqMs": calls["enqueue_start_ns"] / 1e6,
        "endEnqMs": calls["enqueue_end_ns"] / 1e6,
        "startH2dMs": start_ms,
        "endH2dMs": computing_ms,
        "startComputeMs": computing_ms,
        "endComputeMs": computed_ms,
        "startD2hMs": computed_ms,
        "endD2hMs": computed_ms + calls["d2h_ms"],
        "h2dMs": calls["h2d_ms"],
        "computeMs": calls["compute_ms"],
        "d2hMs": calls["d2h_ms"],
        "latencyMs": calls["h2d_ms"] + calls["compute_ms"] + calls["d2h_ms"],
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _profile(profile: Profile) -> list[dict[str, object]]:
    """Returns the file of ``--exportProfile``, in the form that ``trtexec`` writes."""
    all_ms = float(sum(ms.sum() for ms in profile.values())) or 1.0
    layers: list[dict[str, object]] = [
        {
            "name": layer,
            "timeMs": float(ms.sum()),
            "averageMs": float(ms.mean()),
            "medianMs": float(np.median(ms)),
            "percentage": 100 * float(ms.sum()) / all_ms,
        }
        for layer, ms in profile.items()
    ]
    return [{"count": len(next(iter(profile.values())))}, *layers]


def write_table(bundle: Bundle, engines: EngineSet, found: Found) -> str:
    """Writes what was found as the device's table, and returns what is said of it.

    Energies are taken where a meter measured them, not where they are estimated. The table of
    the same device, engines and threads is replaced.

    Raises:
        IntegrityError: Its place lies outside of the bundle.
        OSError: It cannot be written.
    """
    regime = found.report.regime
    measured = None if regime.meter is None or regime.meter.estimated else regime.meter
    rows: dict[str, Row] = {}
    for entry in found.report.configurations:
        graph = bundle.manifest.configuration(entry.name).only_graph
        if graph is None or graph in rows:
            continue  # a row is of an engine: routes of several are made of theirs
        ordered_ms = np.sort(found.timed.trace.calls[entry.name].latencies_ms)
        energy = None if measured is None else entry.energy
        rows[graph] = Row(
            graph=graph,
            p50_ms=float(np.median(ordered_ms)),
            p95_ms=percentile_ms(ordered_ms, 95),
            p99_ms=percentile_ms(ordered_ms, 99),
            runs=len(ordered_ms),
            energy_mj=None if energy is None else energy.mean_mj,
            energy_spread_mj=None if energy is None else energy.spread_mj,
        )
    key = table_key(bundle, engines, Device(regime.device, regime.power_mode), regime.threads)
    meter = "" if measured is None else measured.name
    versions, created_utc = dict(regime.versions), regime.created_utc
    table = MeasuredTable(key, created_utc, versions, meter, tuple(rows.values()))
    inside(bundle.path, FOLDER).mkdir(exist_ok=True)
    path = inside(bundle.path, key.path())
    write_json(path, written(table))
    mode = f", {regime.power_mode}" if regime.power_mode else ""
    estimated = regime.meter is not None and measured is None
    left_out = " Energies are left out: they were estimated." if estimated else ""
    return (
        f"Written: {path}. With {plural(regime.threads, 'thread')} on this device"
        f" ({regime.device}{mode}) AdaptiveEngine starts from these latencies.{left_out}"
    )

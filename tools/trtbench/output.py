"""What ``trtbench`` prints and writes: tables, ``trtexec``'s two files, the device's table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import click
import numpy as np

from skipc.compiler.bundle.files import write_json
from skipc.runtime.bundle.contained import inside
from skipc.runtime.bundle.device import Device
from skipc.runtime.bundle.measured import FOLDER, MeasuredTable, Row, find_table, table_key
from skipc.runtime.bundle.records import written
from skipc.runtime.errors import BundleError
from skipc.tools.console import facts, plural, print_json, size_text, table
from skipc.tools.options import check_place
from skipc.tools.trtbench.compare import doubts
from skipc.tools.trtbench.latency import percentile_ms
from skipc.tools.trtbench.loop import MOST_ROUNDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from skipc.runtime import Bundle
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.bundle.measured import MeasuredMode
    from skipc.tools.trtbench.command import Asked
    from skipc.tools.trtbench.compare import Change, Comparison
    from skipc.tools.trtbench.latency import RatioInterval, Times
    from skipc.tools.trtbench.loop import Calls
    from skipc.tools.trtbench.measuring import Benchmark
    from skipc.tools.trtbench.probes import PhasedCalls, Profile
    from skipc.tools.trtbench.report import Decided, Measured, Report, Share, StageLatency

T = TypeVar("T")
Cells = Iterable[tuple[str, str | float | None]]
"""The columns of a row by title, numbers as ms; of those to the right it begins with ``>``."""

STDOUT = Path("-")
"""Where ``--json`` writes to standard output."""

_MOST_LAYERS = 15
_LONGEST_LAYER = 36
_PHASES = {"by events": "latency", "enqueue": "enqueue", "H2D": "h2d", "compute": "compute",
           "D2H": "d2h"}  # fmt: skip
_CONDITIONS = {"temperature_c": ("hottest zone", "C"), "cpu_mhz": ("CPU", "MHz"),
               "gpu_mhz": ("GPU", "MHz")}  # fmt: skip


def print_report(report: Report, out: Console) -> None:
    """Prints a report: regime, tables, warnings."""
    entries = {entry.name: entry for entry in report.configurations}
    regime, best = report.regime, entries[report.reference].accuracy
    _print_regime(report, out)
    _print_each(out, "latency, ms", entries, lambda one: _times(one.latency))
    _print_each(
        out, "\nconfiguration", entries, lambda one: _throughput(one, regime.average_runs)
    )
    for title, phase in _PHASES.items():
        found = {name: getattr(one.phases, phase, None) for name, one in entries.items()}
        _print_each(out, f"{title}, ms", found, _times)
    on_device = regime.way is not None
    _print_each(out, "\nconfiguration", entries, lambda one: _loading(one, on_device))
    _print_each(out, "memory", entries, _memory)
    for name, one in entries.items():
        stages = {str(number): stage for number, stage in enumerate(one.stages)}
        _print_each(out, f"stages of\n{name}", stages, _stage)
        if stages:
            out.print(
                f"{one.expected_ms:.4g} ms for a call where as many stop at each as the bundle"
                " says."
            )
        decided = {told.group: told for told in one.decided}
        _print_each(out, f"what ran in {name}\nof", decided, _decided)
    _print_each(out, f"over {report.reference}", entries, lambda one: _over(one, best))
    if report.switching is not None:
        before, after, ratio = report.switching.worst()
        out.print("Intervals hold what varies within this run; another start differs by more.")
        out.print(
            f"\nWorst switch: the first call of {after} after one of {before} takes"
            f" {ratio:.2f} of the median of its calls that follow."
        )
    if report.plain_not_run:
        out.print(f"\nThe baseline plain was not run: {report.plain_not_run}")
    _print_each(out, "\nplain sessions", entries, _plain)
    _print_each(out, "\nplain sessions", entries, _plain_loading)
    if (meter := regime.meter) is not None:
        kind = "energy, estimated" if meter.estimated else "energy"
        _print_each(out, kind, entries, _energy)
        out.print(f"What the meter {meter.name} covers: {meter.covers}.")
    for doubt in doubts(report):
        out.print(f"\nWarning: {doubt}")


def _times(one: Times | None) -> Cells:
    if one is not None:
        yield ">min", one.min_ms
        yield ">mean", one.mean_ms
        yield ">median", one.median_ms
        yield from ((f">{percent} %", ms) for percent, ms in one.percentiles_ms.items())
        yield ">max", one.max_ms


def _throughput(entry: Measured, average_runs: int) -> Cells:
    if (one := entry.latency) is not None:
        per_s = one.throughput_per_s
        yield ">\nruns", str(one.runs)
        yield ">throughput\nper s", f"{per_s:.4g}" if per_s < 1000 else f"{per_s:.0f}"
        yield ">\nvariation", f"{one.coefficient_of_variation:.1%}"
        yield f">averages of {average_runs}\nlowest", one.lowest_average_ms
        yield ">ms\nhighest", one.highest_average_ms


def _loading(one: Measured, on_device: bool) -> Cells:
    yield ">load\nms", one.load_ms
    yield ">first call\nms", one.first_call_ms
    if one.load_parts is not None:
        yield ">deserialise\nms", one.load_parts.deserialize_ms
        yield ">refit\nms", one.load_parts.refit_ms
    if on_device:
        yield ">device memory\ntaken", size_text(one.memory.device.taken_bytes)


def _memory(one: Measured) -> Cells:
    for place in ("disk", "host", "device"):
        share: Share | None = getattr(one.memory, place)
        yield f">on {place}\nown", None if share is None else size_text(share.own_bytes)
        yield ">\nshared", None if share is None else size_text(share.shared_bytes)


def _decided(one: Decided) -> Cells:
    yield ">\ninputs", str(one.inputs)
    yield from ((f">\n{unit}", f"{100 * share:.0f} %") for unit, share in one.ran.items())


def _stage(one: StageLatency) -> Cells:
    yield "\ngraph", one.graph
    yield ">\nanswered", f"{one.answered:.1%}"
    yield ">median\nms", one.latency.median_ms
    yield from ((f">\n{p} %", ms) for p, ms in one.latency.percentiles_ms.items())
    yield ">up to its end\nms", one.upto_ms


def _over(one: Measured, best: float | None) -> Cells:
    if (over := one.over_reference) is not None:
        yield ">latency", f"{over.ratio:.3f}"
        yield ">95 %", over.ends_text
        points = None
        if best is not None and one.accuracy is not None:
            points = f"{100 * (one.accuracy - best):+.2f} points"
        yield ">accuracy", points
        yield "", over.verdict()


def _plain(entry: Measured) -> Cells:
    one = entry.plain
    if one is not None and one.latency is not None and (over := one.over_ours) is not None:
        yield ">median\nms", one.latency.median_ms
        yield ">over\nours", f"{over.ratio:.3f}"
        yield ">\n95 %", over.ends_text
        yield "", who_is_faster(over)


def _plain_loading(entry: Measured) -> Cells:
    if (one := entry.plain) is not None:
        yield ">load\nms", one.load_ms
        yield ">first call\nms", one.first_call_ms
        yield ">outputs differ\nby", f"{one.relative_error:.2g}"


def _energy(entry: Measured) -> Cells:
    if (one := entry.energy) is not None:
        yield ">mJ per call", f"{one.mean_mj:.4g}"
        yield ">+-", None if one.spread_mj is None else f"{one.spread_mj:.2g}"
        yield ">windows", str(len(one.windows_mj))


def who_is_faster(over: RatioInterval) -> str:
    """Returns who is faster, of a plain session's latency over ours."""
    ours = {"slower": "ours is faster", "faster": "ours is slower"}
    return ours.get(over.verdict(), over.verdict())


def print_comparison(found: Comparison, out: Console) -> None:
    """Prints what changed between two reports."""
    for difference in found.differences:
        out.print(f"Not alike: {difference}")
    _print_each(out, "configuration", found.changes, _change)
    for name, one in found.changes.items():
        if one.unlike_its_median:
            out.print(
                f"\n{name}: its mean and its slowest calls changed otherwise than its"
                f" median: mean {_ms(one.old.mean_ms)} to {_ms(one.new.mean_ms)} ms, slowest"
                f" {_ms(one.old.max_ms)} to {_ms(one.new.max_ms)} ms."
            )
    if found.common_factor is not None:
        out.print(
            f"\nAll changed by about the same factor, {found.common_factor:.3f}: it may be the"
            " machine that changed (clock, heat, neighbours). Measure both again in turn."
        )
    out.print(
        "\nThe intervals hold what varies within a run. From one start of the program to the"
        " next more does; the margin (--margin) stands for that."
    )


def _change(one: Change) -> Cells:
    yield ">old ms", one.old.median_ms
    yield ">new ms", one.new.median_ms
    yield ">new/old", f"{one.interval.ratio:.3f}"
    yield ">95 %", one.interval.ends_text
    yield "verdict", one.verdict


def print_profile(graph: str, profile: Profile, out: Console) -> None:
    """Prints a graph's layers, as trtexec does, but the slowest first."""
    ordered = sorted(profile.items(), key=lambda layer: -layer[1].sum())
    calls, all_ms = len(ordered[0][1]), sum(ms.sum() for _, ms in ordered) or 1.0
    made = table(">Time(ms)", ">Avg.(ms)", ">Median(ms)", ">Time(%)", "Layer")

    def add(name: str, total_ms: float, median: str = "-") -> None:
        share, average = f"{100 * total_ms / all_ms:.1f}", f"{total_ms / calls:.4f}"
        made.add_row(f"{total_ms:.3f}", average, median, share, name)

    for name, times_ms in ordered[:_MOST_LAYERS]:
        add(_shortened(name), times_ms.sum(), f"{np.median(times_ms):.4f}")
    if rest := ordered[_MOST_LAYERS:]:
        add(f"the {len(rest)} others together", sum(ms.sum() for _, ms in rest))
    add("all layers", sum(ms.sum() for _, ms in ordered))
    told = f"{plural(calls, 'call')} in a run of its own, slower for being profiled"
    out.print(f"\n{graph}: {told}")
    out.print(made)


def _shortened(name: str) -> str:
    """Returns a layer's name that fits the table; the file has all of it."""
    half = (_LONGEST_LAYER - 1) // 2
    return name if len(name) <= _LONGEST_LAYER else f"{name[:half]}…{name[-half:]}"


def _print_regime(report: Report, out: Console) -> None:
    regime, stop, meter = report.regime, report.regime.stop, report.regime.meter
    runs = max((latency.runs for latency in report.timed.values()), default=0)
    before, after = asdict(regime.before), asdict(regime.after)
    changed = (
        f"{what} {before[key]:.0f} to {after[key]:.0f} {unit}"
        for key, (what, unit) in _CONDITIONS.items()
        if before[key] is not None and after[key] is not None
    )
    dropped, least = plural(regime.warm_up_rounds, "round"), plural(stop.iterations, "call")
    loop = f"alternating; warm-up {stop.warm_up_ms:g} ms ({dropped} dropped), at least"
    most = f", at most {MOST_ROUNDS} (reached)" if runs >= MOST_ROUNDS * regime.streams else ""
    kind = "estimated, nothing is measured" if meter and meter.estimated else "measured"
    threads, cases = plural(regime.threads, "thread"), plural(regime.cases, "case")
    inputs, versions = (
        ", ".join(f"{name} {text}" for name, text in told.items())
        for told in (regime.inputs, regime.versions)
    )
    out.print(regime.bundle, style="bold")
    out.print(
        facts(
            ("backend", f"{regime.backend}, target {regime.target}, {threads}"),
            ("a call", regime.call_text),
            ("phases", regime.phases_text if runs else ""),
            ("device", regime.device),
            ("power", regime.power_mode or "mode not told by this system"),
            ("meanwhile", ", ".join(changed)),
            ("versions", versions),
            ("inputs", f"{inputs}; {cases} in turn"),
            ("loop", f"{loop} {stop.duration_s:g} s and {least} each{most}" if runs else ""),
            ("streams", regime.streams_text),
            ("meter", f"{meter.name}: {meter.covers} ({kind})" if meter else "none"),
        )
    )


def _print_each(
    out: Console, title: str, entries: Mapping[str, T], cells: Callable[[T], Cells]
) -> None:
    """Prints a row for each entry that has cells; nothing where none has."""
    rows = {name: list(cells(one)) for name, one in entries.items()}
    filled = {name: row for name, row in rows.items() if row}
    if filled:
        made = table(title, *(column for column, _ in next(iter(filled.values()))))
        for name, row in filled.items():
            shown_row = (one if isinstance(one, str) else _ms(one) for _, one in row)
            made.add_row(name, *shown_row)
        out.print("\n", end="")
        out.print(made)


def _ms(value_ms: float | None) -> str:
    """Returns milliseconds with four digits, e.g. ``0.03214`` or ``12.35``."""
    if value_ms is None:
        return "-"
    return f"{value_ms:.0f}" if value_ms >= 1000 else f"{value_ms:.4g}"


def check_places(asked: Asked) -> None:
    """Raises ``click.UsageError`` where nothing could be written."""
    json = None if asked.as_json == STDOUT else asked.as_json
    places: list[Path] = []
    named = {"--json": json, "--exportTimes": asked.times, "--exportProfile": asked.profile}
    for option, path in named.items():
        if path is not None:
            if path == STDOUT:
                raise click.UsageError(f"{option} -: this may be several files. Name one.")
            check_place(option, path)
            places.append(path.absolute())
    if len({*places}) < len(places):
        raise click.UsageError(
            "--json, --exportTimes and --exportProfile name one file for two things. Name a"
            " file for each."
        )


def write_files(asked: Asked, found: Benchmark) -> list[Path]:
    """Writes what was found; returns the files, in the order of writing."""
    documents: dict[Path, object] = {}
    if asked.as_json == STDOUT:
        print_json(written(found.report))
    elif asked.as_json is not None:
        documents[asked.as_json] = written(found.report)
    if asked.times is not None:
        phased, calls = found.phased, found.calls
        names = [entry.name for entry in found.report.configurations]
        for name, path in _paths(asked.times, names).items():
            documents[path] = _calls_document(phased.get(name) or _as_phases(calls[name]))
    if asked.profile is not None:
        for name, path in _paths(asked.profile, [*found.profiles]).items():
            documents[path] = profile_document(found.profiles[name])
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


def _calls_document(calls: PhasedCalls) -> list[dict[str, float]]:
    """Returns the file of ``--exportTimes``: an object for each call, times in ms.

    Enqueueing is on the host's clock. The device's phases are put on it by taking the first
    event of a call, recorded on an idle stream, as passed when the call began.
    """
    start_ms = calls["start_ns"] / 1e6
    computing_ms = start_ms + calls["h2d_ms"]
    computed_ms = computing_ms + calls["compute_ms"]
    columns = {
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


def profile_document(profile: Profile) -> list[dict[str, object]]:
    """Returns the file of ``--exportProfile``, in the form that ``trtexec`` writes."""
    all_ms = sum(ms.sum() for ms in profile.values()) or 1.0
    layers: list[dict[str, object]] = [
        {
            "name": layer,
            "timeMs": float(ms.sum()),
            "averageMs": float(ms.mean()),
            "medianMs": float(np.median(ms)),
            "percentage": 100 * float(ms.sum() / all_ms),
        }
        for layer, ms in profile.items()
    ]
    return [{"count": len(next(iter(profile.values())))}, *layers]


def write_table(
    bundle: Bundle, engines: EngineSet, found: Benchmark, mode: MeasuredMode | None = None
) -> str:
    """Writes what was found as the device's table, and returns what is said of it.

    Energies are taken where a meter measured them, not where they are estimated. The table of
    the same device, engines and threads is replaced; without a ``mode`` of its own this one
    is of the mode that the other was, in which the device still is.

    Raises:
        IntegrityError: Its place lies outside of the bundle.
    """
    regime, rows = found.report.regime, []
    estimated = regime.meter is not None and regime.meter.estimated
    for graph in bundle.manifest.graphs:
        name = found.name_of(graph.name)
        ordered_ms = np.sort(found.calls[name].latencies_ms)
        energy = None if estimated else found.energies.get(name)
        rows.append(
            Row(
                graph=graph.name,
                p50_ms=float(np.median(ordered_ms)),
                p95_ms=percentile_ms(ordered_ms, 95),
                p99_ms=percentile_ms(ordered_ms, 99),
                runs=len(ordered_ms),
                energy_mj=None if energy is None else energy.mean_mj,
                energy_spread_mj=None if energy is None else energy.spread_mj,
            )
        )
    key = table_key(bundle, engines, Device(regime.device, regime.power_mode), regime.threads)
    meter = "" if regime.meter is None or estimated else regime.meter.name
    with suppress(BundleError):  # a damaged one says nothing
        replaced = find_table(bundle, key)
        mode = mode or (replaced.mode if replaced else None)
    made = MeasuredTable(key, regime.created_utc, regime.versions, meter, tuple(rows), mode)
    inside(bundle.path, FOLDER).mkdir(exist_ok=True)
    path = inside(bundle.path, key.path())
    write_json(path, written(made))
    told = f", {regime.power_mode}" if regime.power_mode else ""
    left_out = " Energies are left out: they were estimated." if estimated else ""
    return (
        f"Written: {path}. With {plural(regime.threads, 'thread')} on this device"
        f" ({regime.device}{told}) AdaptiveEngine starts from these latencies.{left_out}"
    )

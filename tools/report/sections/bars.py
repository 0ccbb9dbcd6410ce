"""What a configuration takes besides time: memory by place, the phases of a call, energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from skipc.tools.console import short, size_text
from skipc.tools.report.sections.marks import Column, bar_chart, colours_of, pattern, tick
from skipc.tools.report.texts import NOTHING, exact, number
from skipc.tools.trtbench.report import DeviceShare
from skipc.tools.web.chart import axis, hover, hovering, row_chart
from skipc.tools.web.html import Html, Table, element, joined
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skipc.tools.report.study import Found, Study
    from skipc.tools.trtbench.report import Energy, Memory, PhaseSummary, Share
    from skipc.tools.web.chart import Chart, Trace


class _Place(NamedTuple):
    """Where memory is taken, and what is said where there is nothing to draw."""

    name: str
    words: str
    caption: str
    share: Callable[[Memory], Share | DeviceShare | None]
    nothing: str


_PLACES = (
    _Place(
        "disk",
        "weights on disk",
        "Own: weights of the engine that no other configuration uses; a plan with its weights"
        " inside counts as a whole. Shared: weights that others use, too.",
        lambda memory: memory.disk,
        "no weights on disk.",
    ),
    _Place(
        "host",
        "memory on the host",
        "Own: what the process grew by (PSS) while the engine was loaded and called once. A"
        " page of shared weights counts for the engine that touches it first, which is the"
        " first one loaded. Shared: what the process grew by while the backend was opened,"
        " before any engine; mostly its library. What a configuration would take alone is not"
        " shown; of small networks this is mostly the allocator's and the interpreter's. What"
        " shrank is shown as 0.",
        lambda memory: memory.host,
        "memory on the host is not drawn: the system did not tell it (null in the file).",
    ),
    _Place(
        "device",
        "memory on the device",
        "Own: what the loaded engine takes, shared: the workspace that it needs, both as the"
        " bundle lists them; engines that take turns have one workspace, as large as the"
        " largest needs. Stroke (taken): by how much the device's free memory fell while the"
        " engine was loaded, whoever took it.",
        lambda memory: memory.device,
        "memory on the device is not drawn, all is 0: there is none on a CPU, or the engines"
        " were built without the device to ask.",
    ),
)


def memory_section(study: Study) -> Section:
    """Returns a chart for each place and series."""
    series = list(study.found(lambda entry: entry.memory))
    charts: list[Html] = []
    notes: list[Html] = []
    for place in _PLACES:
        # Series that agree, as on one disk, have one chart together.
        labels: dict[tuple[tuple[str, Share | DeviceShare], ...], list[str]] = {}
        for found in series:
            label = found.one.label
            every = [(p.configuration, place.share(memory)) for p, memory in found.points]
            known = tuple((name, share) for name, share in every if share is not None)
            unknown = [short(name, 40) for name, share in every if share is None]
            if not any(any(_sizes(share)) for _, share in known):
                notes.append(element("li", f"{label}: {place.nothing}"))
                continue
            labels.setdefault(known, []).append(label)
            if unknown:
                said = f"{label}, {', '.join(unknown)}: {place.nothing}"
                notes.append(element("li", said))
        for index, (shares, of) in enumerate(labels.items()):
            name, title = f"memory-{place.name}-{index}", f"{' and '.join(of)}: {place.words}"
            charts.append(_memory(place, shares, name, title).html())
    return Section(
        "memory",
        "Memory",
        "What trtbench found while it loaded the engines one after the other: what each takes"
        " by itself, and what it shares.",
        joined(*charts, element("ul", *notes, class_="note") if notes else ""),
    )


def _sizes(share: Share | DeviceShare) -> tuple[int, ...]:
    """Returns shared and own bytes, and on a device the bytes taken."""
    taken = (share.taken_bytes,) if isinstance(share, DeviceShare) else ()
    return share.shared_bytes, share.own_bytes, *taken


def _memory(
    place: _Place, shares: Sequence[tuple[str, Share | DeviceShare]], name: str, title: str
) -> Chart:
    kinds = (("shared", LIGHT.every, ""), ("own", LIGHT.own, "."), ("taken", "", ""))
    columns = [
        Column(words, tuple(map(size_text, sizes)), tuple(size / 1e6 for size in sizes),
               colour, shape)
        for (words, colour, shape), sizes in zip(
            kinds, zip(*(_sizes(share) for _, share in shares), strict=True), strict=False
        )
    ]  # fmt: skip
    names = [configuration for configuration, _ in shares]
    return bar_chart(name, title, place.caption, names, f"{place.words}, MB", columns)


def phases_section(study: Study) -> Section:
    """Returns a chart for each series whose calls were taken apart."""
    found = study.found(lambda entry: entry.phases)
    return Section(
        "phases",
        "Phases of a call",
        "What the device spends on copying inputs in (H2D), computing, and copying outputs out"
        " (D2H), between CUDA events, in further calls than those of the latency above.",
        joined(*(_phases(each).html() for each in found)),
    )


def _phases(series: Found[PhaseSummary]) -> Chart:
    names = [point.configuration for point, _ in series.points]
    phases = [each for _, each in series.points]
    times = (
        ("H2D", [each.h2d for each in phases], LIGHT.some, "/"),
        ("compute", [each.compute for each in phases], LIGHT.every, ""),
        ("D2H", [each.d2h for each in phases], LIGHT.own, "."),
        ("by events", [each.latency for each in phases], "", ""),
        ("enqueue", [each.enqueue for each in phases], "", ""),
    )
    columns = [
        Column(
            words,
            tuple(NOTHING if time is None else number(time.median_ms, 4) for time in of),
            tuple(0.0 if time is None else time.median_ms for time in of)
            if words != "enqueue" and any(of)
            else (),
            colour,
            shape,
        )
        for words, of, colour, shape in times
    ]
    said = (
        "Each phase's median, end to end. Stroke: the median of all of a call's phases by"
        " events, which a sum of medians need not be. A pause in which the device waits for"
        " the host counts for the phase that follows it."
    )
    if all(each.h2d is None and each.d2h is None for each in phases):
        said += " Without transfers: only the computation was measured."
    apart = [short(p.configuration, 40) for p, each in series.points if not each.graph]
    if len(apart) == len(names):
        said += " The computation was enqueued without a CUDA graph."
    elif apart:
        said += f" Enqueued without a CUDA graph: {', '.join(apart)}."
    return bar_chart(
        f"phases-{series.index}",
        f"{series.one.label}: phases of a call, medians in ms",
        f"{said} Enqueueing is the host's time, in the table only.",
        names,
        "median of each phase, ms",
        [Column("calls", tuple(str(each.runs) for each in phases)), *columns],
        " ms",
    )


def energy_section(study: Study) -> Section:
    """Returns a chart for each series with energy, and the windows it was measured in."""
    found = study.found(lambda entry: entry.energy)
    return Section(
        "energy",
        "Energy",
        "Millijoules of one call: all that the meter covers, idle power included.",
        joined(*(_energy(study, each).html() for each in found)),
    )


def _energy(study: Study, series: Found[Energy]) -> Chart:
    label, is_estimated = series.one.label, series.one.energy_is_estimated
    names = [point.configuration for point, _ in series.points]
    found = [energy for _, energy in series.points]
    colours = colours_of(study, names)
    spreads = ["" if e.spread_mj is None else number(e.spread_mj, 2) for e in found]
    told = (
        f"{number(energy.mean_mj)}{f' ± {spread}' if spread else ''} mJ"
        for energy, spread in zip(found, spreads, strict=True)
    )
    bars: Trace = {
        "type": "bar", "orientation": "h", "width": 0.5,
        "x": [exact(energy.mean_mj) for energy in found], "y": list(range(len(names))),
        "marker": {
            "color": colours, "pattern": pattern("/" if is_estimated else "", colours, 7, 0.4),
        },
        **hovering(map(hover, names, told)),
    }  # fmt: skip
    windows: Trace = {
        "type": "scatter", "mode": "markers", "hoverinfo": "skip",
        "x": [exact(mj) for energy in found for mj in energy.windows_mj],
        "y": [row for row, energy in enumerate(found) for _ in energy.windows_mj],
        "marker": tick(14, LIGHT.ink),
    }  # fmt: skip
    kind = "an estimate: nothing was metered" if is_estimated else "metered"
    said = "Hatched bars are estimates. " if is_estimated else ""
    return row_chart(
        f"energy-{series.index}",
        f"{label}: energy per call, {kind}",
        f"{said}Bar: mean. Ticks: the windows that it was measured in, alternating.",
        [bars, windows],
        names,
        axis("energy per call, mJ", rangemode="tozero"),
        Table(
            f"{label}: energy per call, mJ",
            ("configuration", ">mean", ">standard deviation", ">windows"),
            tuple(
                (name, number(energy.mean_mj, 4), spread or NOTHING,
                 str(len(energy.windows_mj)))
                for name, energy, spread in zip(names, found, spreads, strict=True)
            ),
        ),
    )  # fmt: skip

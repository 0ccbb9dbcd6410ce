"""Calls taken apart: copies in, computation, copies out, where a backend can tell them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections.marks import Piece, stacked_bars, stacked_chart, strokes
from skipc.tools.report.texts import NOTHING, number
from skipc.tools.web.html import Table, joined
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.tools.report.sections.marks import Trace
    from skipc.tools.report.study import Found, Study
    from skipc.tools.trtbench.latency import Times
    from skipc.tools.trtbench.report import PhaseSummary
    from skipc.tools.web.chart import Chart

_H2D = Piece("H2D", LIGHT.some, "/")
_COMPUTE = Piece("compute", LIGHT.every, "")
_D2H = Piece("D2H", LIGHT.own, ".")


def section(study: Study) -> Section | None:
    """Returns a chart for each series with phases; None where there are none."""
    charts = [_chart(found).html() for found in study.measured(lambda p: p.phases)]
    if not charts:
        return None
    return Section(
        "phases",
        "Phases of a call",
        "What the device spends on copying inputs in (H2D), computing, and copying outputs out"
        " (D2H), between CUDA events, in further calls than those of the latency above.",
        joined(*charts),
    )


def _chart(series: Found[PhaseSummary]) -> Chart:
    label = series.one.label
    found = [(point.configuration, each) for point, each in series.points]
    names = [name for name, _ in found]
    phases = [each for _, each in found]
    pieces = (
        (_H2D, [each.h2d for each in phases]),
        (_COMPUTE, [each.compute for each in phases]),
        (_D2H, [each.d2h for each in phases]),
    )
    traces = [_bars(piece, names, times) for piece, times in pieces if any(times)]
    whole = [each.latency.median_ms for each in phases]
    told = [f"by events: median {number(ms)} ms" for ms in whole]
    return stacked_chart(
        f"phases-{series.index}",
        f"{label}: phases of a call, medians",
        _caption(found),
        [*traces, strokes("by events", names, whole, told)],
        names,
        "median of each phase, ms",
        _table(label, found),
    )


def _bars(piece: Piece, names: Sequence[str], times: Sequence[Times | None]) -> Trace:
    known = [0.0 if each is None else each.median_ms for each in times]
    told = [f"{piece.words}: median {number(median_ms)} ms" for median_ms in known]
    return stacked_bars(piece, names, known, told)


def _caption(found: Sequence[tuple[str, PhaseSummary]]) -> str:
    said = (
        "Each phase's median, end to end. Stroke: the median of all of a call's phases by"
        " events, which a sum of medians need not be. A pause in which the device waits for"
        " the host counts for the phase that follows it."
    )
    if all(each.h2d is None and each.d2h is None for _, each in found):
        said += " Without transfers: only the computation was measured."
    apart = [short(name, 40) for name, each in found if not each.graph]
    if len(apart) == len(found):
        said += " The computation was enqueued without a CUDA graph."
    elif apart:
        said += f" Enqueued without a CUDA graph: {', '.join(apart)}."
    return f"{said} Enqueueing is the host's time, in the table only."


def _table(label: str, found: Sequence[tuple[str, PhaseSummary]]) -> Table:
    rows = []
    for name, each in found:
        shown = (each.h2d, each.compute, each.d2h, each.latency, each.enqueue)
        medians = (NOTHING if t is None else number(t.median_ms, 4) for t in shown)
        rows.append((short(name, 60), str(each.runs), *medians))
    return Table(
        f"{label}: medians of the phases in ms",
        ("configuration", ">calls", ">H2D", ">compute", ">D2H", ">by events", ">enqueue"),
        tuple(rows),
    )

"""Configurations that answer early: where, how well, and what other policies come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.report.sections.marks import Column, bar_chart
from skipc.tools.report.texts import NOTHING, exact, number, percent
from skipc.tools.views.routes import (
    HEADINGS,
    certified_text,
    exits_of,
    percent_of,
    solved_text,
)
from skipc.tools.web.chart import LEGEND, Chart, axis, hover, hovering
from skipc.tools.web.html import Html, Table, element, joined, note
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT, PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.runtime.bundle.routed import Routed
    from skipc.runtime.bundle.solved import SolvedPolicy, Traded
    from skipc.tools.report.study import Study
    from skipc.tools.views.routes import RouteExit
    from skipc.tools.web.chart import Trace

_SHOWN = 16
"""Most biases of a router that the table has."""
_SHAPES = ("", ".", "/", "x", "-", "|")
_LINES = (
    *((LIGHT.ink, "solid", "square"), (LIGHT.some, "dash", "diamond")),
    *((LIGHT.every, "dot", "cross"), (LIGHT.own, "solid", "circle")),
    *((LIGHT.muted, "dashdot", "star"), (LIGHT.accent, "longdash", "triangle-up")),
)
"""Of a policy: its colour, and what tells it without one."""


def section(study: Study) -> Section:
    """Returns a table and, where its policy was solved, a chart of each route."""
    entries = [entry for entry in study.ordered if len(entry.route) > 1]
    exits = {entry.name: exits_of(study.manifest, entry) for entry in entries}
    parts: list[Html] = [_shares(exits).html()] if exits else []
    for index, entry in enumerate(entries):
        parts += _route(entry, exits[entry.name], index)
    return Section(
        "routes",
        "Early exits and routers",
        "Configurations that run in stages. After each stage a test looks at the answer: it"
        " is given, or the next stage goes on. A router is a first stage that names what runs"
        " next.",
        joined(*parts),
    )


def _shares(exits: dict[str, tuple[RouteExit, ...]]) -> Chart:
    """Returns how many samples each exit answers, a row for each configuration."""
    columns = []
    for at in range(max(map(len, exits.values()))):
        each = [found[at] if at < len(found) else None for found in exits.values()]
        columns.append(
            Column(
                f"exit {at + 1}",
                tuple(
                    f"{percent_of(one.share)} at {one.name}" if one else NOTHING
                    for one in each
                ),
                tuple(100 * one.share if one else 0.0 for one in each),
                PARTS[at % len(PARTS)],
                _SHAPES[at % len(_SHAPES)],
            )
        )
    return bar_chart(
        "routes-shares",
        "Where samples are answered",
        "As seen when the policy was solved, or when the bundle was built; on other inputs"
        " the shares are others.",
        list(exits),
        "share of the samples, %",
        columns,
    )


def _route(
    entry: ConfigurationEntry, exits: tuple[RouteExit, ...], index: int
) -> Iterator[Html]:
    yield element("h3", entry.name)
    table = Table(
        f"{entry.name}: its exits. MACs and time are those up to the exit; accuracy alone is"
        " what it would be if all samples were answered there.",
        HEADINGS,
        tuple(each.cells for each in exits),
    )
    yield table.html()
    if entry.certificate is None:
        yield note("Not certified: nothing is promised of these tests.")
    else:
        yield note(certified_text(entry.certificate, [each.name for each in exits]))
    if entry.routed is not None:
        yield _biases(entry, entry.routed).html()
    if entry.solved is not None:
        yield note(solved_text(entry.solved))
        name = f"policies-{index}"
        yield policies_chart(name, f"{entry.name}: policies", entry.solved).html()


def _biases(entry: ConfigurationEntry, routed: Routed) -> Table:
    """Returns what other biases of a router would come to."""
    return Table(
        f"{entry.name}: what other biases come to. A budget of a mean latency moves the bias"
        f" along them; it is {number(entry.route[0].test.bias if entry.route[0].test else 0)}"
        " otherwise.",
        (">bias", ">accuracy", "answered at each stage"),
        tuple(
            (number(at.bias), percent(at.accuracy), " / ".join(map(percent_of, at.stops)))
            for at in routed.curve[:: -(-len(routed.curve) // _SHOWN)]
        ),
    )


def policies_chart(name: str, title: str, solved: SolvedPolicy) -> Chart:
    """Returns the accuracy of every policy over its mean time; exits alone beside them."""
    traces: list[Trace] = []
    for index, one in enumerate(solved.outcomes):
        colour, dash, symbol = _LINES[index % len(_LINES)]
        curve = sorted(one.curve, key=lambda at: at.mean_ms)
        if curve:
            traces.append({
                "type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False,
                "x": [exact(at.mean_ms) for at in curve],
                "y": [exact(100 * at.accuracy) for at in curve],
                "line": {"width": 2, "color": colour, "dash": dash},
            })  # fmt: skip
        told = (f"{percent(one.accuracy)} in {number(one.mean_ms)} ms",
                "answered at: " + " / ".join(map(percent_of, one.stops)))  # fmt: skip
        used = ["used"] if one.name == solved.policy else []
        marker: Trace = {"size": 15 if used else 10, "symbol": symbol, "color": colour,
                         "line": {"width": 2 if used else 1,
                                  "color": LIGHT.ink if used else LIGHT.ground}}  # fmt: skip
        traces.append({
            "type": "scatter", "mode": "lines+markers", "cliponaxis": False,
            "name": f"{one.name}, used" if used else one.name,
            "x": [exact(one.mean_ms)], "y": [exact(100 * one.accuracy)],
            "line": {"width": 2, "color": colour, "dash": dash}, "marker": marker,
            **hovering([hover(one.name, *told, *used)]),
        })  # fmt: skip
    traces.append({
        "type": "scatter", "mode": "markers", "name": "an exit alone", "cliponaxis": False,
        "x": [exact(each.upto_ms) for each in solved.exits],
        "y": [exact(100 * each.accuracy) for each in solved.exits],
        "marker": {"size": 11, "symbol": "x-thin", "color": LIGHT.muted,
                   "line": {"width": 2, "color": LIGHT.muted}},
        **hovering(
            hover(f"exit {at} alone", f"{percent(each.accuracy)} in"
                  f" {number(each.upto_ms)} ms")
            for at, each in enumerate(solved.exits, 1)
        ),
    })  # fmt: skip
    return Chart(
        name,
        title,
        "Up and to the left is better. A line is a kind of policy, from the safest to the"
        " fastest; its mark is where it was wanted, the large one is what the bundle does."
        " The oracle knows the label, and myopic gates know of one later exit only: both are"
        " there to compare with.",
        traces,
        {
            "xaxis": axis("mean time of a sample, ms", rangemode="tozero"),
            "yaxis": axis("accuracy, %"),
            "showlegend": True,
            "legend": LEGEND,
        },
        460,
        _policies_table(title, solved),
        zooms=True,
    )


def _policies_table(title: str, solved: SolvedPolicy) -> Table:
    """Returns the same as a table: the wanted points, then the lines."""
    end_ms = solved.exits[-1].upto_ms
    rows: list[tuple[str, ...]] = []
    for one in solved.outcomes:
        stops = " / ".join(map(percent_of, one.stops))
        point = (percent(one.accuracy), number(one.mean_ms), f"{one.mean_ms / end_ms:.2f}")
        mark = "used" if one.name == solved.policy else "wanted point"
        rows.append((one.name, *point, stops, mark))
        rows += _curve_rows(one.name, one.curve, end_ms)
    return Table(
        title,
        (*("policy", ">accuracy", ">mean, ms", ">of the whole"), "answered at", ""),
        tuple(rows),
    )


def _curve_rows(
    name: str, curve: Sequence[Traded], end_ms: float
) -> Iterator[tuple[str, ...]]:
    for at in curve:
        yield (
            *(name, percent(at.accuracy), number(at.mean_ms), f"{at.mean_ms / end_ms:.2f}"),
            *("", ""),
        )

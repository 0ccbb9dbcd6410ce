"""How far each subnet's outputs were from the reference's when the bundle was built."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from skipc.tools.console import plural, short
from skipc.tools.report.sections.marks import TEXT, colours_of, dot, hovering, tick
from skipc.tools.web.chart import Chart, axis, hover, name_axis, rows_height_px
from skipc.tools.web.html import Table, element, joined
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from skipc.runtime.bundle.manifest import Verification
    from skipc.tools.report.sections.marks import Trace
    from skipc.tools.report.study import Study


def section(study: Study) -> Section:
    """Returns errors against their tolerance."""
    checks = [graph.verification for graph in study.manifest.graphs]
    said = plural(max(check.inputs for check in checks), "golden input")
    references = sorted({short(check.reference, 40) for check in checks})
    return Section(
        "verification",
        "Verification",
        f"When the bundle was built, each subnet ran {said} and was compared with"
        f" {', '.join(references)} running the same configuration.",
        joined(
            _chart(study).html(),
            element(
                "p",
                "This page ran nothing. The golden inputs and outputs are in the bundle: ",
                element("code", "skipc check BUNDLE"),
                " runs them through the engines of the machine at hand.",
                class_="note",
            ),
        ),
    )


def _chart(study: Study) -> Chart:
    entries = study.ordered
    checks = [study.manifest.verification(entry) for entry in entries]
    known = [value for v in checks for value in (v.relative_error, v.tolerance) if value > 0]
    low = math.floor(math.log10(min(known, default=1e-8))) - 1
    high = math.ceil(math.log10(max(known, default=1.0)))
    # Zero has no place on this axis; it is drawn at its left end, and said.
    at = [max(v.relative_error, 10.0**low) for v in checks]
    rows = list(range(len(entries)))
    allowed: Trace = {
        "type": "scatter", "mode": "markers+text", "y": rows, "hoverinfo": "skip",
        "x": [v.tolerance or 10.0**low for v in checks],
        "text": ["allowed", *[""] * (len(rows) - 1)], "textposition": "middle left",
        "textfont": TEXT, "marker": tick(20, LIGHT.alarm, 2),
    }  # fmt: skip
    symbols = ["circle" if v.relative_error <= v.tolerance else "x" for v in checks]
    errors: Trace = {
        "type": "scatter", "mode": "markers", "x": at, "y": rows, "cliponaxis": False,
        "marker": dot(colours_of(study, [e.name for e in entries]), symbol=symbols),
        **hovering(_hover(e.name, v) for e, v in zip(entries, checks, strict=True)),
    }  # fmt: skip
    exact = "" if all(v.relative_error for v in checks) else " At the left end: exactly equal."
    return Chart(
        "errors",
        "Largest error over the range of the outputs",
        f"Dot: the subnet. Upright mark: what was allowed.{exact} The axis is logarithmic.",
        [allowed, errors],
        {
            "xaxis": axis("error over the range", type="log",
                          range=[low, high + 0.2], exponentformat="power", dtick=1),
            "yaxis": name_axis([entry.name for entry in entries]),
        },
        rows_height_px(len(entries)),
        Table(
            "Errors of the subnets",
            ("configuration", ">error over range", ">allowed", ">largest error", ">inputs",
             "compared with"),
            tuple(
                (short(e.name, 60), f"{v.relative_error:.1e}", f"{v.tolerance:.0e}",
                 f"{v.max_abs_error:.1e}", str(v.inputs), short(v.reference, 40))
                for e, v in zip(entries, checks, strict=True)
            ),
        ),
    )  # fmt: skip


def _hover(name: str, found: Verification) -> str:
    return hover(
        name,
        f"{found.relative_error:.1e} of the outputs' range; {found.tolerance:.0e} allowed",
        f"largest error {found.max_abs_error:.1e} over {plural(found.inputs, 'golden input')}",
    )

"""How far each subnet's outputs were from the reference's when the bundle was built."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from skipc.tools.console import plural, short
from skipc.tools.report.sections.marks import TEXT, colours_of, dot, tick
from skipc.tools.web.chart import axis, hover, hovering, row_chart
from skipc.tools.web.html import Table, element, joined, note
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from skipc.tools.report.study import Study
    from skipc.tools.web.chart import Chart, Trace


def section(study: Study) -> Section:
    """Returns errors against their tolerance."""
    checks = [graph.verification for graph in study.manifest.graphs]
    said = plural(max(check.inputs for check in checks), "golden input")
    references = sorted(
        {short(check.reference, 40).replace("pytorch", "PyTorch") for check in checks}
    )
    return Section(
        "verification",
        "Verification",
        f"When the bundle was built, each subnet ran {said} and was compared with"
        f" {', '.join(references)} running the same configuration.",
        joined(
            _chart(study).html(),
            note(
                "This page ran nothing. The golden inputs and outputs are in the bundle: ",
                element("code", "skipc check BUNDLE"),
                " runs them through the engines of the machine at hand.",
            ),
        ),
    )


def _chart(study: Study) -> Chart:
    names = [entry.name for entry in study.ordered]
    checks = [study.manifest.verification(entry) for entry in study.ordered]
    known = [value for v in checks for value in (v.relative_error, v.tolerance) if value > 0]
    low = math.floor(math.log10(min(known, default=1e-8))) - 1
    high = math.ceil(math.log10(max(known, default=1.0)))
    rows = list(range(len(names)))
    allowed: Trace = {
        "type": "scatter", "mode": "markers+text", "y": rows, "hoverinfo": "skip",
        "x": [v.tolerance or 10.0**low for v in checks],
        "text": ["allowed", *[""] * (len(rows) - 1)], "textposition": "middle left",
        "textfont": TEXT, "marker": tick(20, LIGHT.alarm, 2),
    }  # fmt: skip
    symbols = ["circle" if v.relative_error <= v.tolerance else "x" for v in checks]
    errors: Trace = {
        # Zero has no place on this axis; it is drawn at its left end, and said.
        "x": [max(v.relative_error, 10.0**low) for v in checks], "y": rows,
        "type": "scatter", "mode": "markers", "cliponaxis": False,
        "marker": dot(colours_of(study, names), symbol=symbols),
        **hovering(
            hover(
                name,
                f"{v.relative_error:.1e} of the outputs' range; {v.tolerance:.0e} allowed",
                f"largest error {v.max_abs_error:.1e} over {plural(v.inputs, 'golden input')}",
            )
            for name, v in zip(names, checks, strict=True)
        ),
    }  # fmt: skip
    exact = "" if all(v.relative_error for v in checks) else " At the left end: exactly equal."
    return row_chart(
        "errors",
        "Largest error over the range of the outputs",
        f"Dot: the subnet. Upright mark: what was allowed.{exact} The axis is logarithmic.",
        [allowed, errors],
        names,
        axis("error over the range", type="log", range=[low, high + 0.2],
             exponentformat="power", dtick=1),
        Table(
            "Errors of the subnets",
            ("configuration", ">error over range", ">allowed", ">largest error", ">inputs",
             "compared with"),
            tuple(
                (name, f"{v.relative_error:.1e}", f"{v.tolerance:.0e}",
                 f"{v.max_abs_error:.1e}", str(v.inputs), v.reference)
                for name, v in zip(names, checks, strict=True)
            ),
        ),
    )  # fmt: skip

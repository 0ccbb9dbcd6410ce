"""How latency grows with the sizes of free dimensions, measured when engines were built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import plural
from skipc.tools.report.texts import NOTHING, number
from skipc.tools.web.html import Table, joined
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from skipc.runtime.bundle.engines import EngineSet
    from skipc.tools.report.study import Study


def section(study: Study) -> Section:
    """Returns a table for each target and number of threads; nothing where no size is free."""
    typical = "x".join(str(each.typical) for each in study.manifest.dimensions)
    tables = [table for engines in study.engines for table in _tables(engines, typical)]
    return Section(
        "sizes",
        "Sizes",
        "Median latency in milliseconds at the ends of what may vary. In between it is"
        " interpolated, and learnt from calls.",
        joined(*(table.html() for table in tables)),
    )


def _tables(engines: EngineSet, typical: str) -> Iterator[Table]:
    measured = [row for entry in engines.engines for row in entry.by_size]
    for threads in sorted({row.threads for row in measured}):
        texts = dict.fromkeys(_text(row.sizes) for row in measured if row.threads == threads)
        rows = []
        for entry in engines.engines:
            usual = [row.p50_ms for row in entry.latency if row.threads == threads]
            found = {_text(r.sizes): r.p50_ms for r in entry.by_size if r.threads == threads}
            cells = [*usual[:1], *(found.get(text) for text in texts)]
            rows.append((entry.graph, *(NOTHING if c is None else number(c) for c in cells)))
        names = "x".join(measured[0].sizes)
        yield Table(
            f"{engines.target}, {plural(threads, 'thread')}: median in ms by {names}",
            ("graph", f">{typical}, typical", *(f">{text}" for text in texts)),
            tuple(rows),
        )


def _text(sizes: Mapping[str, int]) -> str:
    return "x".join(map(str, sizes.values()))

"""Which units each configuration keeps: one strip for each, in network order."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from skipc.tools.console import count_text, plural, short
from skipc.tools.report.skipped import SKIP, Evidence, states
from skipc.tools.web.html import Html, Table, details, element, joined, keyed
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.tools.report.skipped import UnitInSubnet
    from skipc.tools.report.study import Study

_CLASSES = {
    Evidence.KEPT: "",
    Evidence.GONE: "gone",
    Evidence.LESS: "less",
    Evidence.WRONG: "wrong",
    Evidence.UNSEEN: "gone",
}
_WORDS = {
    Evidence.KEPT: "kept",
    Evidence.GONE: "skipped",
    Evidence.LESS: "skipped*",
    Evidence.WRONG: "not skipped!",
    Evidence.UNSEEN: "skipped?",
}
# Beyond this many cells of all strips the page would become large.
_MOST_CELLS = 4000
_MOST_NAMED = 24
_MOST_IN_TABLE = 6000
_LEAST_WIDTH = 0.25


def section(study: Study) -> Section | None:
    """Returns the strips; None for a network without units."""
    units = study.manifest.options(SKIP)
    if not units:
        return None
    rows = states(study.manifest, study.subnets)
    by_macs = any(unit.macs for unit in units)
    widths = _widths([unit.macs if by_macs else unit.parameters for unit in units])
    strips = element(
        "div",
        *_heads(study, widths),
        *(_strip_row(study, entry, rows[entry.name], widths) for entry in study.ordered),
        class_="strips",
    )
    found = {cell.evidence for row in rows.values() for cell in row}
    measure = "MACs" if by_macs else "parameters"
    return Section(
        "units",
        "Skipped units",
        f"One strip for each configuration, the input on the left. A unit's width is its"
        f" share of the {measure}; very narrow ones are drawn wider. {_checked(found)}",
        joined(_legend(found), strips, *_problems(study, rows), _table(study, rows)),
    )


def _widths(values: Sequence[int]) -> list[float]:
    """Returns what the units' widths are proportional to, none too narrow to be seen."""
    mean = sum(values) / len(values) or 1.0
    return [round(max(value / mean, _LEAST_WIDTH), 3) for value in values]


def _heads(study: Study, widths: Sequence[float]) -> list[Html]:
    """Returns the names above the strips: the modules, and in each the units' own."""
    names = [unit.name for unit in study.manifest.options(SKIP)]
    paths = [name.split(".") for name in names]
    common = 0
    while all(
        len(p) > common + 1 and p[: common + 1] == paths[0][: common + 1] for p in paths
    ):
        common += 1
    # The last part that all have in common stays: it says what the numbers count.
    start = max(common - 1, 0)
    groups = [
        (".".join(key), [width for _, width in members])
        for key, members in (
            (key, list(group))
            for key, group in groupby(
                zip(paths, widths, strict=True), key=lambda pair: pair[0][start:-1]
            )
        )
    ]
    lines = []
    if 1 < len(groups) <= _MOST_NAMED or (len(groups) == 1 and groups[0][0]):
        lines.append(element("div", *(_head(name, sum(of)) for name, of in groups),
                             class_="strip heads"))  # fmt: skip
    if len(names) <= _MOST_NAMED:
        cells = (_head(path[-1], width) for path, width in zip(paths, widths, strict=True))
        lines.append(element("div", *cells, class_="strip heads small"))
    if not lines:
        return []
    return [
        element(
            "div",
            element("span"),
            element("div", *lines),
            element("span"),
            class_="strip-row heads-row",
            aria_hidden="true",
        )
    ]


def _head(name: str, width: float) -> Html:
    return element(
        "span", short(name, 60), style=f"flex-grow:{width:g}", title=short(name, 200)
    )


def _strip_row(
    study: Study,
    entry: ConfigurationEntry,
    row: Sequence[UnitInSubnet],
    widths: Sequence[float],
) -> Html:
    few = len(row) * len(study.ranks) <= _MOST_CELLS
    cells = _cells(study, row, widths) if few else _runs(row, widths)
    skipped, macs = len(entry.taken(SKIP)), count_text(study.manifest.macs(entry))
    told = f"{skipped} of {plural(len(row), 'unit')} skipped, {macs} MACs"
    rank = study.ranks[entry.name]
    return element(
        "div",
        element("div", keyed(short(entry.name, 120), rank), class_="strip-name"),
        element(
            "div", *cells, class_="strip", style=f"--own-colour:var(--c{rank})", role="img",
            aria_label=f"{short(entry.name, 80)}: {told}",
        ),
        element(
            "div", element("span", f"{skipped} of {len(row)} skipped"), " ",
            element("span", f"{macs} MACs"),
            class_="strip-told", aria_hidden="true",
        ),
        class_="strip-row",
    )  # fmt: skip


def _cells(
    study: Study, row: Sequence[UnitInSubnet], widths: Sequence[float]
) -> Iterator[Html]:
    for cell, width, unit in zip(row, widths, study.manifest.options(SKIP), strict=True):
        sizes = f"{count_text(unit.macs)} MACs, {count_text(unit.parameters)} parameters"
        title = f"{short(unit.name, 80)}: {_words(cell)}; {sizes}"
        yield element(
            "i", class_=_CLASSES[cell.evidence], style=f"flex-grow:{width:g}", title=title
        )


def _runs(row: Sequence[UnitInSubnet], widths: Sequence[float]) -> Iterator[Html]:
    """Yields neighbours of one kind as one: single units could not be told apart."""
    pairs = zip(row, widths, strict=True)
    for evidence, run in groupby(pairs, key=lambda pair: pair[0].evidence):
        width = sum(width for _, width in run)
        yield element("i", class_=_CLASSES[evidence], style=f"flex-grow:{width:g}")


def _words(cell: UnitInSubnet) -> str:
    left = ", ".join(f"{count} {name}" for name, count in cell.left.items())
    return f"{cell.evidence.value}{f' ({left})' if left else ''}"


def _checked(found: set[Evidence]) -> str:
    if Evidence.UNSEEN in found:
        return "The graphs do not name the module of every node, so not all could be checked."
    if not found & {Evidence.GONE, Evidence.LESS, Evidence.WRONG}:
        return "No configuration skips anything."
    return (
        "This is read from the graphs, not only from the manifest: of a skipped unit no node"
        " is left, or only its shortcut and what follows the join."
    )


def _legend(found: set[Evidence]) -> Html:
    items = [
        element("li", element("i", class_=_CLASSES[one] or "kept"), one.value)
        for one in Evidence
        if one in found
    ]
    return element("ul", *items, class_="legend", aria_label="Legend")


def _problems(study: Study, rows: dict[str, list[UnitInSubnet]]) -> list[Html]:
    found = [
        f"{short(name, 80)}: {short(unit.name, 80)}"
        for name, row in rows.items()
        for unit, cell in zip(study.manifest.options(SKIP), row, strict=True)
        if cell.evidence is Evidence.WRONG
    ]
    if not found:
        return []
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    said = (
        "The manifest says that these units are skipped, but all their nodes are there:"
        f" {'; '.join(found[:10])}{more}. Build the bundle again."
    )
    return [element("p", said, class_="warn")]


def _table(study: Study, rows: dict[str, list[UnitInSubnet]]) -> Html:
    units, entries = study.manifest.options(SKIP), study.ordered
    if len(units) * len(entries) > _MOST_IN_TABLE:
        shorter = Table(
            "Units that are skipped",
            ("configuration", "units"),
            tuple((short(e.name, 60), ", ".join(short(s, 60) for s in e.taken(SKIP)) or "none")
                  for e in entries),
        )  # fmt: skip
        return details("The same as a table", shorter.html())
    names = tuple(short(entry.name, 40) for entry in entries)
    table = Table(
        "Units in network order; * leaves its shortcut",
        ("unit", ">MACs", ">parameters", *names),
        tuple(
            (
                short(unit.name, 80), count_text(unit.macs), count_text(unit.parameters),
                *(_WORDS[rows[entry.name][index].evidence] for entry in entries),
            )
            for index, unit in enumerate(units)
        ),
    )  # fmt: skip
    return details("The same as a table", table.html())

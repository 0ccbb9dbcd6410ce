"""Weight sharing: which bytes serve which configurations, on disk and packed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from skipc.tools.console import plural, short, size_text
from skipc.tools.report.sections.marks import Piece, stacked_bars, stacked_chart
from skipc.tools.report.subnets import engines_bytes
from skipc.tools.web.html import Html, Table, details, element, joined, keyed, scrolling
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from skipc.tools.report.study import Study
    from skipc.tools.report.subnets import SharingSet
    from skipc.tools.web.chart import Chart
    from skipc.tools.web.html import Part

_MOST_COLUMNS = 14
_MOST_SETS = 40
_MOST_TENSORS = 6
# By how many use the bytes: the words, the colour, the pattern that tells without colour.
_KINDS = (
    Piece("used by every configuration", LIGHT.every, ""),
    Piece("used by several", LIGHT.some, "/"),
    Piece("used by this one only", LIGHT.own, "."),
)


def section(study: Study) -> Section:
    """Returns what is shared, by configuration and by set of configurations."""
    return Section(
        "weights",
        "Shared weights",
        _lead(study),
        joined(_by_configuration(study).html(), _sets(study), *_packed(study)),
    )


def _lead(study: Study) -> str:
    sharing = study.sharing
    total = sum(one.size_bytes for one in sharing.sets)
    if len(study.ranks) == 1:
        return f"One configuration: its {size_text(total)} of weights are its own."
    every = sum(
        s.size_bytes for s in sharing.sets if len(s.configurations) == len(study.ranks)
    )
    return (
        f"The bundle's graphs and weights take {size_text(sharing.bundle_bytes)} on disk; a"
        f" plain ONNX file for each configuration would take {size_text(sharing.plain_bytes)}."
        f" Every configuration uses {size_text(every)} of the {size_text(total)} of weights."
        " These are files: what is shared in memory depends on the backend."
    )


def _by_configuration(study: Study) -> Chart:
    names = [entry.name for entry in study.ordered]
    bytes_of: list[Counter[str]] = [Counter() for _ in _KINDS]
    for one in study.sharing.sets:
        for name in one.configurations:
            bytes_of[_kind(study, one)][name] += one.size_bytes
    traces = [
        stacked_bars(
            kind,
            names,
            [sizes[name] / 1e6 for name in names],
            [f"{size_text(sizes[name])} {kind.words}" for name in names],
        )
        for kind, sizes in zip(_KINDS, bytes_of, strict=True)
    ]
    rows = tuple(
        (short(name, 60), *(size_text(sizes[name]) for sizes in bytes_of),
         size_text(sum(sizes[name] for sizes in bytes_of)))
        for name in names
    )  # fmt: skip
    return stacked_chart(
        "weights-by-configuration",
        "Weights of each configuration, by who else uses them",
        "Only what is used by one configuration alone is added to the bundle by having it.",
        traces,
        names,
        "weights, MB",
        Table("Weights by who uses them",
              ("configuration", *(f">{kind.words}" for kind in _KINDS), ">together"), rows),
    )  # fmt: skip


def _kind(study: Study, one: SharingSet) -> int:
    count = len(one.configurations)
    if count == 1:
        return 2
    return 0 if count == len(study.ranks) else 1


def _sets(study: Study) -> Html:
    """Returns a row for each set of tensors that the same configurations use."""
    sets = study.sharing.sets
    if not sets:
        return element("p", "No graph refers to the weight store.", class_="note")
    shown = sets[:_MOST_SETS]
    entries = study.ordered
    matrix = len(entries) <= _MOST_COLUMNS
    heads = [element("th", short(e.name, 40), scope="col", class_="member") for e in entries]
    head = element(
        "tr",
        element("th", "size", scope="col"),
        element("th", "tensors", scope="col", class_="number"),
        *(heads if matrix else [element("th", "configurations", scope="col")]),
        element("th", "", element("span", "share", class_="unseen"), scope="col"),
    )
    rows = [
        element(
            "tr",
            element("th", size_text(one.size_bytes), scope="row"),
            element("td", str(len(one.tensors)), class_="number"),
            *(_members(study, one) if matrix else [_listed(study, one)]),
            element("td", _bar(one.size_bytes / shown[0].size_bytes), class_="bar"),
        )
        for one in shown
    ]
    left = len(sets) - len(shown)
    more = f" The {left} smallest sets are left out here." if left else ""
    caption = (
        f"A row is a set of tensors that the same configurations use, largest first.{more}"
    )
    made = element("table", element("thead", head), element("tbody", *rows), class_="sets")
    return joined(
        element("h3", "What is shared by whom"),
        element("p", caption, class_="caption"),
        scrolling(made, "What is shared by whom"),
        details("The tensors of each set", _tensors(study).html()),
    )


def _members(study: Study, one: SharingSet) -> list[Html]:
    cells = []
    for entry in study.ordered:
        used = entry.name in one.configurations
        dot = element(
            "span", class_="dot" if used else "dot out", aria_hidden="true",
            style=f"background:var(--c{study.ranks[entry.name]})" if used else "",
        )  # fmt: skip
        word = element("span", "used" if used else "not used", class_="unseen")
        cells.append(element("td", dot, word, class_="member"))
    return cells


def _listed(study: Study, one: SharingSet) -> Html:
    count = len(one.configurations)
    if count == len(study.ranks):
        return element("td", f"all {count}")
    named = ", ".join(short(name, 40) for name in one.configurations[:_MOST_TENSORS])
    more = f" and {count - _MOST_TENSORS} more" if count > _MOST_TENSORS else ""
    return element("td", f"{count}: {named}{more}")


def _bar(share: float) -> Html:
    return element("i", style=f"width:{max(100 * share, 0):.2f}%", aria_hidden="true")


def _tensors(study: Study) -> Table:
    rows: list[tuple[Part, ...]] = []
    for one in study.sharing.sets[:_MOST_SETS]:
        named = ", ".join(short(name, 60) for name in one.tensors[:_MOST_TENSORS])
        more = len(one.tensors) - _MOST_TENSORS
        rows.append((
            size_text(one.size_bytes),
            f"{len(one.configurations)} of {len(study.ranks)}",
            named + (f" and {more} more" if more > 0 else ""),
        ))  # fmt: skip
    return Table("Tensors by set", ("size", "configurations", "tensors"), tuple(rows))


def _packed(study: Study) -> list[Html]:
    """Returns what the engines refer to, where there are some."""
    found = []
    for engines in study.engines:
        sizes = {file.path: file.size_bytes for file in engines.files}
        total, plain = engines_bytes(study.manifest, engines)
        used = [
            (entry, engines.engine(graph.name))
            for entry in study.ordered
            for graph in study.manifest.graphs_of(entry)
        ]
        rows = tuple(
            (keyed(short(entry.name, 120), study.ranks[entry.name]),
             size_text(sizes[engine.file]), size_text(engine.weights_bytes),
             size_text(engine.own_bytes))
            for entry, engine in used
        )  # fmt: skip
        found.append(
            joined(
                element("h3", f"Engines of {short(engines.target, 60)}"),
                Table(
                    f"{engines.backend}: {plural(len(sizes), 'file')}, {size_text(total)} on"
                    f" disk; without sharing {size_text(plain)}",
                    ("configuration", ">engine's file", ">weights used", ">used by no other"),
                    rows,
                ).html(),
            )
        )
    return found

"""Weight sharing: which bytes serve which configurations, on disk and packed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from skipc.tools.console import plural, short, size_text
from skipc.tools.report.sections.marks import Column, bar_chart
from skipc.tools.report.subnets import engines_bytes
from skipc.tools.web.html import Html, Table, details, element, joined, keyed, note
from skipc.tools.web.page import Section
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skipc.tools.report.study import Study
    from skipc.tools.report.subnets import SharingSet
    from skipc.tools.web.chart import Chart

_MOST_COLUMNS = 14
_MOST_SETS = 40
_MOST_NAMED = 6
# By how many use the bytes: the words, the colour, the pattern that tells without colour.
_KINDS = (
    ("used by every configuration", LIGHT.every, ""),
    ("used by several", LIGHT.some, "/"),
    ("used by this one only", LIGHT.own, "."),
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
        count = len(one.configurations)
        kind = 2 if count == 1 else int(count < len(study.ranks))
        for name in one.configurations:
            bytes_of[kind][name] += one.size_bytes
    columns = [
        Column(words, tuple(size_text(sizes[name]) for name in names),
               tuple(sizes[name] / 1e6 for name in names), colour, shape)
        for (words, colour, shape), sizes in zip(_KINDS, bytes_of, strict=True)
    ]  # fmt: skip
    totals = tuple(size_text(sum(sizes[name] for sizes in bytes_of)) for name in names)
    return bar_chart(
        "weights-by-configuration",
        "Weights of each configuration, by who else uses them",
        "Only what is used by one configuration alone is added to the bundle by having it.",
        names,
        "weights, MB",
        [*columns, Column("together", totals)],
    )


def _sets(study: Study) -> Html:
    """Returns a row for each set of tensors that the same configurations use."""
    sets = study.sharing.sets
    if not sets:
        return note("No graph refers to the weight store.")
    shown, entries = sets[:_MOST_SETS], study.ordered
    matrix = len(entries) <= _MOST_COLUMNS
    heads = [element("span", short(e.name, 40), class_="member") for e in entries]
    rows = tuple(
        (
            size_text(one.size_bytes),
            str(len(one.tensors)),
            *(_members(study, one) if matrix else [_listed(study, one)]),
            element("i", class_="bar", aria_hidden="true",
                    style=f"width:{100 * one.size_bytes / shown[0].size_bytes:.2f}%"),
        )
        for one in shown
    )  # fmt: skip
    left = len(sets) - len(shown)
    more = f" The {left} smallest sets are left out here." if left else ""
    table = Table(
        f"A row is a set of tensors that the same configurations use, largest first.{more}",
        ("size", ">tensors", *(heads if matrix else ["configurations"]),
         element("span", "share", class_="unseen")),
        rows,
    )  # fmt: skip
    tensors = Table(
        "Tensors by set",
        ("size", "configurations", "tensors"),
        tuple(
            (size_text(one.size_bytes), f"{len(one.configurations)} of {len(study.ranks)}",
             _first(one.tensors))
            for one in shown
        ),
    )  # fmt: skip
    return joined(
        element("h3", "What is shared by whom"),
        element("div", table.html(), class_="sets"),
        details("The tensors of each set", tensors.html()),
    )


def _members(study: Study, one: SharingSet) -> Iterator[Html]:
    for entry in study.ordered:
        used = entry.name in one.configurations
        dot = element(
            "span", class_="dot" if used else "dot out", aria_hidden="true",
            style=f"background:var(--c{study.ranks[entry.name]})" if used else "",
        )  # fmt: skip
        yield joined(dot, element("span", "used" if used else "not used", class_="unseen"))


def _listed(study: Study, one: SharingSet) -> str:
    count = len(one.configurations)
    if count == len(study.ranks):
        return f"all {count}"
    return f"{count}: {_first(one.configurations)}"


def _first(names: tuple[str, ...]) -> str:
    left = len(names) - _MOST_NAMED
    named = ", ".join(short(name, 60) for name in names[:_MOST_NAMED])
    return f"{named} and {left} more" if left > 0 else named


def _packed(study: Study) -> Iterator[Html]:
    """Yields what the engines refer to, where there are some."""
    for engines in study.engines:
        sizes = {file.path: file.size_bytes for file in engines.files}
        total, plain = engines_bytes(study.manifest, engines)
        yield element("h3", f"Engines of {short(engines.target, 60)}")
        yield Table(
            f"{engines.backend}: {plural(len(sizes), 'file')}, {size_text(total)} on"
            f" disk; without sharing {size_text(plain)}",
            ("engine", ">engine's file", ">weights used", ">used by no other"),
            tuple(
                (keyed(short(graph.name, 120), study.ranks[entry.name]),
                 size_text(sizes[engine.file]), size_text(engine.weights_bytes),
                 size_text(engine.own_bytes))
                for entry in study.ordered
                for graph in study.manifest.graphs_of(entry)
                for engine in [engines.engine(graph.name)]
            ),
        ).html()  # fmt: skip

"""Which units each configuration skips, by the manifest and by the graphs: strips."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, NamedTuple

from skipc.tools.console import count_text, plural, short
from skipc.tools.report.subnets import files_of
from skipc.tools.web.html import Html, Table, details, element, escaped, joined, keyed
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from skipc.runtime.bundle.manifest import ConfigurationEntry, Manifest, NetworkEntry
    from skipc.tools.report.study import Study
    from skipc.tools.report.subnets import Subnet

SKIP = "skip"
"""The key of the axis that this is about."""
# Beyond this many cells of all strips the page would become large.
_MOST_CELLS = 4000
_MOST_NAMED = 24
_MOST_IN_TABLE = 6000
_LEAST_WIDTH = 0.25


class Evidence(Enum):
    """What the graphs say of a unit in a configuration.

    The value is shown, then the word for it in the table, then the class of its piece of a
    strip.
    """

    KEPT = ("kept", "kept", "")
    BEHIND = ("behind the last exit", "behind", "behind")
    GONE = ("skipped, no node left", "skipped", "gone")
    LESS = ("skipped, shortcut left", "skipped*", "less")
    WRONG = ("said to be skipped, but all its nodes are there", "not skipped!", "wrong")
    UNSEEN = ("skipped, but the graph does not name its nodes", "skipped?", "gone")

    def __init__(self, text: str, word: str, css: str) -> None:
        self.text = text
        self.word = word
        self.css = css


class UnitInSubnet(NamedTuple):
    """A unit in one configuration, and the operators left of one that is skipped."""

    evidence: Evidence
    left: Mapping[str, int]


def states(
    manifest: Manifest, network: NetworkEntry, subnets: Mapping[str, Subnet]
) -> dict[str, list[UnitInSubnet]]:
    """Returns by configuration that runs a network a cell for each unit, in network order.

    What stays of a skipped unit is its shortcut, where that is a layer of its own, and what
    follows the join. It is compared with the configurations that keep the unit: fewer nodes,
    or the unit was not skipped.
    """
    units = network.options(SKIP)
    modules = [unit.name.partition("#")[0] for unit in units]
    entries = [one for one in manifest.configurations if _skipped_by(one, network) is not None]
    held = {
        entry.name: _operators(files_of(manifest, entry, subnets, network.name))
        for entry in entries
    }
    skipped_by = {entry.name: _skipped_by(entry, network) or set() for entry in entries}
    times = Counter(modules)
    rows: dict[str, list[UnitInSubnet]] = {name: [] for name in held}
    for unit, module in zip(units, modules, strict=True):
        left = {name: operators.get(module, {}) for name, operators in held.items()}
        skips = {name: unit.name in skipped for name, skipped in skipped_by.items()}
        kept = [sum(left[name].values()) for name, skipped in skips.items() if not skipped]
        for name, row in rows.items():
            seen = bool(held[name]) and times[module] == 1
            row.append(
                _skipped(left[name], max(kept, default=0), seen)
                if skips[name]
                else _kept(left[name], max(kept, default=0), seen)
            )
    return rows


def _skipped_by(entry: ConfigurationEntry, network: NetworkEntry) -> set[str] | None:
    """Returns the units that a configuration skips wherever it runs a network.

    None where it does not run it.
    """
    parts = [set(part.taken(SKIP)) for part in entry.parts if part.network == network.name]
    return set.intersection(*parts) if parts else None


def _operators(subnets: Sequence[Subnet]) -> Mapping[str, Mapping[str, int]]:
    """Returns by module path the operators of all graphs that a configuration runs."""
    found: dict[str, Counter[str]] = {}
    for subnet in subnets:
        for module, operators in subnet.operators.items():
            found.setdefault(module, Counter()).update(operators)
    return found


def _kept(left: Mapping[str, int], most: int, seen: bool) -> UnitInSubnet:
    behind = seen and most and not left
    return UnitInSubnet(Evidence.BEHIND if behind else Evidence.KEPT, {})


def _skipped(left: Mapping[str, int], before: int, seen: bool) -> UnitInSubnet:
    count = sum(left.values())
    if not seen or (count and not before):
        return UnitInSubnet(Evidence.UNSEEN, {})
    if not count:
        return UnitInSubnet(Evidence.GONE, {})
    return UnitInSubnet(Evidence.LESS if count < before else Evidence.WRONG, left)


def section(study: Study) -> Section:
    """Returns the strips of each network; no content where none has units."""
    networks = [one for one in study.manifest.networks if one.options(SKIP)]
    if not networks:
        return Section("units", "Skipped units", "", "")
    found = {one.name: states(study.manifest, one, study.subnets) for one in networks}
    by_macs = any(unit.macs for one in networks for unit in one.options(SKIP))
    evidence = {c.evidence for rows in found.values() for row in rows.values() for c in row}
    legend = (
        element("li", element("i", class_=one.css or "kept"), one.text)
        for one in Evidence
        if one in evidence
    )
    several = len(study.manifest.networks) > 1
    strips = (
        joined(
            element("h3", f"Network {short(one.name, 80)}") if several else "",
            _strips(study, one, found[one.name], by_macs),
            _problems(one, found[one.name]),
            details("The same as a table", _table(study, one, found[one.name]).html()),
        )
        for one in networks
    )
    return Section(
        "units",
        "Skipped units",
        f"One strip for each configuration{' of each network' if several else ''}, the input"
        f" on the left. A unit's width is its share of the"
        f" {'MACs' if by_macs else 'parameters'}; very narrow ones are drawn wider."
        f" {_checked(evidence)}",
        joined(element("ul", *legend, class_="legend", aria_label="Legend"), *strips),
    )


def _strips(
    study: Study,
    network: NetworkEntry,
    rows: Mapping[str, Sequence[UnitInSubnet]],
    by_macs: bool,
) -> Html:
    units = network.options(SKIP)
    sizes = [unit.macs if by_macs else unit.parameters for unit in units]
    mean = sum(sizes) / len(sizes) or 1.0
    # None too narrow to be seen.
    widths = [round(max(size / mean, _LEAST_WIDTH), 3) for size in sizes]
    return element(
        "div",
        *_heads([unit.name for unit in units], widths),
        *(
            _strip_row(study, network, entry, rows[entry.name], widths)
            for entry in study.ordered
            if entry.name in rows
        ),
        class_="strips",
    )


def _heads(names: Sequence[str], widths: Sequence[float]) -> Iterator[Html]:
    """Yields the names above the strips: the modules, and in each the units' own."""
    paths = [name.split(".") for name in names]
    steps = zip(*(path[:-1] for path in paths), strict=False)
    common = sum(1 for _ in takewhile(lambda parts: len({*parts}) == 1, steps))
    # The last part that all have in common stays: it says what the numbers count.
    start = max(common - 1, 0)
    pairs = zip(paths, widths, strict=True)
    groups = [
        (".".join(key), sum(width for _, width in members))
        for key, members in groupby(pairs, key=lambda pair: pair[0][start:-1])
    ]
    lines = []
    if 1 < len(groups) <= _MOST_NAMED or (len(groups) == 1 and groups[0][0]):
        cells = (_head(name, width) for name, width in groups)
        lines.append(element("div", *cells, class_="strip heads"))
    if len(names) <= _MOST_NAMED:
        cells = (_head(path[-1], width) for path, width in zip(paths, widths, strict=True))
        lines.append(element("div", *cells, class_="strip heads small"))
    if lines:
        parts = element("span"), element("div", *lines), element("span")
        yield element("div", *parts, class_="strip-row heads-row", aria_hidden="true")


def _head(name: str, width: float) -> Html:
    return element(
        "span", short(name, 60), style=f"flex-grow:{width:g}", title=short(name, 200)
    )


def _strip_row(
    study: Study,
    network: NetworkEntry,
    entry: ConfigurationEntry,
    row: Sequence[UnitInSubnet],
    widths: Sequence[float],
) -> Html:
    few = len(row) * len(study.ranks) <= _MOST_CELLS
    pieces = _cells(network, row, widths) if few else _runs(row, widths)
    skipped = len(_skipped_by(entry, network) or ())
    macs = count_text(study.manifest.macs(entry))
    told = f"{skipped} of {plural(len(row), 'unit')} skipped, {macs} MACs"
    rank = study.ranks[entry.name]
    return element(
        "div",
        element("div", keyed(short(entry.name, 120), rank), class_="strip-name"),
        element(
            "div", *pieces, class_="strip", style=f"--own-colour:var(--c{rank})", role="img",
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
    network: NetworkEntry, row: Sequence[UnitInSubnet], widths: Sequence[float]
) -> Iterator[Html]:
    for cell, width, unit in zip(row, widths, network.options(SKIP), strict=True):
        left = ", ".join(f"{count} {name}" for name, count in cell.left.items())
        words = f"{cell.evidence.text}{f' ({left})' if left else ''}"
        sizes = f"{count_text(unit.macs)} MACs, {count_text(unit.parameters)} parameters"
        title = f"{short(unit.name, 80)}: {words}; {sizes}"
        style = f"flex-grow:{width:g}"
        yield element("i", class_=cell.evidence.css, style=style, title=title)


def _runs(row: Sequence[UnitInSubnet], widths: Sequence[float]) -> Iterator[Html]:
    """Yields neighbours of one kind as one: single units could not be told apart."""
    pairs = zip(row, widths, strict=True)
    for evidence, run in groupby(pairs, key=lambda pair: pair[0].evidence):
        width = sum(width for _, width in run)
        yield element("i", class_=evidence.css, style=f"flex-grow:{width:g}")


def _checked(found: set[Evidence]) -> str:
    if Evidence.UNSEEN in found:
        return "The graphs do not name the module of every node, so not all could be checked."
    if not found & {Evidence.GONE, Evidence.LESS, Evidence.WRONG}:
        return "No configuration skips anything."
    return (
        "This is read from the graphs, not only from the manifest: of a skipped unit no node"
        " is left, or only its shortcut and what follows the join."
    )


def _problems(network: NetworkEntry, rows: Mapping[str, Sequence[UnitInSubnet]]) -> Html:
    found = [
        f"{short(name, 80)}: {short(unit.name, 80)}"
        for name, row in rows.items()
        for unit, cell in zip(network.options(SKIP), row, strict=True)
        if cell.evidence is Evidence.WRONG
    ]
    if not found:
        return Html("")
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    said = (
        "The manifest says that these units are skipped, but all their nodes are there:"
        f" {'; '.join(found[:10])}{more}. Build the bundle again."
    )
    return element("p", said, class_="warn")


def _table(
    study: Study, network: NetworkEntry, rows: Mapping[str, Sequence[UnitInSubnet]]
) -> Table:
    units = network.options(SKIP)
    entries = [entry for entry in study.ordered if entry.name in rows]
    if len(units) * len(entries) > _MOST_IN_TABLE:
        return Table(
            "Units that are skipped",
            ("configuration", "units"),
            tuple((e.name, escaped(_names(e, network))) for e in entries),
        )
    return Table(
        "Units in network order; * leaves its shortcut",
        ("unit", ">MACs", ">parameters", *(entry.name for entry in entries)),
        tuple(
            (
                unit.name, count_text(unit.macs), count_text(unit.parameters),
                *(rows[entry.name][index].evidence.word for entry in entries),
            )
            for index, unit in enumerate(units)
        ),
    )  # fmt: skip


def _names(entry: ConfigurationEntry, network: NetworkEntry) -> str:
    skipped = _skipped_by(entry, network) or ()
    return ", ".join(u.name for u in network.options(SKIP) if u.name in skipped) or "none"

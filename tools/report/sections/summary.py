"""The head of the page, and the configurations in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import count_text, plural, short, size_text
from skipc.tools.report.subnets import engines_bytes
from skipc.tools.report.texts import NOTHING, milliseconds, number, percent, ratio
from skipc.tools.web.html import Html, Table, element, joined, keyed
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.tools.report.measurement import Measurement
    from skipc.tools.report.study import Study
    from skipc.tools.web.html import Part

_LONGEST_TITLE = 160
_MEASURED = (">MACs", ">median", ">99 %", ">over the reference", ">energy", ">error", "graph")


def header(study: Study) -> Html:
    """Returns the name, what it is in one sentence, and the key figures."""
    manifest = study.manifest
    whose = manifest.provenance
    checkpoints = len(manifest.networks)
    said = "one checkpoint" if checkpoints == 1 else f"{checkpoints} checkpoints"
    axes = short(", ".join(manifest.axes), _LONGEST_TITLE)
    sentence = (
        f"{short(whose.model, _LONGEST_TITLE)}, compiled from {said} to"
        f" {plural(len(manifest.configurations), 'configuration')}"
        f"{f' (axes: {axes})' if axes else ''}; every weight is stored once."
    )
    return joined(
        element("p", "skipc report · family bundle", class_="eyebrow"),
        element("h1", short(manifest.name, _LONGEST_TITLE)),
        element("p", sentence, class_="say"),
        element("dl", *_figures(study), class_="figures"),
    )


def section(study: Study) -> Section:
    """Returns the configurations in numbers, with a link to each one's graph."""
    first = study.measurements[0] if study.measurements else None
    rows = [_row(study, entry, first) for entry in study.ordered]
    # A column in which nothing is known is left out.
    named = ("configuration", ">accuracy", *(short(a, 40) for a in study.manifest.axes))
    every = (*named, *_MEASURED)
    columns = [i for i in range(len(every)) if any(row[i] != NOTHING for row in rows)]
    headings = [every[i] for i in columns]
    if first is not None and first.energy_is_estimated:
        headings = [f"{text}, estimate" if text == ">energy" else text for text in headings]
    told = tuple(tuple(row[i] for i in columns) for row in rows)
    where = "" if first is None else f" Latency: {first.label} ({first.origin.value})."
    note = joined(
        "A graph is an ONNX file of the bundle, next to its weights. To look at it: drag it"
        " onto netron.app, or ",
        element("code", "pip install netron"),
        " and ",
        element("code", "netron FILE.onnx"),
        ". This page loads nothing by itself.",
    )
    order = (
        "From the most to the least accurate."
        if study.knows_accuracy
        else "From the most to the least work: the bundle does not know the accuracy of each."
    )
    return Section(
        "configurations",
        "Configurations",
        f"{order} A configuration keeps its colour in every chart.",
        joined(
            Table(
                f"{plural(len(rows), 'configuration')}.{where}", tuple(headings), told
            ).html(),
            element("p", note, class_="note"),
        ),
    )


def _row(
    study: Study, entry: ConfigurationEntry, first: Measurement | None
) -> tuple[Part, ...]:
    point = None if first is None else first.point(entry.name)
    quantiles = {} if point is None else {one.label: one.ms for one in point.quantiles}
    is_reference = first is not None and entry.name == first.reference
    energy = None if point is None else point.energy
    return (
        keyed(short(entry.name, 120), study.ranks[entry.name]),
        percent(entry.metrics.get("accuracy")),
        *(short(entry.text(axis), 60) or NOTHING for axis in study.manifest.axes),
        count_text(study.manifest.macs(entry)),
        milliseconds(None if point is None else point.median_ms),
        milliseconds(quantiles.get("99 %")),
        "1, the reference" if is_reference else ratio(None if point is None else point.ratio),
        NOTHING if energy is None else f"{number(energy.mean_mj)} mJ",
        f"{study.manifest.verification(entry).relative_error:.0e}",
        joined(*_graphs(study, entry)),
    )


def _graphs(study: Study, entry: ConfigurationEntry) -> Iterator[Html]:
    for index, graph in enumerate(study.manifest.graphs_of(entry)):
        if index:
            yield element("span", ", ")
        yield element("a", short(graph.file, 40), href=study.links[graph.name])


def _figures(study: Study) -> list[Html]:
    manifest, sharing = study.manifest, study.sharing
    entries = manifest.configurations
    offered = ", ".join(
        f"{short(axis, 40)}: {plural(len(manifest.options(axis)), 'option')}"
        for axis in manifest.axes
    )
    found = [_figure("Configurations", str(len(entries)), offered or "nothing to choose")]
    if study.knows_accuracy:
        values = [entry.metrics["accuracy"] for entry in entries]
        # Each end is rounded by itself, the unit is said once.
        spread = f"{_span([100 * value for value in values], lambda v: f'{v:.1f}')} %"
        drop = 100 * (max(values) - min(values))
        found.append(_figure("Accuracy", spread, f"{drop:.1f} points between them"))
    if study.measurements:
        found.append(_latency(study.measurements[0]))
    built = [engines_bytes(manifest, engines) for engines in study.engines]
    total = sharing.bundle_bytes + sum(size for size, _ in built)
    plain = sharing.plain_bytes + sum(alone for _, alone in built)
    saved = 1 - total / plain if plain else 0
    # Of a tiny network the pages that tensors are aligned to cost more than sharing saves.
    gain = f"{saved:.0%} saved" if saved >= 0 else f"{-saved:.0%} more than these"
    what = "Graphs, weights and engines" if built else "Graphs and weights"
    more = f"{size_text(plain)} without sharing: {gain}"
    found.append(_figure(what, size_text(total), more))
    return found


def _latency(one: Measurement) -> Html:
    medians = [point.median_ms for point in one.points if point.median_ms is not None]
    if not medians:
        return _figure("Latency", NOTHING, "only loading was timed")
    gain = (
        f"up to {max(medians) / min(medians):.1f} times as fast; " if len(medians) > 1 else ""
    )
    return _figure(
        "Median latency",
        f"{_span(medians, lambda ms: number(ms, 2))} ms",
        f"{gain}{short(one.label, 60)}",
    )


def _span(values: list[float] | list[int], shown: object) -> str:
    assert callable(shown)
    low, high = shown(min(values)), shown(max(values))
    return low if low == high else f"{low}\u2013{high}"


def _figure(term: str, value: str, more: str) -> Html:
    return element(
        "div",
        element("dt", term),
        element("dd", value, class_="value"),
        element("dd", more, class_="more"),
    )

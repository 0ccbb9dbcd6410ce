"""The head of the page, and the configurations in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import count_text, plural, short, size_text
from skipc.tools.report.subnets import engines_bytes
from skipc.tools.report.texts import NOTHING, milliseconds, number, percent, ratio
from skipc.tools.web.html import Html, Table, element, joined, keyed, note
from skipc.tools.web.page import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.tools.report.measurement import Measurement
    from skipc.tools.report.study import Study
    from skipc.tools.web.html import Part

_LONGEST_TITLE = 160


def header(study: Study) -> Html:
    """Returns the name, what it is in one sentence, and the key figures."""
    manifest = study.manifest
    checkpoints = len({p.network for one in manifest.configurations for p in one.parts})
    said = "one checkpoint" if checkpoints == 1 else f"{checkpoints} checkpoints"
    axes = short(", ".join(manifest.axes), _LONGEST_TITLE)
    models = ", ".join(network.model for network in manifest.networks)
    sentence = (
        f"{short(models, _LONGEST_TITLE)}, compiled from {said} to"
        f" {plural(len(manifest.configurations), 'configuration')}"
        f"{f' (axes: {axes})' if axes else ''}; every weight is stored once."
    )
    figures = (
        element(
            "div",
            element("dt", term),
            element("dd", value, class_="value"),
            element("dd", more, class_="more"),
        )
        for term, value, more in _figures(study)
    )
    return joined(
        element("p", "skipc report · family bundle", class_="eyebrow"),
        element("h1", short(manifest.name, _LONGEST_TITLE)),
        element("p", sentence, class_="say"),
        element("dl", *figures, class_="figures"),
    )


def section(study: Study) -> Section:
    """Returns the configurations in numbers, with a link to each one's graph."""
    first = study.measurements[0] if study.measurements else None
    energy = ">energy, estimate" if first and first.energy_is_estimated else ">energy"
    every = [
        ("configuration", "networks", ">accuracy",
         *(short(axis, 40) for axis in study.manifest.axes),
         ">MACs", ">median", ">99 %", ">over the reference", energy, ">error", "graph"),
        *(_row(study, entry, first) for entry in study.ordered),
    ]  # fmt: skip
    # A column in which nothing is known is left out.
    columns = [cells for cells in zip(*every, strict=True) if {*cells[1:]} != {NOTHING}]
    headings, *rows = zip(*columns, strict=True)
    where = "" if first is None else f" Latency: {first.label} ({first.origin.value})."
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
                f"{plural(len(rows), 'configuration')}.{where}", headings, tuple(rows)
            ).html(),
            note(
                "A graph is an ONNX file of the bundle, next to its weights. To look at it:"
                " drag it onto netron.app, or ",
                element("code", "pip install netron"),
                " and ",
                element("code", "netron FILE.onnx"),
                ". This page loads nothing by itself.",
            ),
        ),
    )


def _row(
    study: Study, entry: ConfigurationEntry, first: Measurement | None
) -> tuple[Part, ...]:
    points = () if first is None else first.points
    point = next((p for p in points if p.configuration == entry.name), None)
    found = None if point is None else point.found
    energy = None if found is None else found.energy
    is_reference = first is not None and entry.name == first.reference
    files = {g.file: study.links[g.name] for g in study.manifest.graphs_of(entry)}
    graphs = (
        joined(", " if i else "", element("a", short(file, 40), href=link))
        for i, (file, link) in enumerate(files.items())
    )
    return (
        keyed(short(entry.name, 120), study.ranks[entry.name]),
        short(entry.text(), 120)
        if entry.routed
        else " > ".join(short(p.network, 40) for p in entry.parts if p.network) or NOTHING,
        percent(entry.metrics.get("accuracy")),
        *(short(entry.text(axis), 60) or NOTHING for axis in study.manifest.axes),
        count_text(study.manifest.macs(entry)),
        milliseconds(None if point is None else point.median_ms),
        milliseconds(None if point is None else point.quantiles.get("99 %")),
        "1, the reference"
        if is_reference
        else ratio(None if found is None else found.over_reference),
        NOTHING if energy is None else f"{number(energy.mean_mj)} mJ",
        f"{study.manifest.verification(entry).relative_error:.0e}",
        joined(*graphs),
    )


def _figures(study: Study) -> Iterator[tuple[str, str, str]]:
    """Yields what each key figure is, its value, and what is said of it."""
    manifest, sharing = study.manifest, study.sharing
    entries = manifest.configurations
    offered = ", ".join(
        f"{short(axis, 40)}: {plural(len(manifest.options(axis)), 'option')}"
        for axis in manifest.axes
    )
    yield "Configurations", str(len(entries)), offered or "nothing to choose"
    if study.knows_accuracy:
        values = [100 * entry.metrics["accuracy"] for entry in entries]
        # Each end is rounded by itself, the unit is said once.
        spread = f"{_span(values, lambda value: f'{value:.1f}')} %"
        yield "Accuracy", spread, f"{max(values) - min(values):.1f} points between them"
    if study.measurements:
        one = study.measurements[0]
        medians = [point.median_ms for point in one.points if point.median_ms is not None]
        if medians:
            gain = f"up to {max(medians) / min(medians):.1f} times as fast; "
            more = f"{gain if len(medians) > 1 else ''}{short(one.label, 60)}"
            yield "Median latency", f"{_span(medians, lambda ms: number(ms, 2))} ms", more
        else:
            yield "Latency", NOTHING, "only loading was timed"
    built = [engines_bytes(manifest, engines) for engines in study.engines]
    total = sharing.bundle_bytes + sum(size for size, _ in built)
    plain = sharing.plain_bytes + sum(alone for _, alone in built)
    saved = 1 - total / plain if plain else 0
    # Of a tiny network the pages that tensors are aligned to cost more than sharing saves.
    gain = f"{saved:.0%} saved" if saved >= 0 else f"{-saved:.0%} more than these"
    what = "Graphs, weights and engines" if built else "Graphs and weights"
    yield what, size_text(total), f"{size_text(plain)} without sharing: {gain}"


def _span(values: Sequence[float], shown: Callable[[float], str]) -> str:
    low, high = shown(min(values)), shown(max(values))
    return low if low == high else f"{low}\u2013{high}"

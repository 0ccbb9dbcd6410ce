"""What each configuration costs, a series for each device: milliseconds or millijoules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.tools.report.sections.marks import measured_hover
from skipc.tools.report.texts import chosen, exact, number, percent
from skipc.tools.web.chart import hover

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.tools.report.study import Study


@dataclass(frozen=True, slots=True)
class CostSeries:
    """Configurations with what each costs.

    Attributes:
        label: The series' name.
        reference: The configuration that ratios are over.
        entries: The configurations, the cheapest first.
        costs: What each costs, above zero.
        hovers: What hovering over each shows.
    """

    label: str
    reference: str
    entries: tuple[ConfigurationEntry, ...]
    costs: tuple[float, ...]
    hovers: tuple[str, ...]


def latency_series(study: Study) -> tuple[CostSeries, ...]:
    """Returns median latencies in milliseconds, of each measurement that timed calls."""
    found = []
    for one in study.measurements:
        costs = {p.configuration: p.median_ms for p in one.points if p.median_ms is not None}
        hovers = {p.configuration: measured_hover(study, one, p) for p in one.points}
        if costs:
            found.append(_series(study, one.label, one.reference, costs, hovers))
    return tuple(found)


def energy_series(study: Study) -> tuple[CostSeries, ...]:
    """Returns millijoules per call, of each measurement with a meter, else the front's own."""
    found = []
    for one in study.measurements:
        costs = {p.configuration: p.energy.mean_mj for p in one.points if p.energy is not None}
        hovers = {p.configuration: measured_hover(study, one, p) for p in one.points}
        mark = " (estimate)" if one.energy_is_estimated else ""
        if costs:
            found.append(_series(study, one.label + mark, one.reference, costs, hovers))
    costs = {e.name: e.metrics.get("energy_mj", 0.0) for e in study.ordered}
    if not found and min(costs.values()) > 0:
        hovers = {e.name: _front_hover(e) for e in study.ordered}
        found.append(_series(study, "the front's energy_mj", study.reference, costs, hovers))
    return tuple(found)


def _series(
    study: Study,
    label: str,
    reference: str,
    costs: Mapping[str, float],
    hovers: Mapping[str, str],
) -> CostSeries:
    entries = [entry for entry in study.ordered if entry.name in costs]
    # Of equal costs the more accurate first.
    entries.sort(key=lambda entry: (costs[entry.name], study.ranks[entry.name]))
    return CostSeries(
        label,
        reference,
        tuple(entries),
        tuple(exact(costs[entry.name]) for entry in entries),
        tuple(hovers[entry.name] for entry in entries),
    )


def _front_hover(entry: ConfigurationEntry) -> str:
    return hover(
        entry.name,
        f"accuracy {percent(entry.metrics.get('accuracy'))}",
        f"{number(entry.metrics['energy_mj'])} mJ per call, as the front says",
        chosen(entry),
    )

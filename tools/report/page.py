"""The report as a page: which sections it has, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections import (
    bars,
    front,
    latency,
    provenance,
    routes,
    sizes,
    summary,
    switching,
    units,
    verification,
    weights,
)
from skipc.tools.web.page import Page

if TYPE_CHECKING:
    from collections.abc import Callable

    from skipc.tools.report.study import Study
    from skipc.tools.web.page import Section

SECTIONS: tuple[Callable[[Study], Section], ...] = (
    summary.section,
    front.section,
    routes.section,
    units.section,
    weights.section,
    bars.memory_section,
    latency.section,
    sizes.section,
    bars.phases_section,
    latency.plain_section,
    switching.section,
    bars.energy_section,
    verification.section,
    provenance.section,
)
"""In the order of the page; one without content is left out."""


def page_of(study: Study) -> Page:
    """Returns the page of a report."""
    return Page(
        f"{short(study.manifest.name, 80)} · skipc report",
        summary.header(study),
        [section for make in SECTIONS if (section := make(study)).content],
        len(study.ranks),
    )

"""The report as a page: which sections it has, in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections import (
    bars,
    decided,
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

STORY: tuple[Callable[[Study], Section], ...] = (
    front.section,
    summary.section,
    weights.section,
    bars.memory_section,
    latency.section,
    bars.energy_section,
    routes.section,
    decided.section,
    verification.section,
)
"""What to choose, what it costs, how inputs travel, how sure it is: in the page's order."""

DETAILS: tuple[Callable[[Study], Section], ...] = (
    units.section,
    sizes.section,
    bars.phases_section,
    latency.plain_section,
    switching.section,
    provenance.section,
)
"""What follows folded."""

SECTIONS = (*STORY, *DETAILS)
"""All of them; one without content is left out."""


def page_of(study: Study) -> Page:
    """Returns the page of a report."""
    return Page(
        f"{short(study.manifest.name, 80)} · skipc report",
        summary.header(study),
        [
            replace(section, folded=make in DETAILS)
            for make in SECTIONS
            if (section := make(study)).content
        ],
        len(study.ranks),
    )

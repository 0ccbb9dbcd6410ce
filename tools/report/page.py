"""The report as a page: which sections it has, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.tools.console import short
from skipc.tools.report.sections import (
    energy,
    front,
    latency,
    memory,
    phases,
    plain,
    provenance,
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

SECTIONS: tuple[Callable[[Study], Section | None], ...] = (
    summary.section,
    front.section,
    units.section,
    weights.section,
    memory.section,
    latency.section,
    phases.section,
    plain.section,
    switching.section,
    energy.section,
    verification.section,
    provenance.section,
)
"""In the order of the page; a section that has nothing to show returns None."""


def page_of(study: Study) -> Page:
    """Returns the page of a report."""
    found = [make(study) for make in SECTIONS]
    return Page(
        title=f"{short(study.manifest.name, 80)} · skipc report",
        header=summary.header(study),
        sections=[section for section in found if section is not None],
        ranks=len(study.ranks),
    )

"""What can be wrong with what a report is asked for."""

from __future__ import annotations

from skipc.runtime.errors import SkipcError


class ReportError(SkipcError):
    """The results do not belong to the bundle, or hold what nothing measured."""

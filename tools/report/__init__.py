"""`skipc report`: a bundle and what was measured of it, as one page."""

from __future__ import annotations

from skipc.runtime.errors import SkipcError


class ReportError(SkipcError):
    """The results do not belong to the bundle, or hold what nothing measured."""

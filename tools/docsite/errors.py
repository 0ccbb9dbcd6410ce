"""What goes wrong while the site is built."""

from __future__ import annotations

from skipc.runtime.errors import SkipcError


class DocsError(SkipcError):
    """A page cannot be made as it is written."""

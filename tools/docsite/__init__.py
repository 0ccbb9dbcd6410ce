"""The documentation as a site: ``docs/`` and what is generated, built by mkdocs.

``staging`` writes the pages that mkdocs reads: links made to fit, markers replaced by what is
generated (``reference``) or lies elsewhere. mkdocs needs no plugin of ours,
so that another builder that reads ``mkdocs.yml`` can take its place.
"""

from __future__ import annotations

from skipc.runtime.errors import SkipcError


class DocsError(SkipcError):
    """A page cannot be made as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.policy.sources import nodes_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="package")
def sources_forgotten() -> Iterator[None]:
    """Lets go of a million nodes, which every collection of what comes later would look at."""
    yield
    text_of.cache_clear()
    nodes_of.cache_clear()

"""What the tests of backends share."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def small_collections() -> Iterator[None]:
    """Leaves what earlier tests made out of collections: these tests collect often.

    With PyTorch and a suite's other tests in the process, one takes a second.
    """
    gc.freeze()
    yield
    gc.unfreeze()

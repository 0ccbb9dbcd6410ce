"""PyTorch's table of ONNX operators, made once for all exports of a process."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="session")
def operators_once() -> Iterator[None]:
    """Keeps the table that each export would make anew from 500 functions' sources.

    That is a third of the time that the export of a small network takes.
    """
    kept = cache(ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(kept))
        yield

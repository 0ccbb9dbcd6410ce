"""PyTorch's tables of operators, made once for all exports of a process."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
import torch._export.utils as export_utils
from torch.onnx._internal.exporter._registration import ONNXRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="session")
def operators_once() -> Iterator[None]:
    """Keeps the tables that each export would make anew.

    One is made from 500 functions' sources, the other by asking for each operator whether it
    can be taken apart: together half the time that the export of a small network takes.
    """
    kept = cache(ONNXRegistry.from_torchlib)
    composed = cache(export_utils._collect_all_valid_cia_ops_for_namespace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(kept))
        patch.setattr(export_utils, "_collect_all_valid_cia_ops_for_namespace", composed)
        yield

"""PyTorch's tables of operators and types, made once for all exports of a process."""

from __future__ import annotations

import typing
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch._export.serde.serialize as serialize
import torch._export.utils as export_utils
from torch.onnx._internal.exporter._registration import ONNXRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="session")
def operators_once() -> Iterator[None]:
    """Keeps the tables that each export, or each program that is read, would make anew.

    One is made from 500 functions' sources, the next by asking for each operator whether it
    can be taken apart: together half the time that the export of a small network takes. What
    a program's classes hold is looked up for each of its values: half the time of reading.
    """
    kept = cache(ONNXRegistry.from_torchlib)
    composed = cache(export_utils._collect_all_valid_cia_ops_for_namespace)

    @cache
    def hints_of(cls: type) -> dict[str, object]:
        return typing.get_type_hints(cls, globalns=vars(serialize.schema))

    def get_type_hints(cls: type, globalns: dict[str, object]) -> dict[str, object]:
        assert globalns is vars(serialize.schema)
        return hints_of(cls)

    once = SimpleNamespace(**{**vars(typing), "get_type_hints": get_type_hints})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(kept))
        patch.setattr(export_utils, "_collect_all_valid_cia_ops_for_namespace", composed)
        patch.setattr(serialize, "typing", once)
        yield

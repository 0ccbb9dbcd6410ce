"""PyTorch's tables of operators and types, made once for all exports of a process."""

from __future__ import annotations

import typing
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch._export.serde.serialize as serialize
import torch._export.utils as export_utils
import torch.export.exported_program as exported_program
from torch._subclasses.fake_impls import op_implementations_dict as fakes
from torch.onnx._internal.exporter import _decomp
from torch.onnx._internal.exporter._registration import ONNXRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from torch._ops import OpOverload

    Kernels = dict[typing.Any, typing.Any]
    Ways = Mapping[OpOverload, Callable[..., typing.Any]]


@pytest.fixture(autouse=True, scope="session")
def operators_once() -> Iterator[None]:
    """Keeps the tables that each export, or each program that is read, would make anew.

    One is made from 500 functions' sources, the next by asking for each operator whether it
    can be taken apart: together half the time that the export of a small network takes. What
    a program's classes hold is looked up for each of its values: half the time of reading.
    While a program is decomposed, 500 operators are changed: a sixth of what is left.
    """
    kept = cache(ONNXRegistry.from_torchlib)
    composed = cache(export_utils._collect_all_valid_cia_ops_for_namespace)
    ways = cache(_decomp.create_onnx_friendly_decomposition_table)

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
        patch.setattr(
            _decomp,
            "create_onnx_friendly_decomposition_table",
            lambda operators: dict(ways(frozenset(operators))),
        )
        override = exported_program._override_composite_implicit_decomp
        patch.setattr(
            exported_program, "_override_composite_implicit_decomp", _changed_again(override)
        )
        yield


def _changed_again(
    override: Callable[[Ways], AbstractContextManager[None]],
) -> Callable[[Ways], AbstractContextManager[None]]:
    """Returns PyTorch's change of operators, which makes the functions that it sets once.

    Args:
        override: Changes operators as long as it is open, given how each is decomposed.
    """
    made: dict[object, tuple[Kernels, Kernels, object]] = {}

    def changed(operator: OpOverload, way: object) -> bool:
        before, *_ = made.get((operator, way), (None,))
        return operator not in fakes and before == operator.py_kernels

    def become(operator: OpOverload, kernels: Kernels) -> None:
        operator.py_kernels.clear()
        operator.py_kernels.update(kernels)
        operator._dispatch_cache.clear()

    @contextmanager
    def again(ways: Ways) -> Iterator[None]:
        if not all(changed(*each) for each in ways.items()):
            before = {each: dict(each.py_kernels) for each in ways if each not in fakes}
            with override(ways):
                for each, kernels in before.items():
                    made[each, ways[each]] = kernels, dict(each.py_kernels), fakes[each]
                yield
            return
        for each in ways.items():
            _, kernels, fakes[each[0]] = made[each]
            become(each[0], kernels)
        try:
            yield
        finally:
            for each in ways.items():
                become(each[0], made[each][0])
                del fakes[each[0]]

    return again

"""A machine with a GPU: the doubles put where the real libraries are imported from."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.doubles.cudart import FakeCudart
from tests.doubles.device import FakeDevice
from tests.doubles.tensorrt import FakeTensorRT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@dataclass(frozen=True)
class FakeGpu:
    """The three doubles over one device."""

    device: FakeDevice
    cudart: FakeCudart
    tensorrt: FakeTensorRT

    def check(self) -> None:
        """Asserts that nothing was misused and nothing is left."""
        self.tensorrt.log = None
        gc.collect()
        assert self.device.violations == []
        assert self.device.left() == []


@contextmanager
def fake_gpu(
    patch: pytest.MonkeyPatch,
    memory_bytes: int = 1 << 30,
    version: str = "10.3.0",
    *,
    addresses: bool = True,
) -> Iterator[FakeGpu]:
    """Yields the doubles, importable as ``tensorrt`` and ``cuda.bindings.runtime``."""
    device = FakeDevice(memory_bytes)
    cudart = FakeCudart(device)
    tensorrt = FakeTensorRT(device, version, addresses=addresses)
    with patch.context() as inner:
        inner.setitem(sys.modules, "tensorrt", tensorrt)
        inner.setitem(sys.modules, "cuda.bindings.runtime", cudart)
        yield FakeGpu(device, cudart, tensorrt)

"""Memory of ours as a value of ONNX Runtime's, which owns none of it.

A session takes only initializers that own no memory. What is handed over by DLPack
(``dlpack.h``, version 0.8) owns none, and may lie on any device.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np

from ..cuda.device_arrays import DLTensor

_DEVICES = {"cpu": 1, "cuda": 2}  # kDLCPU, kDLCUDA
_KINDS = {"i": 0, "u": 1, "f": 2, "b": 1}  # ONNX Runtime takes a bool as uint8
_NAME = b"dltensor"


class _Managed(ctypes.Structure):
    """``DLManagedTensor``: a tensor, and who is told when nobody needs it."""

    _fields_ = (
        ("tensor", DLTensor),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )


_held: dict[int, tuple[_Managed, Any]] = {}


def _forget(address: int) -> None:
    _held.pop(address, None)


_let_go = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_forget)


def value_at(address: int, shape: tuple[int, ...], dtype: str, kind: str) -> Any:
    """Returns an ``OrtValue`` of contiguous memory, which must outlive it.

    Args:
        address: Where it begins.
        shape: Its shape.
        dtype: Its element type, by NumPy's name.
        kind: The device that it lies on, ``cpu`` or ``cuda``.
    """
    element, sizes = np.dtype(dtype), (ctypes.c_int64 * len(shape))(*shape)
    tensor = DLTensor(
        data=address,
        device_type=_DEVICES[kind],
        ndim=len(shape),
        code=_KINDS[element.kind],
        bits=element.itemsize * 8,
        lanes=1,
        shape=sizes,
    )
    managed = _Managed(tensor=tensor, deleter=_let_go)
    place = ctypes.addressof(managed)
    _held[place] = managed, sizes
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    capsule = new_capsule(place, _NAME, None)
    inner = importlib.import_module("onnxruntime.capi._pybind_state").OrtValue
    value = inner.from_dlpack(capsule, element.kind == "b")
    return importlib.import_module("onnxruntime").OrtValue(value)

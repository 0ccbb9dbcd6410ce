"""Arrays that lie on the GPU, of whatever library, taken and given without a copy.

Two protocols: ``__cuda_array_interface__`` (version 3, Numba's documentation) and DLPack
(``dlpack.h``, version 1.0). torch, CuPy, Numba and PyCUDA speak at least one.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import InputError, reason_of
from .. import comes_from

_DLPACK_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged
_DLPACK_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}

UNSYNCHRONIZED = -1
"""In place of a stream: the memory will not be read (DLPack's ``stream=-1``)."""


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """A contiguous array in device memory.

    As an output it is valid until the same engine's next call or ``close``: copy it, or use it
    on the GPU before. It becomes complete on its ``stream``; None where it is complete
    already. Its ``owner`` must live as long as the memory is used.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: int | None = None
    owner: object = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        """What ``torch.as_tensor(array, device="cuda")`` and ``cupy.asarray`` read."""
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": self.stream,
        }


def is_device_array(value: object) -> bool:
    """Tells whether ``value`` says that it lies on a CUDA device."""
    if hasattr(value, "__cuda_array_interface__"):
        return True
    locate = getattr(value, "__dlpack_device__", None)
    return locate is not None and locate()[0] in _DLPACK_CUDA


def borrowed(name: str, value: Any, stream: int) -> DeviceArray:
    """Returns where the memory of ``value`` lies, which is kept alive by the result.

    DLPack is preferred: its producer makes ``stream`` wait for the work that fills the
    memory. ``__cuda_array_interface__`` says it only from version 3 on, and torch's is 2.

    Raises:
        InputError: The array is not contiguous, lies on another device than the first, has
            a type that NumPy does not know, or its library refuses; named with ``name``.
    """
    try:
        if hasattr(value, "__dlpack_device__"):
            device = value.__dlpack_device__()[1]
            if device != 0:
                raise InputError(
                    f"input {name!r} lies on CUDA device {device}; the engine runs on device"
                    " 0. Move it there, or choose another with CUDA_VISIBLE_DEVICES."
                )
            return _from_dlpack(name, value.__dlpack__(stream=stream))
        described = value.__cuda_array_interface__
        shape, dtype = tuple(described["shape"]), np.dtype(described["typestr"])
        _check_contiguous(name, shape, described.get("strides"), dtype.itemsize)
        address, stream = int(described["data"][0]), described.get("stream")
        return DeviceArray(address, shape, dtype, stream, owner=value)
    except InputError:
        raise
    except Exception as cause:  # whatever the other library raises
        if not comes_from(cause, type(value).__module__.partition(".")[0]):
            raise
        raise InputError(
            f"input {name!r} lies on the GPU and cannot be read there: {reason_of(cause)}"
        ) from cause


class DLTensor(ctypes.Structure):
    """``DLTensor`` of DLPack (``dlpack.h``, version 0.8)."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _from_dlpack(name: str, capsule: object) -> DeviceArray:
    """Reads a capsule without consuming it: its own destructor frees it, when we let go."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = (
        ctypes.c_void_p,
        (ctypes.py_object, ctypes.c_char_p),
    )
    # ``DLManagedTensor`` begins with its ``DLTensor``.
    tensor = DLTensor.from_address(pointer_of(capsule, b"dltensor"))
    if tensor.code not in _DLPACK_KINDS or tensor.lanes != 1:
        raise InputError(
            f"input {name!r}: its element type (DLPack code {tensor.code}, {tensor.bits}"
            " bits) has no NumPy counterpart. Convert it to the network's input type."
        )
    dtype = np.dtype(f"{_DLPACK_KINDS[tensor.code]}{tensor.bits // 8}")
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = None
    if tensor.strides:
        strides = tuple(tensor.strides[axis] * dtype.itemsize for axis in range(tensor.ndim))
    _check_contiguous(name, shape, strides, dtype.itemsize)
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, shape, dtype, owner=capsule)


def _check_contiguous(
    name: str, shape: tuple[int, ...], strides: tuple[int, ...] | None, item_bytes: int
) -> None:
    expected = item_bytes
    for size, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if size > 1 and stride != expected:
            raise InputError(
                f"input {name!r} is not contiguous: strides {strides} of the shape {shape}."
                " Make it so on the GPU first, with .contiguous() or ascontiguousarray."
            )
        expected *= size

"""Tensors in half precision: each is cast once for the whole family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import ml_dtypes
import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from numpy.typing import NDArray


@final
class HalfTensors:
    """Casts float32 tensors to ``FLOAT16`` or ``BFLOAT16``, and says which do not fit.

    Configurations share tensor objects, so that a tensor is found again by its identity;
    whether it fits depends on nothing but its numbers.

    Attributes:
        kept: Why a tensor stays float32, by its name, in the order in which they were met.
    """

    def __init__(self, dtype: ir.DataType) -> None:
        self.dtype = dtype
        self.kept: dict[str, str] = {}
        self._limits: Any = ml_dtypes.finfo(dtype.numpy())  # type: ignore[no-untyped-call]
        # The tensor is kept so that its id stays its own.
        self._known: dict[int, tuple[ir.TensorProtocol, ir.TensorProtocol | str]] = {}

    def cast(self, tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol | None:
        """Returns ``tensor`` in half precision, the same object every time; None if unfit.

        That it is unfit is noted under its ``name`` in the graph.
        """
        if id(tensor) not in self._known:
            self._known[id(tensor)] = (tensor, self._cast(tensor))
        found = self._known[id(tensor)][1]
        if isinstance(found, str):
            self.kept.setdefault(name, found)
            return None
        return found

    def is_normal(self, tensor: ir.TensorProtocol) -> bool:
        """Tells whether no number gets lost or coarse near zero, as a scale must not."""
        size = np.abs(tensor.numpy())
        return bool(np.all((size >= float(self._limits.smallest_normal)) | (size == 0)))

    def _cast(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol | str:
        wide = tensor.numpy()
        narrow = self._rounded(wide)
        if np.any(np.isinf(narrow) & np.isfinite(wide)):
            largest = float(np.max(np.abs(wide[np.isfinite(wide)])))
            return f"{largest:.3g} is beyond {float(self._limits.max):.3g}"
        if np.any(wide) and not np.any(narrow):
            largest = float(np.max(np.abs(wide)))
            return f"nothing above {largest:.3g} is in it, so all of it would become zero"
        return ir.Tensor(narrow, dtype=self.dtype)

    def _rounded(self, wide: NDArray[Any]) -> NDArray[Any]:
        if wide.size == 1 and wide.reshape(-1)[0] == np.finfo(np.float32).smallest_subnormal:
            # KeepZeroPaddingPass stands this in for zero.
            return np.full(wide.shape, self._limits.smallest_subnormal, self.dtype.numpy())
        with np.errstate(over="ignore", under="ignore"):
            return wide.astype(self.dtype.numpy())

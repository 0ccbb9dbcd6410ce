"""The axes: kinds of decisions that are made when building, written out in one tuple."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.axes.precision import PrecisionAxis
from skipc.compiler.axes.skip import SkipAxis

if TYPE_CHECKING:
    from skipc.compiler.axes.axis import Axis

AXES: tuple[Axis[Any, Any], ...] = (SkipAxis(), PrecisionAxis())
"""In the order in which they are applied. Always read as ``axes.AXES``."""

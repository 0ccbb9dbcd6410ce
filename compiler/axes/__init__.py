"""The axes: kinds of decisions that are made when building, written out in one tuple."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.axes.exits import ExitsAxis
from skipc.compiler.axes.precision import PrecisionAxis
from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.axes.width import WidthAxis

if TYPE_CHECKING:
    from skipc.compiler.axes.axis import Axis

AXES: tuple[Axis[Any, Any], ...] = (ExitsAxis(), SkipAxis(), WidthAxis(), PrecisionAxis())
"""In the order in which they are applied: heads are attached to the full stream, so that what
is skipped is skipped for them, too; what is gone need not be narrowed. Always read as
``axes.AXES``."""

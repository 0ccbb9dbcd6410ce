"""The axes: kinds of decisions that are made when building, written out in one tuple."""

from __future__ import annotations

from typing import Any

from skipc.compiler.axes.axis import Axis
from skipc.compiler.axes.exits import ExitsAxis
from skipc.compiler.axes.float_layers import FloatLayersAxis
from skipc.compiler.axes.gates import GatesAxis
from skipc.compiler.axes.precision import PrecisionAxis
from skipc.compiler.axes.resolution import ResolutionAxis
from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.axes.width import WidthAxis

AXES: tuple[Axis[Any, Any], ...] = (
    *(ResolutionAxis(), ExitsAxis(), SkipAxis(), WidthAxis(), GatesAxis()),
    *(FloatLayersAxis(), PrecisionAxis()),
)
"""In the order in which they are applied: a network is made at its size; heads are attached to
the full stream, so that what is skipped is skipped for them, too; what is gone need not be
narrowed; gates decide about what is left; what stays float32 is known before the rest is
rounded. Always read as ``axes.AXES``."""


def searchable() -> tuple[str, ...]:
    """Returns the keys of the axes that a search may decide: those with genes."""
    return tuple(axis.key for axis in AXES if type(axis).genes is not Axis.genes)

"""What the compiler's tests share."""

from __future__ import annotations

from tests.operators import operators_once

__all__ = ["operators_once"]

"""How batch norm adapts to what is skipped."""

from __future__ import annotations

from enum import Enum


class NormMode(str, Enum):
    """Which statistics the norms of a configuration use.

    ``SHARED``: those of the checkpoint, for all configurations. ``SCALAR``: a re-estimated
    bias and one scalar per layer; the kernels stay those of the full network. ``FULL``:
    re-estimated per channel; engines fold them into kernels of their own.
    """

    SHARED = "shared"
    SCALAR = "scalar"
    FULL = "full"

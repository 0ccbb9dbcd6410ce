"""The error of training."""

from __future__ import annotations

from skipc.runtime.errors import SkipcError


class TrainError(SkipcError):
    """The data, the options or the run to resume cannot be trained with."""

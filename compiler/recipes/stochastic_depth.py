"""Stochastic depth (Huang et al. 2016): branches that are dropped at random while training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import nn


class Convention(str, Enum):
    """How a branch that survives is scaled; ``p`` is its survival probability.

    ``ORIGINAL``: by 1 while training and by ``p`` at test time (Huang et al. 2016, section
    3). ``INVERTED``: by ``1 / p`` while training and by 1 at test time, as most libraries.
    ``NONE``: never.
    """

    ORIGINAL = "original"
    INVERTED = "inverted"
    NONE = "none"


class Schedule(str, Enum):
    """How the drop rate depends on depth: up to its value at the end, or the same."""

    LINEAR = "linear"
    UNIFORM = "uniform"


class Per(str, Enum):
    """What is dropped at once: the branch for a whole batch, or for each sample."""

    BATCH = "batch"
    SAMPLE = "sample"


@dataclass(frozen=True, slots=True)
class DropSettings:
    """Stochastic depth of a network; ``rate`` is the last branch's, see ``Schedule``."""

    rate: float = 0.0
    schedule: Schedule = Schedule.LINEAR
    convention: Convention = Convention.INVERTED
    per: Per = Per.SAMPLE

    @classmethod
    def of(cls, rate: float, schedule: str, convention: str, per: str) -> DropSettings:
        """Returns the settings from plain values; a ``ValueError`` names one that is none."""
        if not 0 <= rate < 1:
            raise ValueError(f"drop rate {rate}: must be at least 0 and below 1")
        return cls(rate, Schedule(schedule), Convention(convention), Per(per))

    def at(self, index: int, count: int) -> StochasticDepth:
        """Returns the module for branch ``index`` (from 0) of ``count``."""
        share = (index + 1) / count if self.schedule is Schedule.LINEAR else 1.0
        return StochasticDepth(self.rate * share, self.convention, self.per)


class StochasticDepth(nn.Module):
    """Drops a branch with probability ``p`` while training; at test time it does nothing.

    What the original convention does at test time is left to the compiler
    (``--residual-scale original``), which reads ``p`` off this module.
    """

    def __init__(
        self, p: float, convention: Convention = Convention.INVERTED, per: Per = Per.SAMPLE
    ) -> None:
        super().__init__()
        self.p = p
        self.convention = convention
        self.per = per

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """Returns ``branch``, (N, ...), in training with some samples set to zero."""
        if not self.training or self.p == 0.0:
            return branch
        rows = 1 if self.per is Per.BATCH else branch.shape[0]
        shape = (rows,) + (1,) * (branch.dim() - 1)
        kept = torch.rand(shape, device=branch.device) >= self.p
        if self.convention is Convention.INVERTED:
            return branch * kept / (1.0 - self.p)
        return branch * kept

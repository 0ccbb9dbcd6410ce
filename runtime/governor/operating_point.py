"""What the governor knows of a configuration before it ever ran."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

from ..errors import ChoiceError
from ..options import finite
from .budget import MOST

_NORMAL = NormalDist()
DEVIATIONS_AT_95 = _NORMAL.inv_cdf(0.95)
DEVIATIONS_AT_99 = _NORMAL.inv_cdf(0.99)
_TINY_MS = 1e-9

MEASURED_SOURCES = ("measured", "table")
"""Sources of latencies that were measured on these engines."""


class OnAverage(NamedTuple):
    """What calls of a route come to on average, where its router has this bias.

    ``rank`` is as of an ``OperatingPoint``; ``mean_ms`` is by its table.
    """

    bias: float
    rank: float
    mean_ms: float


class SizeFactor(NamedTuple):
    """How much longer a call takes at some sizes of the free dimensions, in their order."""

    sizes: tuple[int, ...]
    factor: float


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One configuration, with what the governor knows of it before it ever ran.

    Attributes:
        configuration: Its name.
        rank: Higher is more accurate: the accuracy, or the MACs where accuracies are
            missing (see ``operating_points``).
        p50_ms: Median latency.
        p95_ms: 95th percentile of the latency.
        p99_ms: 99th percentile; None continues the line from the median to ``p95_ms``.
        source: Where the latency is from: ``measured`` (on this device, by ``trtbench
            --update``), ``table`` (on the host that built the engines), ``front``
            (``latency_ms`` of ``front.json``), ``macs`` (estimated from its MACs; the
            scale comes from the first call) or ``fitted`` (to those of other configurations,
            see ``AdaptiveEngine.add``).
        energy_mj: Energy of a call in millijoules; 0 where it is not known.
        weights_bytes: Bytes of weights that its engine refers to.
        own_bytes: Those of them that no other engine refers to.
        upto_ms: Median latency up to the end of each stage, where there are several; its
            quantiles above are those of the whole route.
        upto_p99_ms: The 99th percentile of the same; empty where it is not known.
        mean_ms: Mean latency, where there are several stages; 0 for the median.
        curve: What its router's biases come to, the smallest first; empty without one.
        first_answer: The stage that answers first.
        by_size: What was measured at other sizes than the typical ones, over those.

    Raises:
        ChoiceError: A number is none, not finite, or none that a device may take.
    """

    configuration: str
    rank: float
    p50_ms: float
    p95_ms: float
    p99_ms: float | None = None
    source: str = "table"
    energy_mj: float = 0.0
    weights_bytes: int = 0
    own_bytes: int = 0
    upto_ms: tuple[float, ...] = ()
    upto_p99_ms: tuple[float, ...] = ()
    mean_ms: float = 0.0
    curve: tuple[OnAverage, ...] = ()
    first_answer: int = 0
    by_size: tuple[SizeFactor, ...] = ()
    log_p50: float = field(init=False, repr=False, compare=False)
    """Logarithm of ``p50_ms``."""
    log_slope: float = field(init=False, repr=False, compare=False)
    """Logarithm of the latency per standard deviation, up to ``p95_ms``."""
    log_tail_slope: float = field(init=False, repr=False, compare=False)
    """The same, from ``p95_ms`` on."""
    log_upto: tuple[float, ...] = field(init=False, repr=False, compare=False)
    """Logarithms of ``upto_ms``, or of ``p50_ms`` where there is one stage."""

    def __post_init__(self) -> None:
        self._check()
        p50_ms, p95_ms = max(self.p50_ms, _TINY_MS), max(self.p95_ms, _TINY_MS)
        slope = max(math.log(p95_ms / p50_ms), 0.0) / DEVIATIONS_AT_95
        tail = slope
        if self.p99_ms is not None:
            rise = max(math.log(max(self.p99_ms, _TINY_MS) / p95_ms), 0.0)
            tail = rise / (DEVIATIONS_AT_99 - DEVIATIONS_AT_95)
        upto_ms = self.upto_ms or (p50_ms,)
        object.__setattr__(self, "log_upto", tuple(math.log(ms) for ms in upto_ms))
        object.__setattr__(self, "log_p50", math.log(p50_ms))
        object.__setattr__(self, "log_slope", slope)
        object.__setattr__(self, "log_tail_slope", tail)

    def quantile_ms(self, share: float) -> float:
        """Returns what this share of calls stays within, as far as the table tells."""
        deviations = _NORMAL.inv_cdf(min(max(share, 0.01), 0.99))
        near, far = spread_of(deviations)
        return math.exp(self.log_p50 + near * self.log_slope + far * self.log_tail_slope)

    def _check(self) -> None:
        for name in ("p50_ms", "p95_ms", *(() if self.p99_ms is None else ("p99_ms",))):
            if not 0 < finite(getattr(self, name)) <= MOST:
                raise self._wrong(name, f"milliseconds above 0, {MOST:g} at most")
        for name in ("upto_ms", "upto_p99_ms"):
            if any(not _TINY_MS <= finite(ms) <= MOST for ms in getattr(self, name)):
                raise self._wrong(name, f"milliseconds above 0, {MOST:g} at most")
        if self.upto_p99_ms and len(self.upto_p99_ms) != len(self.upto_ms):
            raise self._wrong("upto_p99_ms", f"one for each of the {len(self.upto_ms)} stages")
        if not 0 <= finite(self.energy_mj) <= MOST:
            raise self._wrong("energy_mj", f"millijoules from 0 to {MOST:g}")
        if any(not 0 < finite(at.factor) <= MOST for at in self.by_size):
            raise self._wrong("by_size", f"factors above 0, {MOST:g} at most")
        if math.isnan(finite(self.rank)):
            raise self._wrong("rank", "a finite number")

    def _wrong(self, name: str, expected: str) -> ChoiceError:
        given = getattr(self, name)
        return ChoiceError(
            f"operating point {self.configuration!r}: {name}={given!r}, expected {expected}."
        )


@lru_cache(maxsize=64)
def spread_of(deviations: float) -> tuple[float, float]:
    """Returns how often a quantile lies ``log_slope`` and ``log_tail_slope`` off the median.

    Straight between the table's quantiles, on the scale of a normal distribution;
    ``deviations`` is the quantile in its standard deviations.
    """
    beyond = deviations - DEVIATIONS_AT_95
    return (DEVIATIONS_AT_95, beyond) if beyond > 0 else (deviations, 0.0)

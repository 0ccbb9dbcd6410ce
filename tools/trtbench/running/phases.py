"""Calls taken apart into enqueueing, transfers and computation, where a backend can."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime.backends.phases import PhasedEngine
from skipc.tools.trtbench.results.summary import Percentile, percentile_ms
from skipc.tools.trtbench.running.loop import interleave

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.runtime.backends import Arrays, Engine
    from skipc.runtime.backends.phases import Way
    from skipc.tools.trtbench.running.loop import Stop


@dataclass(frozen=True, slots=True)
class PhasedCalls:
    """The calls of one configuration, taken apart, in the order of time.

    Attributes:
        starts_ns: When each began, in nanoseconds since the first of all.
        enqueue_starts_ns: When the host began to enqueue the computation, likewise.
        enqueue_ends_ns: When it had done so.
        h2d_ms: What the device took to copy the inputs in.
        compute_ms: What it took to compute.
        d2h_ms: What it took to copy the outputs out.
        graph: Whether the computation of every call was a CUDA graph.
    """

    starts_ns: NDArray[np.int64]
    enqueue_starts_ns: NDArray[np.int64]
    enqueue_ends_ns: NDArray[np.int64]
    h2d_ms: NDArray[np.float64]
    compute_ms: NDArray[np.float64]
    d2h_ms: NDArray[np.float64]
    graph: bool


@dataclass(frozen=True, slots=True)
class Times:
    """What the times of one phase come to.

    Attributes:
        min_ms: The shortest.
        mean_ms: Their mean.
        median_ms: Their median.
        max_ms: The longest.
        percentiles: Those asked for, as ``trtexec`` defines them.
    """

    min_ms: float
    mean_ms: float
    median_ms: float
    max_ms: float
    percentiles: tuple[Percentile, ...]


@dataclass(frozen=True, slots=True)
class PhaseSummary:
    """The phases of one configuration's calls.

    Attributes:
        runs: How many calls were taken apart.
        graph: Whether the computation of every one was a CUDA graph.
        latency: The device's phases together, which is what ``trtexec`` calls latency.
        enqueue: What enqueueing the computation took the host.
        h2d: Copying the inputs in; None without transfers.
        compute: Computing.
        d2h: Copying the outputs out; None without transfers.
    """

    runs: int
    graph: bool
    latency: Times
    enqueue: Times
    h2d: Times | None
    compute: Times
    d2h: Times | None


def with_phases(engines: Mapping[str, Engine]) -> dict[str, PhasedEngine]:
    """Returns engines of a backend with phases as what they are.

    Raises:
        TypeError: One cannot tell the phases of a call: its backend promised too much.
    """
    found: dict[str, PhasedEngine] = {}
    for name, engine in engines.items():
        if not isinstance(engine, PhasedEngine):
            raise TypeError(f"the engine of {name!r} cannot tell the phases of a call.")
        found[name] = engine
    return found


def measure_phases(
    engines: Mapping[str, Engine],
    cases: Sequence[Arrays],
    way: Way,
    stop: Stop,
    now_ns: Callable[[], int],
) -> dict[str, PhasedCalls]:
    """Returns the calls of all configurations, made by turns and taken apart.

    Each configuration makes one call first that is dropped: it prepares events and graphs.

    Args:
        engines: By configuration, of a backend with phases; warm.
        cases: Inputs on the host; each round takes the next.
        way: How calls are made.
        stop: When to end; its warm-up is not repeated.
        now_ns: The clock.

    Raises:
        BackendError: A call failed.
    """
    recorders = {}
    for name, engine in with_phases(engines).items():
        engine.run_in_phases(cases[0], way, now_ns)
        recorders[name] = _Recorder(engine, way, now_ns)
    interleave(recorders, cases, replace(stop, warm_up_ms=0), now_ns)
    first_ns = min(recorder.first_ns for recorder in recorders.values())
    return {name: recorder.calls(first_ns) for name, recorder in recorders.items()}


def summarize_phases(
    calls: PhasedCalls, percents: Sequence[float], transfers: bool
) -> PhaseSummary:
    """Returns the summary of calls taken apart.

    Args:
        calls: At least one.
        percents: The percentiles wanted, 0 to 100.
        transfers: Whether inputs and outputs were copied.
    """
    latency_ms = calls.h2d_ms + calls.compute_ms + calls.d2h_ms
    enqueue_ms = (calls.enqueue_ends_ns - calls.enqueue_starts_ns) / 1e6
    return PhaseSummary(
        runs=len(latency_ms),
        graph=calls.graph,
        latency=_times(latency_ms, percents),
        enqueue=_times(enqueue_ms, percents),
        h2d=_times(calls.h2d_ms, percents) if transfers else None,
        compute=_times(calls.compute_ms, percents),
        d2h=_times(calls.d2h_ms, percents) if transfers else None,
    )


def _times(times_ms: NDArray[np.float64], percents: Sequence[float]) -> Times:
    ordered = np.sort(times_ms)
    return Times(
        min_ms=float(ordered[0]),
        mean_ms=float(times_ms.mean()),
        median_ms=float(np.median(ordered)),
        max_ms=float(ordered[-1]),
        percentiles=tuple(Percentile(p, percentile_ms(ordered, p)) for p in percents),
    )


class _Recorder:
    """An engine whose calls are taken apart; the times are kept as numbers, not objects."""

    def __init__(self, engine: PhasedEngine, way: Way, now_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._way = way
        self._now_ns = now_ns
        self._ns = (array("q"), array("q"), array("q"))
        self._ms = (array("d"), array("d"), array("d"))
        self._graph = True

    def run(self, inputs: Arrays) -> None:
        """Makes a call and keeps its phases."""
        found = self._engine.run_in_phases(inputs, self._way, self._now_ns)
        moments = found.start_ns, found.enqueue_start_ns, found.enqueue_end_ns
        for kept, moment_ns in zip(self._ns, moments, strict=True):
            kept.append(moment_ns)
        for times, ms in zip(
            self._ms, (found.h2d_ms, found.compute_ms, found.d2h_ms), strict=True
        ):
            times.append(ms)
        self._graph = self._graph and found.graph

    @property
    def first_ns(self) -> int:
        """When the first call began."""
        return self._ns[0][0]

    def calls(self, first_ns: int) -> PhasedCalls:
        """Returns what was kept, counted from ``first_ns``."""
        starts, enqueue_starts, enqueue_ends = (
            np.array(kept, np.int64) - first_ns for kept in self._ns
        )
        h2d_ms, compute_ms, d2h_ms = (np.array(times) for times in self._ms)
        return PhasedCalls(
            starts, enqueue_starts, enqueue_ends, h2d_ms, compute_ms, d2h_ms, self._graph
        )

"""What is measured beside latency, after the loop: switches, energy, phases, layers."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, permutations
from operator import attrgetter
from pathlib import Path
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np

from skipc.runtime.backends.phases import Phases
from skipc.runtime.bundle.constraints import AtLeast, Count, NotEmpty, Positive
from skipc.runtime.errors import EngineError, MeterError
from skipc.tools.trtbench.latency import Percentiles, percentiles_ms
from skipc.tools.trtbench.loop import Lane, take_turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.runtime import Meter, Reading
    from skipc.runtime.backends import Arrays, Backend
    from skipc.runtime.backends.phases import PhasedEngine, Way
    from skipc.tools.trtbench.loop import Clock, Run, Stop

NotNegative = Annotated[float, AtLeast(0)]

WINDOWS = 5
"""Windows of each configuration that its energy is measured in."""

LEAST_STEPS = 20
"""A window spans this many periods and this many resolutions of its meter, at least: then a
step more or less at either end changes it by 5 %."""

MOST_CALLS = 100
"""Of a graph; ONNX Runtime keeps a million events, one per layer and call."""
_LEAST_CALLS = 10
_WARM_UP_CALLS = 10
_SUFFIX = "_kernel_time"

_LONGEST_WINDOW_S = 60.0
_LEAST_REPEATS, _MOST_REPEATS = 3, 20


@dataclass(frozen=True, slots=True)
class Switching:
    """The cost of every switch, each made so often.

    The loop's median of B would not do as what a first call of B is compared with: there, too,
    every call follows one of another configuration.

    Attributes:
        steady_ms: Per configuration, the median of its calls that follow one of its own.
        first_ms: Per configuration A and other B, the median of B's calls that follow A's.
    """

    repeats: Count
    steady_ms: Mapping[str, Positive]
    first_ms: Mapping[str, Mapping[str, Positive]]

    def ratios(self) -> dict[str, dict[str, float]]:
        """Returns, for A and B, B's first call after A over B's steady median."""
        return {
            before: {after: ms / self.steady_ms[after] for after, ms in row.items()}
            for before, row in self.first_ms.items()
        }

    def worst(self) -> tuple[str, str, float]:
        """Returns the pair that costs most, relatively: A, B and the ratio."""
        pairs = [(a, b, ratio) for a, row in self.ratios().items() for b, ratio in row.items()]
        return max(pairs, key=lambda pair: pair[2])


def measure_switches(
    runs: Mapping[str, Run], case: Arrays, patience_s: float, now_ns: Clock
) -> Switching | None:
    """Returns the cost of every switch, or None if there is only one configuration.

    Every ordered pair is run as A, B, B, between 3 and 20 times; no further repeat begins
    after ``patience_s`` seconds.

    Raises:
        BackendError: A call failed.
    """
    if len(runs) < 2:
        return None

    def timed_ms(run: Run) -> float:
        start_ns = now_ns()
        run(case)
        return max(now_ns() - start_ns, 1) / 1e6

    pairs = list(permutations(runs, 2))
    first_ms: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
    steady_ms: dict[str, list[float]] = {name: [] for name in runs}
    end_ns, repeats = now_ns() + patience_s * 1e9, 0
    while repeats < _LEAST_REPEATS or (repeats < _MOST_REPEATS and now_ns() < end_ns):
        for before, after in pairs:
            runs[before](case)
            first_ms[before, after].append(timed_ms(runs[after]))
            steady_ms[after].append(timed_ms(runs[after]))
        repeats += 1
    return Switching(
        repeats,
        {name: median(times_ms) for name, times_ms in steady_ms.items()},
        {a: {b: median(first_ms[a, b]) for b in runs if b != a} for a in runs},
    )


@dataclass(frozen=True, slots=True)
class Energy:
    """Millijoules per call in each window; their mean and, of several, standard deviation."""

    mean_mj: Positive
    spread_mj: NotNegative | None
    windows_mj: Annotated[tuple[Positive, ...], NotEmpty()]

    @classmethod
    def of(cls, windows_mj: Sequence[float]) -> Energy:
        """Returns the energy that these windows come to."""
        spread_mj = stdev(windows_mj) if len(windows_mj) > 1 else None
        return cls(fmean(windows_mj), spread_mj, tuple(windows_mj))


def measure_energy(
    runs: Mapping[str, Run],
    cases: Sequence[Arrays],
    meter: Meter,
    latest: Callable[[], Reading | None],
    now_ns: Clock,
) -> dict[str, Energy]:
    """Returns the energy of every configuration, from ``WINDOWS`` windows each, by turns.

    ``latest`` returns the meter's last reading, timed with the same clock.

    Raises:
        MeterError: The meter shows nothing new, or too little, for a minute.
        BackendError: A call failed.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(WINDOWS):
        for name, run in runs.items():
            found[name].append(_window_mj(run, cases, meter, latest, now_ns))
    return {name: Energy.of(windows_mj) for name, windows_mj in found.items()}


def _window_mj(
    run: Run,
    cases: Sequence[Arrays],
    meter: Meter,
    latest: Callable[[], Reading | None],
    now_ns: Clock,
) -> float:
    """Returns millijoules per call between two readings that were taken during the calls."""
    least_ns = LEAST_STEPS * meter.period_s * 1e9
    least_mj = LEAST_STEPS * meter.resolution_mj
    begun_ns = now_ns()
    ends_ns = [begun_ns]
    first: Reading | None = None
    while True:
        run(cases[len(ends_ns) % len(cases)])
        ends_ns.append(now_ns())
        reading = latest()
        if reading is None or reading.time_ns < begun_ns:
            pass  # of the configuration before
        elif first is None or reading.energy_mj < first.energy_mj:
            first = reading  # lower than before: the device's counter began anew
        else:
            spent_mj = reading.energy_mj - first.energy_mj
            if reading.time_ns - first.time_ns >= least_ns and spent_mj >= least_mj:
                return spent_mj / _calls_between(ends_ns, first.time_ns, reading.time_ns)
        if ends_ns[-1] - begun_ns > max(_LONGEST_WINDOW_S * 1e9, 10 * least_ns):
            raise MeterError(
                f"the meter {meter.name!r} did not move by {LEAST_STEPS} of its steps of"
                f" {meter.resolution_mj:g} mJ in {(ends_ns[-1] - begun_ns) / 1e9:.0f} s of"
                " inferences. See what it shows with `skipc meters`, or leave out --meter."
            )


def _calls_between(ends_ns: Sequence[int], first_ns: int, last_ns: int) -> float:
    """Returns how many calls lie between two times; of one cut by a time, its share.

    ``ends_ns`` are the beginning of the first call, and the end of each without a gap.
    """
    inside = (
        (min(end_ns, last_ns) - max(start_ns, first_ns), end_ns - start_ns)
        for start_ns, end_ns in pairwise(ends_ns)
    )
    return sum(inside_ns / taken_ns for inside_ns, taken_ns in inside if inside_ns > 0)


PhasedCalls: TypeAlias = "Mapping[str, NDArray[np.float64]]"
"""Calls taken apart, in the order of time: the attributes of ``Phases``, a column for each;
``_ns`` counts from the first of all calls. ``graph`` is 1 or 0."""

_COLUMNS = tuple(Phases.__dataclass_fields__)
_row = attrgetter(*_COLUMNS)


@dataclass(frozen=True, slots=True)
class Times:
    """What the times of one phase come to, with the percentiles asked for."""

    min_ms: NotNegative
    mean_ms: NotNegative
    median_ms: NotNegative
    max_ms: NotNegative
    percentiles_ms: Percentiles


@dataclass(frozen=True, slots=True)
class PhaseSummary:
    """The phases of one configuration's calls.

    Attributes:
        graph: Whether the computation of every one was a CUDA graph.
        latency: The device's phases together, which is what ``trtexec`` calls latency.
        enqueue: What enqueueing the computation took the host.
        h2d: Copying the inputs in, as ``d2h`` the outputs out; None without transfers.
    """

    runs: Count
    graph: bool
    latency: Times
    enqueue: Times
    h2d: Times | None
    compute: Times
    d2h: Times | None


def measure_phases(
    engines: Mapping[str, PhasedEngine],
    cases: Sequence[Arrays],
    way: Way,
    stop: Stop,
    now_ns: Clock,
) -> dict[str, PhasedCalls]:
    """Returns the calls of all configurations, made by turns and taken apart.

    Each configuration makes one call first that is dropped: it prepares events and graphs.
    Inputs lie on the host; warm-up is not repeated.

    Raises:
        BackendError: A call failed.
    """
    rows = {name: array("d") for name in engines}  # numbers, not objects

    def turn(name: str, inputs: Arrays) -> tuple[tuple[int, int]]:
        found = engines[name].run_in_phases(inputs, way, now_ns)
        rows[name].extend(_row(found))
        return ((found.start_ns, now_ns()),)

    for engine in engines.values():
        engine.run_in_phases(cases[0], way, now_ns)
    lanes = [Lane(partial(turn, name)) for name in engines]
    take_turns(lanes, cases, replace(stop, warm_up_ms=0))
    first_ns = min(lane.starts[0] for lane in lanes)
    calls: dict[str, PhasedCalls] = {}
    for name, kept in rows.items():
        columns = zip(_COLUMNS, np.array(kept).reshape(-1, len(_COLUMNS)).T, strict=True)
        calls[name] = {k: v - first_ns if k.endswith("_ns") else v for k, v in columns}
    return calls


def summarize_phases(
    calls: PhasedCalls, percents: Sequence[float], transfers: bool
) -> PhaseSummary:
    """Returns what the phases come to; copies are left out where there were no transfers."""

    def times(times_ms: NDArray[np.float64]) -> Times:
        return Times(
            min_ms=float(times_ms.min()),
            mean_ms=float(times_ms.mean()),
            median_ms=float(np.median(times_ms)),
            max_ms=float(times_ms.max()),
            percentiles_ms=percentiles_ms(times_ms, percents),
        )

    h2d_ms, compute_ms, d2h_ms = (calls[name] for name in ("h2d_ms", "compute_ms", "d2h_ms"))
    return PhaseSummary(
        runs=len(compute_ms),
        graph=bool(calls["graph"].all()),
        latency=times(h2d_ms + compute_ms + d2h_ms),
        enqueue=times((calls["enqueue_end_ns"] - calls["enqueue_start_ns"]) / 1e6),
        h2d=times(h2d_ms) if transfers else None,
        compute=times(compute_ms),
        d2h=times(d2h_ms) if transfers else None,
    )


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, by its name in the engine's graph and its operator.

    ``total_ms`` is of all calls, ``percentage`` its share of what all layers took.
    """

    name: str
    total_ms: float
    average_ms: float
    median_ms: float
    percentage: float


@dataclass(frozen=True, slots=True)
class Profile:
    """The layers of one graph, in the order in which they run, over so many calls."""

    calls: int
    layers: tuple[Layer, ...]


def profile_of(
    backend: Backend, graph: str, cases: Sequence[Arrays], duration_s: float, now_ns: Clock
) -> Profile:
    """Returns the layers of a graph of the family's inputs, by ONNX Runtime's own profiler.

    It slows calls down, so what is profiled is an engine loaded for this. After ten calls no
    further one begins once these have taken ``duration_s``.

    Raises:
        BackendError: The engine could not be loaded or run.
    """
    from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu

    assert isinstance(backend, OnnxRuntimeCpu)
    with tempfile.TemporaryDirectory(prefix="trtbench-") as folder:
        engine = backend.load(graph, profile=str(Path(folder) / "profile"))
        try:
            for number in range(_WARM_UP_CALLS):
                engine.run(cases[number % len(cases)])
            calls, end_ns = 0, now_ns() + duration_s * 1e9
            while calls < _LEAST_CALLS or (calls < MOST_CALLS and now_ns() < end_ns):
                engine.run(cases[calls % len(cases)])
                calls += 1
            text = engine.end_profiling().read_text(encoding="utf-8")
        finally:
            engine.close()
    return read_events(graph, json.loads(text), calls)


def read_events(graph: str, events: Sequence[Mapping[str, object]], calls: int) -> Profile:
    """Returns the layers in the events of ONNX Runtime's profiler, of the last ``calls``.

    There is an event per layer and call, with its time in microseconds.

    Raises:
        EngineError: A layer has fewer times than there were calls.
    """
    times_ms: dict[str, list[float]] = {}
    for event in events:
        name, taken_us = event.get("name"), event.get("dur")
        if event.get("cat") != "Node" or not isinstance(name, str):
            continue
        if name.endswith(_SUFFIX) and isinstance(taken_us, (int, float)):
            about = event.get("args")
            operator = about.get("op_name", "") if isinstance(about, dict) else ""
            layer = f"{name.removesuffix(_SUFFIX)} [{operator}]"
            times_ms.setdefault(layer, []).append(taken_us / 1000)
    if not times_ms or any(len(times) < calls for times in times_ms.values()):
        raise EngineError(
            f"graph {graph!r}: ONNX Runtime's profile does not hold the {calls} calls that"
            " were made. Leave out --dumpProfile and --exportProfile."
        )
    # A layer in a loop has several times in a call: they are one.
    kept_ms = {}
    for name, found_ms in times_ms.items():
        per_call = len(found_ms) // (calls + _WARM_UP_CALLS) or 1
        kept = found_ms[-calls * per_call :]
        kept_ms[name] = [sum(kept[at : at + per_call]) for at in range(0, len(kept), per_call)]
    all_ms = sum(map(sum, kept_ms.values())) or 1.0
    return Profile(
        calls,
        tuple(
            Layer(name, sum(ms), fmean(ms), median(ms), 100 * sum(ms) / all_ms)
            for name, ms in kept_ms.items()
        ),
    )

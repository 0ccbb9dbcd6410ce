"""What is measured beside latency, after the loop: switches, energy, phases, layers."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import permutations
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from skipc.runtime.backends.phases import Phases
from skipc.runtime.errors import EngineError, MeterError, sentence
from skipc.tools.trtbench.latency import times_of
from skipc.tools.trtbench.loop import timed
from skipc.tools.trtbench.report import Energy, PhaseSummary, Switching

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.runtime import Reading, Sampler
    from skipc.runtime.backends import Arrays, Backend
    from skipc.runtime.backends.phases import Way
    from skipc.runtime.backends.tensorrt.engine import TensorRTEngine
    from skipc.tools.trtbench.loop import Clock, Run, Stop

WINDOWS = 5
"""Windows of each configuration that its energy is measured in."""

LEAST_STEPS = 20
"""A window spans this many periods and this many resolutions of its meter, at least: then a
step more or less at either end changes it by 5 %."""

MOST_CALLS = 100
"""Of a graph; ONNX Runtime keeps a million events, one per layer and call."""
_LEAST_CALLS = _WARM_UP_CALLS = 10
_SUFFIX = "_kernel_time"

_LONGEST_WINDOW_S = 60.0
_LEAST_REPEATS, _MOST_REPEATS = 3, 20


def measure_switches(
    runs: Mapping[str, Run], case: Arrays, patience_s: float, now_ns: Clock
) -> Switching | None:
    """Returns the cost of every switch, or None if there is only one configuration.

    Every ordered pair is run as A, B, B, between 3 and 20 times; no further repeat begins
    after ``patience_s`` seconds.
    """
    if len(runs) < 2:
        return None

    def timed_ms(run: Run) -> float:
        start_ns = now_ns()
        run(case)
        return max(now_ns() - start_ns, 1) / 1e6

    first_ms: dict[tuple[str, str], list[float]] = defaultdict(list)
    steady_ms: dict[str, list[float]] = {name: [] for name in runs}
    end_ns, repeats = now_ns() + patience_s * 1e9, 0
    while repeats < _LEAST_REPEATS or (repeats < _MOST_REPEATS and now_ns() < end_ns):
        for before, after in permutations(runs, 2):
            runs[before](case)
            first_ms[before, after].append(timed_ms(runs[after]))
            steady_ms[after].append(timed_ms(runs[after]))
        repeats += 1
    return Switching(
        repeats,
        {name: median(times_ms) for name, times_ms in steady_ms.items()},
        {a: {b: median(first_ms[a, b]) for b in runs if b != a} for a in runs},
    )


def measure_energy(
    runs: Mapping[str, Run], cases: Sequence[Arrays], sampler: Sampler, now_ns: Clock
) -> dict[str, Energy]:
    """Returns the energy of every configuration, from ``WINDOWS`` windows each, alternating.

    ``sampler`` times its meter's readings with the same clock.

    Raises:
        MeterError: The meter cannot be read, or shows too little for a minute.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(WINDOWS):
        for name, run in runs.items():
            found[name].append(_window_mj(run, cases, sampler, now_ns))
    return {name: Energy.of(windows_mj) for name, windows_mj in found.items()}


def _window_mj(run: Run, cases: Sequence[Arrays], sampler: Sampler, now_ns: Clock) -> float:
    """Returns millijoules per call between two readings that were taken during the calls."""
    meter = sampler.meter
    least_ns = LEAST_STEPS * meter.period_s * 1e9
    least_mj = LEAST_STEPS * meter.resolution_mj
    begun_ns = now_ns()
    ends_ns = [begun_ns]
    first: Reading | None = None
    while True:
        run(cases[len(ends_ns) % len(cases)])
        ends_ns.append(now_ns())
        reading = sampler.latest
        if sampler.failure:
            raise MeterError(
                f"the meter {meter.name!r} cannot be read: {sentence(sampler.failure)} See"
                " what it shows with `skipc meters`, or leave out --meter."
            )
        if reading is None or reading.time_ns < begun_ns:
            pass  # of the configuration before
        elif first is None or reading.energy_mj < first.energy_mj:
            first = reading  # lower than before: the device's counter began anew
        else:
            spent_mj, times_ns = reading.energy_mj - first.energy_mj, (first, reading)
            if reading.time_ns - first.time_ns >= least_ns and spent_mj >= least_mj:
                # Calls until a time; one that is cut by it counts by its share.
                at = [one.time_ns - begun_ns for one in times_ns]
                until = np.interp(at, np.subtract(ends_ns, begun_ns), range(len(ends_ns)))
                return spent_mj / float(until[1] - until[0])
        if ends_ns[-1] - begun_ns > max(_LONGEST_WINDOW_S * 1e9, 10 * least_ns):
            raise MeterError(
                f"the meter {meter.name!r} did not move by {LEAST_STEPS} of its steps of"
                f" {meter.resolution_mj:g} mJ in {(ends_ns[-1] - begun_ns) / 1e9:.0f} s of"
                " inferences. See what it shows with `skipc meters`, or leave out --meter."
            )


PhasedCalls: TypeAlias = "Mapping[str, NDArray[np.float64]]"
"""Calls taken apart, in the order of time: the attributes of ``Phases``, a column for each;
``_ns`` counts from the first of all calls. ``graph`` is 1 or 0."""

_COLUMNS = tuple(field.name for field in fields(Phases))


def measure_phases(
    engines: Mapping[str, TensorRTEngine],
    cases: Sequence[Arrays],
    way: Way,
    stop: Stop,
    now_ns: Clock,
) -> dict[str, PhasedCalls]:
    """Returns the calls of all configurations, made alternating and taken apart.

    Each configuration makes one call first that is dropped: it prepares events and graphs.
    Inputs lie on the host; warm-up is not repeated.
    """
    rows = {name: array("d") for name in engines}  # numbers, not objects
    row_of = attrgetter(*_COLUMNS)

    def run(name: str, inputs: Arrays) -> None:
        rows[name].extend(row_of(engines[name].run_in_phases(inputs, way, now_ns)))

    for engine in engines.values():
        engine.run_in_phases(cases[0], way, now_ns)
    runs = {name: partial(run, name) for name in engines}
    timed(runs, cases, replace(stop, warm_up_ms=0), now_ns)
    first_ns = min(kept[_COLUMNS.index("start_ns")] for kept in rows.values())
    calls: dict[str, PhasedCalls] = {}
    for name, kept in rows.items():
        columns = zip(_COLUMNS, np.array(kept).reshape(-1, len(_COLUMNS)).T, strict=True)
        calls[name] = {k: v - first_ns if k.endswith("_ns") else v for k, v in columns}
    return calls


def summarize_phases(
    calls: PhasedCalls, percents: Sequence[float], transfers: bool
) -> PhaseSummary:
    """Returns what the phases come to; copies are left out where there were no transfers."""
    h2d_ms, compute_ms, d2h_ms = (calls[name] for name in ("h2d_ms", "compute_ms", "d2h_ms"))
    enqueue_ms = (calls["enqueue_end_ns"] - calls["enqueue_start_ns"]) / 1e6
    return PhaseSummary(
        runs=len(compute_ms),
        graph=bool(calls["graph"].all()),
        latency=times_of(h2d_ms + compute_ms + d2h_ms, percents),
        enqueue=times_of(enqueue_ms, percents),
        h2d=times_of(h2d_ms, percents) if transfers else None,
        compute=times_of(compute_ms, percents),
        d2h=times_of(d2h_ms, percents) if transfers else None,
    )


Profile: TypeAlias = "Mapping[str, NDArray[np.float64]]"
"""What each layer of a graph took in each call, in ms, in the order in which they run."""


def profile_of(
    backend: Backend, graph: str, cases: Sequence[Arrays], duration_s: float, now_ns: Clock
) -> Profile:
    """Returns the layers of a graph of the family's inputs, by ONNX Runtime's own profiler.

    Profiling slows calls down, so what is profiled is an engine loaded for this. After ten
    calls no further one begins once these have taken ``duration_s``.
    """
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
    return layers_in(graph, json.loads(text), calls)


def layers_in(graph: str, events: Sequence[Mapping[str, Any]], calls: int) -> Profile:
    """Returns the layers in the events of ONNX Runtime's profiler, of the last ``calls``.

    There is an event per layer and call, with its time in microseconds.

    Raises:
        EngineError: A layer has fewer times than there were calls.
    """
    times_ms: dict[str, list[float]] = defaultdict(list)
    for event in events:
        name = str(event.get("name"))
        if event.get("cat") == "Node" and name.endswith(_SUFFIX):
            operator = event.get("args", {}).get("op_name", "")
            layer = f"{name.removesuffix(_SUFFIX)} [{operator}]"
            times_ms[layer].append(event["dur"] / 1000)
    if not times_ms or any(len(times) < calls for times in times_ms.values()):
        raise EngineError(
            f"graph {graph!r}: ONNX Runtime's profile does not hold the {calls} calls that"
            " were made. Leave out --dumpProfile and --exportProfile."
        )
    profile = {}
    for layer, found_ms in times_ms.items():
        # A layer in a loop has several times in a call: they are one.
        per_call = len(found_ms) // (calls + _WARM_UP_CALLS) or 1
        profile[layer] = np.reshape(found_ms[-calls * per_call :], (calls, -1)).sum(axis=1)
    return profile

"""``--dumpProfile`` and ``--exportProfile``: the time of each layer, in a run of its own.

ONNX Runtime's own profiler tells it, in whole microseconds. It slows the calls down, so what
is profiled are other sessions than those that were measured, made the same way.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from skipc.runtime.errors import ChoiceError, EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.runtime.backends import Arrays, Backend
    from skipc.tools.trtbench.loop import Clock

MOST_CALLS = 100
"""Of a graph; ONNX Runtime keeps a million events, one per layer and call."""
_LEAST_CALLS = 10
_WARM_UP_CALLS = 10
_SUFFIX = "_kernel_time"


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


def check_profile(backend: Backend) -> None:
    """Raises unless the backend's layers can be told apart.

    Raises:
        ChoiceError: They cannot; the message says what to do.
    """
    if backend.name == "onnxruntime-cpu":
        return
    instead = (
        " Run trtexec itself on the plan under engines/: --loadEngine=PLAN --dumpProfile."
        if backend.name.startswith("tensorrt")
        else ""
    )
    raise ChoiceError(
        f"--dumpProfile, --exportProfile: the backend {backend.name!r} does not tell the"
        f" times of layers; 'onnxruntime-cpu' does.{instead}"
    )


def profile_of(
    backend: Backend, graph: str, cases: Sequence[Arrays], duration_s: float, now_ns: Clock
) -> Profile:
    """Returns the layers of a graph of the family's inputs, in an engine loaded for this.

    ``check_profile`` has passed the backend. After ten calls no further one begins once these
    have taken ``duration_s``.

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

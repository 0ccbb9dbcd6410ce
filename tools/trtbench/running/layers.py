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
    from collections.abc import Callable, Mapping, Sequence

    from skipc.runtime.backends import Arrays, Backend

MOST_CALLS = 100
"""Of a configuration; ONNX Runtime keeps a million events, one per layer and call."""
_LEAST_CALLS = 10
_WARM_UP_CALLS = 10
_SUFFIX = "_kernel_time"


@dataclass(frozen=True, slots=True)
class Layer:
    """The times of one layer.

    Attributes:
        name: Its name in the engine's graph, and its operator.
        times_ms: One per call.
    """

    name: str
    times_ms: tuple[float, ...]

    @property
    def total_ms(self) -> float:
        """What all calls took."""
        return sum(self.times_ms)


@dataclass(frozen=True, slots=True)
class Profile:
    """The layers of one configuration.

    Attributes:
        calls: How many calls were profiled.
        layers: In the order in which they run.
    """

    calls: int
    layers: tuple[Layer, ...]

    @property
    def total_ms(self) -> float:
        """What all layers took in all calls."""
        return sum(layer.total_ms for layer in self.layers)

    def percentage(self, layer: Layer) -> float:
        """Returns a layer's share of the time, 0 to 100."""
        return 100 * layer.total_ms / self.total_ms if self.total_ms else 0.0


def check_profile(backend: Backend) -> None:
    """Raises unless the backend's layers can be told apart.

    Raises:
        ChoiceError: They cannot; the message says what to do.
    """
    from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu

    if isinstance(backend, OnnxRuntimeCpu):
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
    backend: Backend,
    configuration: str,
    cases: Sequence[Arrays],
    duration_s: float,
    now_ns: Callable[[], int],
) -> Profile:
    """Returns the layers of a configuration, in an engine loaded for this.

    Args:
        backend: The backend; ``check_profile`` has passed it.
        configuration: The configuration.
        cases: The inputs, taken in turn.
        duration_s: After ten calls no further one begins once these have taken that long.
        now_ns: The clock.

    Raises:
        BackendError: The engine could not be loaded or run.
    """
    from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu

    assert isinstance(backend, OnnxRuntimeCpu)
    with tempfile.TemporaryDirectory(prefix="trtbench-") as folder:
        engine = backend.load(configuration, profile=str(Path(folder) / "profile"))
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
    return read_events(configuration, json.loads(text), calls)


def read_events(
    configuration: str, events: Sequence[Mapping[str, object]], calls: int
) -> Profile:
    """Returns the layers in the events of ONNX Runtime's profiler.

    Args:
        configuration: For messages.
        events: What the profiler wrote: one entry per layer and call, times in microseconds.
        calls: How many calls to keep: the last ones.

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
            f"configuration {configuration!r}: ONNX Runtime's profile does not hold the"
            f" {calls} calls that were made. Leave out --dumpProfile and --exportProfile."
        )
    # A layer in a loop has several times in a call: they are one.
    layers = []
    for name, found in times_ms.items():
        per_call = len(found) // (calls + _WARM_UP_CALLS) or 1
        kept = found[-calls * per_call :]
        rows = [kept[at : at + per_call] for at in range(0, len(kept), per_call)]
        layers.append(Layer(name, tuple(map(sum, rows))))
    return Profile(calls, tuple(layers))


def encoded_profile(profile: Profile) -> bytes:
    """Returns the file's content, in the form that ``trtexec`` writes."""
    entries: list[dict[str, object]] = [{"count": profile.calls}]
    entries += [
        {
            "name": layer.name,
            "timeMs": layer.total_ms,
            "averageMs": fmean(layer.times_ms),
            "medianMs": median(layer.times_ms),
            "percentage": profile.percentage(layer),
        }
        for layer in profile.layers
    ]
    return (json.dumps(entries, indent=1) + "\n").encode()

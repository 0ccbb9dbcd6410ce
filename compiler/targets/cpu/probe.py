"""Latency of graphs that are not in a bundle, before engines are built."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import TargetError
from skipc.compiler.extras import require
from skipc.compiler.targets.latency import timed_ms
from skipc.runtime.errors import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.profiles import Profile

    Case = Mapping[str, NDArray[Any]]

_MIN_PAIRS = 7
_MAX_PAIRS = 200
_TURN_S = 0.4


def measure_graphs(
    profile: Profile,
    graphs: Mapping[str, Path],
    inputs: Case,
    threads: int,
    progress: Callable[[str], None],
) -> dict[str, float]:
    """Returns each graph's median latency in ms; see ``EngineBuilder``.

    An engine of this target is as fast as a plain session of its graph. The first graph is
    the yardstick: it takes turns with every other one, and a latency is the median of the
    ratios times the yardstick's. So a clock rate that drifts does not tilt the comparison.
    """
    del profile  # the CPU of this machine is always the one that is meant
    return timed_sessions(graphs, inputs, threads, progress, ["CPUExecutionProvider"])


def timed_sessions(
    graphs: Mapping[str, Path],
    inputs: Case,
    threads: int,
    progress: Callable[[str], None],
    providers: list[Any],
) -> dict[str, float]:
    """Returns the same for plain sessions with some execution providers."""
    names = list(graphs)
    yardstick = _session(graphs[names[0]], inputs, threads, providers)
    own_ms: list[float] = []
    ratios: dict[str, float] = {names[0]: 1.0}
    others = names[1:] or names
    for number, name in enumerate(others, 1):
        progress(f"measuring graph {number} of {len(others)}")
        other = _session(graphs[name], inputs, threads, providers)
        both = (yardstick, other)
        first_ms, second_ms = timed_ms(both, _MIN_PAIRS, _MAX_PAIRS, _TURN_S)
        own_ms += first_ms
        if name != names[0]:
            pairs = zip(first_ms, second_ms, strict=True)
            ratios[name] = statistics.median(second / first for first, second in pairs)
    unit_ms = statistics.median(own_ms)
    return {name: ratio * unit_ms for name, ratio in ratios.items()}


def _session(
    graph: Path, inputs: Case, threads: int, providers: list[Any]
) -> Callable[[], Any]:
    onnxruntime = require("onnxruntime", "finish")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # As the engines: threads do not spin between calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=providers)
        read = {value.name for value in session.get_inputs()}
        feed = {name: array for name, array in inputs.items() if name in read}
        session.run(None, feed)
    # ONNX Runtime's exceptions share no base class below Exception.
    except Exception as cause:
        raise TargetError(
            f"{graph.name}: ONNX Runtime {onnxruntime.__version__} cannot load or run it:"
            f" {reason_of(cause)}"
        ) from cause
    return lambda: session.run(None, feed)

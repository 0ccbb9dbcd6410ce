"""``plain``: ONNX Runtime on the bundle's portable graphs, as one uses it without skipc."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from skipc.compiler.extras import require
from skipc.tools.trtbench.baselines.baseline import BaselineUnavailableError, Loaded

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.runtime.backends import Arrays
    from skipc.tools.trtbench.baselines.baseline import Ground

_FATAL_ONLY = 4  # errors come as exceptions


def plain_session(path: Path, threads: int = 1) -> Any:
    """Returns a session with ONNX Runtime's defaults: all optimisations, its own weights.

    But for one thing: threads that spin on after a call would take the cores from whatever
    is timed next. Within a call they spin as ever.

    Args:
        path: The graph.
        threads: Threads of a call.
    """
    onnxruntime = require("onnxruntime", "cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def timed_session(path: Path, threads: int) -> tuple[Any, float]:
    """Returns a plain session, and the milliseconds that loading it took.

    Raises:
        BaselineUnavailableError: ONNX Runtime refuses the graph.
    """
    start_ns = time.perf_counter_ns()
    try:
        session = plain_session(path, threads)
    except Exception as cause:  # its errors have no common class
        reason = " ".join(str(cause).split())
        raise BaselineUnavailableError(
            f"ONNX Runtime refuses {path.name} as it stands: {reason}"
        ) from cause
    return session, max(time.perf_counter_ns() - start_ns, 1) / 1e6


class SessionRuns:
    """A session whose outputs come by name, as an engine's do; satisfies ``Runs``."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._outputs = tuple(output.name for output in session.get_outputs())

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name."""
        arrays = self._session.run(self._outputs, inputs)
        return dict(zip(self._outputs, arrays, strict=True))


class Plain:
    """A session of its own for each configuration; satisfies ``Baseline``."""

    def __init__(self, ground: Ground) -> None:
        self._bundle = ground.bundle
        self._threads = ground.threads

    def load(self, configuration: str) -> Loaded:
        """Returns the configuration in a session of its own.

        Raises:
            BaselineUnavailableError: ONNX Runtime refuses its graph.
        """
        entries = self._bundle.manifest.configurations
        entry = next(entry for entry in entries if entry.name == configuration)
        session, load_ms = timed_session(self._bundle.file(entry.graph), self._threads)
        return Loaded(SessionRuns(session), load_ms)

    def close(self) -> None:
        """Does nothing: sessions are freed with what holds them."""

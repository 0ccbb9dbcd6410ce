"""Plain ONNX Runtime sessions of the portable graphs: what one would have without skipc."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from skipc.compiler.errors import NumericsError
from skipc.compiler.extras import require
from skipc.compiler.verify.numerics import difference
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeEngine
from skipc.runtime.backends.onnxruntime.packing import Held
from skipc.runtime.errors import BundleError, EngineError, sentence
from skipc.tools.trtbench.report import PlainCalls

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skipc.runtime.backends import Run
    from skipc.tools.trtbench.measuring import OpenBundle

_FATAL_ONLY = 4  # errors come as exceptions


def plain_session(path: Path, threads: int = 1) -> Run:
    """Returns what runs ONNX Runtime on a portable graph, as one uses it without skipc.

    With its defaults but for one thing: threads that spin on after a call would take the
    cores from whatever is timed next. Within a call they spin as ever.

    Raises:
        EngineError: ONNX Runtime refuses the graph.
    """
    ort = require("onnxruntime", "cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as cause:  # its errors have no common class
        why = " ".join(str(cause).split())
        raise EngineError(f"ONNX Runtime refuses {path.name} as it stands: {why}") from cause
    return OnnxRuntimeEngine(path.name, Held(session)).run


def load_plain(
    opened: OpenBundle, ours: Mapping[str, Run]
) -> tuple[Mapping[str, tuple[Run, PlainCalls]], str]:
    """Returns plain sessions by configuration, that answer as its engine does.

    With each comes what is known of it before it is timed. Where one cannot be had there are
    none, and the reason is the second thing returned.

    Raises:
        NumericsError: One answers otherwise than our engine.
    """
    case, now_ns, found = opened.cases[0], time.perf_counter_ns, {}
    for name, our in ours.items():
        if len(opened.family.routes[name]) > 1:
            several = "runs several graphs, which no plain session does."
            return {}, f"configuration {name!r} {several}"
        graph = opened.bundle.manifest.graph(opened.graphs[name][0])
        start_ns, checked = now_ns(), graph.verification
        try:
            session = plain_session(opened.bundle.graph_file(graph), opened.backend.threads)
        except (BundleError, EngineError) as refused:
            return {}, str(refused)
        loaded_ns = now_ns()
        outputs = session(case)
        end_ns = now_ns()
        error = difference([outputs], [our(case)], checked.ranges)
        # Each of the two may be that far from the reference, to either side.
        tolerance = 2 * checked.tolerance
        if not error.within(tolerance):
            raise NumericsError(
                f"baseline 'plain', configuration {name!r}:"
                f" {sentence(error.text('the engine', tolerance))} That is twice the tolerance"
                " that the bundle was verified with. Times of different answers are not"
                " compared. Please report it, or leave it out of --baseline."
            )
        load_ms, first_call_ms = (loaded_ns - start_ns) / 1e6, (end_ns - loaded_ns) / 1e6
        found[name] = session, PlainCalls(load_ms, first_call_ms, error.relative_error)
    return found, ""

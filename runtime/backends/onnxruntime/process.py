"""What ONNX Runtime has once per process: its arena. Sessions of other people use it too.

Facts that this file rests on, the same in ONNX Runtime 1.23 and 1.31:

- A session uses the registered arena only if it asks for it (``session.use_env_allocators``),
  so registering one changes no other session. Registering a second one *replaces* the first
  for sessions made later: ours may not go over the application's.
- Nothing says whether one is registered. But a run may ask to shrink the arena, and is
  refused where there is none.
- In a child that the process forks, the pools' threads are missing, and ONNX Runtime's own
  code waits for them: when a session is freed, and once more at the process's end.
- A global thread pool (``set_global_thread_pool_sizes``) makes every session fail that does
  not opt in. So skipc never makes one; see ``cpu.py``.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

USE_ENV_ALLOCATORS = "session.use_env_allocators"
_SHRINK = "memory.enable_memory_arena_shrinkage"
_SAME_AS_REQUESTED = 1
_NO_ARENA = "arena based allocator"
_ON_CPU = ("CPUExecutionProvider",)

# y = Identity(x), one float: ir_version 7, opset 13.
PROBE = (
    b'\x08\x07:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00"
    b"\x10\r"
)
"""A graph for sessions that only show what ONNX Runtime does."""

_lock = threading.Lock()
_registered_by_us = False
_sessions: weakref.WeakSet[Any] = weakref.WeakSet()
_survives_forks = False


def shared_arena(ort: ModuleType) -> str:
    """Makes sure that the process has a registered arena, and says whose it is.

    Empty if this ONNX Runtime has no arena to share.
    """
    global _registered_by_us
    with _lock:
        if _has_arena(ort):
            if _registered_by_us:
                return "one arena for all engines of this process"
            return "the arena that the application registered with ONNX Runtime"
        if not hasattr(ort, "create_and_register_allocator"):
            return ""
        memory = ort.OrtMemoryInfo(
            "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
        )
        # Growing by what is asked for, not by powers of two, keeps six engines near one.
        settings = ort.OrtArenaCfg({"arena_extend_strategy": _SAME_AS_REQUESTED})
        ort.create_and_register_allocator(memory, settings)
        _registered_by_us = _has_arena(ort)
        return "one arena for all engines of this process" if _registered_by_us else ""


def new_session(
    ort: ModuleType, model: str | bytes, options: Any, providers: Sequence[Any] = _ON_CPU
) -> tuple[Any, bool]:
    """Returns a session, and whether it uses a global thread pool.

    Its own pool where that is possible. Where the application has made a global pool, ONNX
    Runtime refuses sessions with their own. A forked child neither runs nor frees it.
    ``model`` is a path or a serialised graph; ``options`` are not used afterwards.
    """

    def create() -> Any:
        # Without enable_fallback=0, a failure is printed to stdout and tried again.
        session = ort.InferenceSession(
            model, options, providers=list(providers), enable_fallback=0
        )
        _sessions.add(session)
        return session

    _survive_forks()
    try:
        return create(), False
    except RuntimeError as error:
        if "global thread pool" not in str(error):
            raise
    options.use_per_session_threads = False
    # A number of threads is ignored here, with a warning.
    options.intra_op_num_threads = 0
    options.inter_op_num_threads = 0
    return create(), True


def _has_arena(ort: ModuleType) -> bool:
    """Whether sessions that use the environment's allocators get an arena."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    options.add_session_config_entry(USE_ENV_ALLOCATORS, "1")
    session, _ = new_session(ort, PROBE, options)
    run = ort.RunOptions()
    run.log_severity_level = 4
    run.add_run_config_entry(_SHRINK, "cpu:0")
    try:
        session.run(None, {"x": np.zeros(1, np.float32)}, run)
    except Exception as error:
        # What else can fail here is an arena of the application's that has no room left.
        return _NO_ARENA not in str(error)
    return True


def _survive_forks() -> None:
    """Makes sure that what the process forks can end, where the system lets it."""
    global _survives_forks
    if not _survives_forks and hasattr(os, "register_at_fork"):
        _survives_forks = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    """Keeps ONNX Runtime's own code from running in a forked child, which would hang."""
    for session in list(_sessions):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))  # it is never freed
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "on_exit"):  # of glibc: what is registered last runs first
            library.on_exit(library._exit, None)

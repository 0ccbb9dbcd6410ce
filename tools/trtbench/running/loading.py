"""Loading an engine and its first call: what they take in time and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.runtime.backends.phases import phased_backend
from skipc.runtime.errors import EngineError, SkipcError
from skipc.tools.pss import added_bytes, pss_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from skipc.runtime.backends import Arrays, Backend, Engine
    from skipc.runtime.backends.phases import LoadTimes


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine that was loaded and called once.

    Attributes:
        engine: The engine.
        load_ms: What loading it took.
        first_call_ms: What the first call took.
        parts: Parts of the load, where the backend tells them.
        host_bytes: What the process grew by; None where the system does not tell.
        device_bytes: What the device's free memory fell by; 0 without a device.
    """

    engine: Engine
    load_ms: float
    first_call_ms: float
    parts: LoadTimes | None
    host_bytes: int | None
    device_bytes: int


def load(
    backend: Backend,
    name: str,
    case: Arrays,
    now_ns: Callable[[], int],
    stack: ExitStack,
) -> Loaded:
    """Returns a configuration's engine, loaded and called once.

    Args:
        backend: Loads it.
        name: The configuration.
        case: The inputs of the first call.
        now_ns: The clock.
        stack: Closes the engine.

    Raises:
        BackendError: It could not be loaded or run; the configuration is named.
    """
    phased = phased_backend(backend)
    free_bytes = None if phased is None else phased.device_free_bytes()
    before = pss_bytes()
    try:
        start_ns = now_ns()
        engine = backend.load(name)
        stack.callback(engine.close)
        loaded_ns = now_ns()
        engine.run(case)
        end_ns = now_ns()
    except SkipcError as cause:
        if repr(name) in str(cause):
            raise
        raise EngineError(f"configuration {name!r} could not be loaded: {cause}") from cause
    host_bytes = added_bytes(before, pss_bytes())
    left_bytes = None if phased is None else phased.device_free_bytes()
    return Loaded(
        engine,
        max(loaded_ns - start_ns, 1) / 1e6,
        max(end_ns - loaded_ns, 1) / 1e6,
        None if phased is None else phased.load_times(name),
        host_bytes,
        added_bytes(left_bytes, free_bytes) or 0,
    )

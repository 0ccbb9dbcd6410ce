"""Loading and warming up every configuration, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, SkipcError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import ExitStack

    from numpy.typing import NDArray

    from ..backends import Backend, Engine


@dataclass(frozen=True, slots=True)
class Loaded:
    """The loaded engines.

    Attributes:
        engines: By configuration.
        warm_up_ms: What the last warm-up call of each took; empty without warm-up.
    """

    engines: Mapping[str, Engine]
    warm_up_ms: Mapping[str, float]


def load_all(
    backend: Backend,
    configurations: Iterable[str],
    sample: Mapping[str, NDArray[Any]],
    runs: int,
    now_ns: Callable[[], int],
    stack: ExitStack,
) -> Loaded:
    """Returns the engine of every configuration, warmed up by ``runs`` calls.

    Args:
        backend: Loads them.
        configurations: Their names.
        sample: The inputs of the warm-up calls.
        runs: Warm-up calls of each.
        now_ns: The clock.
        stack: Gets each engine's ``close``.

    Raises:
        BackendError: A configuration could not be loaded or run; the message names it.
    """
    engines: dict[str, Engine] = {}
    warm_up_ms: dict[str, float] = {}
    for name in configurations:
        try:
            engine = backend.load(name)
            stack.callback(engine.close)
            for _ in range(runs):
                start_ns = now_ns()
                engine.run(sample)
                warm_up_ms[name] = (now_ns() - start_ns) / 1e6
        except SkipcError as cause:
            if repr(name) in str(cause):
                raise
            raise EngineError(
                f"configuration {name!r} could not be loaded: {cause}"
            ) from cause
        except Exception as cause:
            raise EngineError(
                f"configuration {name!r} could not be loaded: {cause}"
            ) from cause
        engines[name] = engine
    return Loaded(engines, warm_up_ms)

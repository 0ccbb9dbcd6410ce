"""The null backend: runs nothing, returns fixed outputs, takes scripted time.

For tests of what is built on an ``AdaptiveEngine``: it needs no library and no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from ..errors import EngineError, choices_text
from . import Arrays, Outputs, Sharing

if TYPE_CHECKING:
    from ..clock import FakeClock
    from . import Engine

Script: TypeAlias = float | Sequence[float] | Callable[[int], float]
Scripted: TypeAlias = Arrays | Callable[[str, Arrays], Outputs]


class NullBackend:
    """A backend with scripted latencies and outputs.

    Args:
        latencies_ms: Per graph, what its calls take: a constant; a sequence with a value per
            call, the last of which repeats; or a function of the call's index, counted from
            0. A graph has its configuration's name where nothing else is said.
        outputs: The outputs by name, copied for each call; or a function of the graph's name
            and the inputs.
        clock: Moved on by each call's latency. Without one, calls take no time.
    """

    name = "null"
    threads = 1

    def __init__(
        self,
        latencies_ms: Mapping[str, Script],
        outputs: Scripted,
        clock: FakeClock | None = None,
    ) -> None:
        self._latencies_ms = dict(latencies_ms)
        self._outputs = outputs
        self._clock = clock

    def load(self, graph: str) -> Engine:
        """Returns the engine of a graph; ``EngineError`` if it has no scripted latency."""
        if graph not in self._latencies_ms:
            raise EngineError(
                f"the null backend has no latency for graph {graph!r}."
                f" {choices_text(graph, self._latencies_ms)}"
            )
        script = self._latencies_ms[graph]
        if isinstance(script, Sequence) and not script:
            raise EngineError(f"the latencies of graph {graph!r} are empty.")
        return _NullEngine(graph, _latency_of(script), self._outputs, self._clock)

    def sharing(self) -> Sharing:
        """Returns that there is nothing to share."""
        return Sharing(weights="none", arena="none", threads="the caller's")

    def close(self) -> None:
        """Does nothing."""


@dataclass
class _NullEngine:
    graph: str
    latency_ms: Callable[[int], float]
    outputs: Scripted
    clock: FakeClock | None
    calls: count[int] = field(default_factory=count)

    def run(self, inputs: Arrays) -> Outputs:
        call = next(self.calls)
        if self.clock is not None:
            self.clock.advance_ms(self.latency_ms(call))
        if callable(self.outputs):
            return self.outputs(self.graph, inputs)
        return {name: array.copy() for name, array in self.outputs.items()}

    def close(self) -> None:
        """Does nothing."""


def _latency_of(script: Script) -> Callable[[int], float]:
    if callable(script):
        return script
    if isinstance(script, Sequence):
        values = tuple(script)
        return lambda call: values[min(call, len(values) - 1)]
    constant_ms = script
    return lambda _: constant_ms

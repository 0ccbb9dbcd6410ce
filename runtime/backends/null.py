"""The null backend: runs nothing, returns fixed outputs, takes scripted time.

For tests of what is built on an ``AdaptiveEngine``: it needs no library and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EngineError, choices_text
from ..load.points import operating_points
from ..load.residency import ResidencyCounts
from . import Sharing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ..bundle.engines import EngineSet
    from ..bundle.folder import Bundle
    from ..clock import FakeClock
    from . import Arrays, Engine, Limits

    Script = float | Sequence[float] | Callable[[int], float]
    Outputs = Mapping[str, NDArray[Any]] | Callable[[str, Arrays], dict[str, NDArray[Any]]]


class NullBackend:
    """A backend with scripted latencies and outputs.

    Args:
        latencies_ms: Per configuration, what its calls take: a constant; a sequence with a
            value per call, the last of which repeats; or a function of the call's index,
            counted from 0.
        outputs: The outputs by name, copied for each call; or a function of the
            configuration's name and the inputs.
        clock: Moved on by each call's latency. Without one, calls take no time.
    """

    name = "null"
    threads = 1
    takes_device_arrays = False

    def __init__(
        self,
        latencies_ms: Mapping[str, Script],
        outputs: Outputs,
        clock: FakeClock | None = None,
    ) -> None:
        self._latencies_ms = dict(latencies_ms)
        self._outputs = outputs
        self._clock = clock

    def load(self, configuration: str) -> Engine:
        """Returns the engine of a configuration that has a scripted latency.

        Raises:
            EngineError: It has none.
        """
        if configuration not in self._latencies_ms:
            raise EngineError(
                f"the null backend has no latency for configuration {configuration!r}."
                f" {choices_text(configuration, self._latencies_ms)}"
            )
        script = self._latencies_ms[configuration]
        if isinstance(script, Sequence) and not script:
            raise EngineError(f"the latencies of configuration {configuration!r} are empty.")
        return _NullEngine(configuration, _latency_of(script), self._outputs, self._clock)

    def sharing(self) -> Sharing:
        """Returns that there is nothing to share."""
        return Sharing(weights="none", arena="none", threads="the caller's")

    @property
    def counts(self) -> ResidencyCounts:
        """Nothing: there is nothing to load."""
        return ResidencyCounts()

    def close(self) -> None:
        """Does nothing."""


class _NullEngine:
    def __init__(
        self,
        configuration: str,
        latency_ms: Callable[[int], float],
        outputs: Outputs,
        clock: FakeClock | None,
    ) -> None:
        self._configuration = configuration
        self._latency_ms = latency_ms
        self._outputs = outputs
        self._clock = clock
        self._calls = count()
        self._lock = Lock()

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Returns the scripted outputs, after moving the clock by the scripted latency."""
        with self._lock:
            call = next(self._calls)
        if self._clock is not None:
            self._clock.advance_ms(self._latency_ms(call))
        if callable(self._outputs):
            return self._outputs(self._configuration, inputs)
        return {name: array.copy() for name, array in self._outputs.items()}

    def ready(self) -> bool:
        """Returns True."""
        return True

    def prepare(self) -> frozenset[str]:
        """Returns nothing: there is nothing to load."""
        return frozenset()

    def close(self) -> None:
        """Does nothing."""


def null_backend(
    bundle: Bundle, engines: EngineSet | None, clock: FakeClock | None = None
) -> NullBackend:
    """Returns a null backend with a bundle's configurations.

    Its outputs are zeros of the manifest's shapes and types, with the inputs' batch; its
    latencies are those of ``operating_points``: tabled, else the front's, else from MACs.
    """
    points = operating_points(bundle.manifest, engines, NullBackend.threads)
    inputs, outputs = bundle.manifest.inputs, bundle.manifest.outputs

    def zeros(_: str, given: Arrays) -> dict[str, NDArray[Any]]:
        batches = [
            given[spec.name].shape[axis]
            for spec in inputs
            for axis, size in enumerate(spec.shape)
            if isinstance(size, str)
        ]
        return {
            spec.name: np.zeros(
                [batches[0] if isinstance(size, str) else size for size in spec.shape],
                spec.dtype,
            )
            for spec in outputs
        }

    latencies_ms = {point.configuration: point.p50_ms for point in points}
    return NullBackend(latencies_ms, zeros, clock)


def open_backend(bundle: Bundle, engines: EngineSet, limits: Limits) -> NullBackend:
    """Returns ``null_backend`` of a bundle; ``limits`` make no difference to it."""
    del limits
    return null_backend(bundle, engines)


def _latency_of(script: Script) -> Callable[[int], float]:
    if callable(script):
        return script
    if isinstance(script, Sequence):
        values = tuple(script)
        return lambda call: values[min(call, len(values) - 1)]
    constant_ms = script
    return lambda _: constant_ms

"""What is measured, and what is to be found out about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime import Bundle, Clock
    from skipc.runtime.backends import Arrays, Backend
    from skipc.runtime.backends.phases import Way
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.tools.trtbench.baselines.options import BaselineOptions
    from skipc.tools.trtbench.running.loop import Stop


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        bundle: The bundle.
        backend: Its backend, opened.
        engines: The target's engines; None where the null backend stands in.
        clock: What is timed with.
        names: The configurations, in the bundle's order.
        cases: The inputs, checked; at least one.
        backend_bytes: What this process grew by as the backend was opened; None where the
            system does not tell.
    """

    bundle: Bundle
    backend: Backend
    engines: EngineSet | None
    clock: Clock
    names: tuple[str, ...]
    cases: Sequence[Arrays]
    backend_bytes: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be found out.

    Attributes:
        stop: Warm-up, duration and iterations.
        loading_only: Whether to stop after the first calls.
        percents: The percentiles, 0 to 100.
        average_runs: How many calls in a row are averaged.
        meter: The meter's spec; None to measure no energy.
        way: How calls are made, where the backend leaves a choice.
        load_parts: Whether the parts of a load are reported.
        baselines: What else is measured beside the engines.
        streams: Calls of an engine at the same time.
        layers: Whether to find the times of the layers, afterwards.
    """

    stop: Stop
    loading_only: bool
    percents: tuple[float, ...]
    average_runs: int
    meter: str | None
    way: Way
    load_parts: bool
    baselines: BaselineOptions
    streams: int
    layers: bool

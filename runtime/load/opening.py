"""From a bundle to the backend that runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..backends import open_backend
from ..clock import FakeClock
from ..errors import BackendUnavailableError, StaleEngineError

if TYPE_CHECKING:
    from ..backends import Backend
    from ..bundle.engines import EngineSet
    from ..bundle.folder import Bundle
    from ..clock import Clock
    from ..meters import Sampler

NULL_TARGET = "null"


def bundle_backend(
    bundle: Bundle,
    target: str | None,
    threads: int | None,
    clock: Clock | None,
    device_bytes: int | None = None,
) -> tuple[Backend, EngineSet | None, Clock | None]:
    """Returns the backend for a bundle's target, its engines, and the clock to read.

    Args:
        bundle: The bundle.
        target: Its engines' name; None for the only ones, or the first by name that fit
            this host; ``null`` for the null backend, which needs none.
        threads: Threads that a call runs on; None for the backend's default.
        clock: The caller's clock. The null backend moves it if it is a ``FakeClock``, and
            brings one along where it is None.
        device_bytes: Most device memory that loaded engines may take; None for no limit.

    Raises:
        BundleError: There are no engines for ``target``.
        BackendError: No engines fit this host; with several targets, all reasons are given.
    """
    if target == NULL_TARGET and NULL_TARGET not in bundle.targets():
        from ..backends.null import null_backend

        moved = FakeClock() if clock is None else clock
        scripted = moved if isinstance(moved, FakeClock) else None
        return null_backend(bundle, None, scripted), None, moved
    names = bundle.targets()
    if target is not None or len(names) < 2:
        engines = bundle.engine_set(target)
        return open_backend(bundle, engines, threads, device_bytes), engines, clock
    reasons = []
    for name in names:
        engines = bundle.engine_set(name)
        try:
            return open_backend(bundle, engines, threads, device_bytes), engines, clock
        except (StaleEngineError, BackendUnavailableError) as reason:
            reasons.append(f"{name}: {reason}")
    raise StaleEngineError(f"{bundle.path}: no engines fit this host. {' '.join(reasons)}")


def started_sampler(meter: str, clock: Clock | None) -> Sampler:
    """Returns what reads a meter from now on, in the background.

    Args:
        meter: Which one: ``auto``, or one as ``skipc meters`` lists them.
        clock: What its readings are timed with; None for the monotonic clock.

    Raises:
        MeterError: There is no such meter here, or it cannot be read.
    """
    from ..meters import Sampler, open_meter

    sampler = Sampler(open_meter(meter, clock), clock)
    sampler.start()
    return sampler

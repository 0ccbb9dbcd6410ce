"""From a bundle to the backend that runs it, and to what there is to load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..backends import open_backend
from ..backends.null import NullBackend
from ..bundle.tensors import batch_of
from ..clock import FakeClock
from ..errors import BackendUnavailableError, StaleEngineError
from .loading import Family
from .points import operating_points

if TYPE_CHECKING:
    from ..backends import Arrays, Backend, Outputs
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
        moved = FakeClock() if clock is None else clock
        scripted = moved if isinstance(moved, FakeClock) else None
        return null_backend(bundle, None, scripted), None, moved
    names = bundle.targets()
    if target is not None or len(names) < 2:
        engines = bundle.engine_set(target)
        return _backend(bundle, engines, threads, device_bytes), engines, clock
    reasons = []
    for name in names:
        engines = bundle.engine_set(name)
        try:
            return _backend(bundle, engines, threads, device_bytes), engines, clock
        except (StaleEngineError, BackendUnavailableError) as reason:
            reasons.append(f"{name}: {reason}")
    raise StaleEngineError(f"{bundle.path}: no engines fit this host. {' '.join(reasons)}")


def _backend(
    bundle: Bundle, engines: EngineSet, threads: int | None, device_bytes: int | None
) -> Backend:
    if engines.backend == NullBackend.name:
        return null_backend(bundle, engines)
    return open_backend(bundle, engines, threads, device_bytes)


def null_backend(
    bundle: Bundle, engines: EngineSet | None, clock: FakeClock | None = None
) -> NullBackend:
    """Returns a null backend with a bundle's graphs.

    Its outputs are zeros of the manifest's shapes and types, with the inputs' batch; its
    latencies are those of ``operating_points``: tabled, else the front's, else from MACs.
    """
    manifest = bundle.manifest
    graphs = {graph.name: graph for graph in manifest.graphs}

    def zeros(graph: str, given: Arrays) -> Outputs:
        batch = batch_of(given, graphs[graph].inputs) or 1
        return {
            spec.name: np.zeros(spec.shape_at(batch), spec.dtype)
            for spec in graphs[graph].outputs
        }

    latencies_ms: dict[str, float] = {}
    points = operating_points(manifest, engines, NullBackend.threads)
    for entry, point in zip(manifest.configurations, points, strict=True):
        for stage in entry.route:  # each takes its share of the work
            share = (graphs[stage.graph].macs or 1) / (
                manifest.macs(entry) or len(entry.route)
            )
            latencies_ms.setdefault(stage.graph, share * point.p50_ms)
    return NullBackend(latencies_ms, zeros, clock)


def family_of(
    bundle: Bundle, engines: EngineSet | None, device_bytes: int | None = None
) -> Family:
    """Returns what there is to load of a bundle.

    Args:
        bundle: The bundle.
        engines: The target's engines; None for the null backend.
        device_bytes: Most device memory that loaded engines may take; None for no limit.
    """
    manifest = bundle.manifest
    sizes = {}
    if engines is not None:
        folder = bundle.engine_dir(engines.target)
        # Built ahead, nobody saw it on a device: what it holds has to lie there at least.
        sizes = {
            entry.graph: entry.device_bytes or (folder / entry.file).stat().st_size
            for entry in engines.engines
        }
    return Family(
        routes={entry.name: entry.route for entry in manifest.configurations},
        outputs=manifest.outputs,
        graphs={graph.name: graph for graph in manifest.graphs},
        size_bytes=sizes,
        limit_bytes=None if engines is None else device_bytes,
        keep=min(manifest.graphs, key=lambda graph: graph.macs).name,
    )


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

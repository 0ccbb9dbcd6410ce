"""A real run while another process takes the cores half of the time.

Three policies take turns, call by call, on the same engines: the governor; the table alone,
which does not learn; and always the most accurate configuration.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from skipc.runtime import AdaptiveEngine, Budget, Bundle
from skipc.tools.bench.bars import Bar
from skipc.tools.bench.harness import timed_ms
from skipc.tools.bench.networks import six_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from skipc.tools.bench.networks import Network

_SECONDS = 120.0
_HALF_PERIOD_S = 10.0
_QUIET_CALLS = 60
_QUANTILE = 0.95
_ROOM = 1.1
"""The budget over what the most accurate configuration takes while nothing disturbs it."""


def bars(network: Network, folder: Path) -> list[Bar]:
    """Returns how many calls of each policy were within a budget that could be met."""
    bundle = Bundle.open(six_of(network, folder))
    case, best = bundle.golden_inputs()[0], bundle.manifest.configurations[0].name
    times_ms: dict[str, list[float]] = {"governor": [], "table": [], best: []}
    chosen: Counter[str] = Counter()
    with (
        AdaptiveEngine.open(bundle.path, threads=1) as governed,
        AdaptiveEngine.open(bundle.path, threads=1) as fixed,
    ):
        fixed.pin(best)
        quiet_ms = [timed_ms(partial(fixed, case)) for _ in range(_QUIET_CALLS)]
        limit_ms = _ROOM * statistics.quantiles(quiet_ms, n=20)[-1]
        governed.budget = Budget(latency_ms=limit_ms, quantile=_QUANTILE)
        points = fixed.stats().configurations
        within = [point for point in points if point.p95_ms <= limit_ms] or points[-1:]
        table = max(within, key=lambda point: point.rank).configuration
        with _neighbours():
            end_s = time.perf_counter() + _SECONDS
            while time.perf_counter() < end_s:
                times_ms["governor"].append(timed_ms(partial(governed, case)))
                assert governed.last is not None
                chosen[governed.last.configuration] += 1
                for policy, configuration in (("table", table), (best, best)):
                    fixed.pin(configuration)
                    times_ms[policy].append(timed_ms(partial(fixed, case)))
    share = {
        policy: sum(ms <= limit_ms for ms in found) / len(found)
        for policy, found in times_ms.items()
    }
    ran = " ".join(f"{name} {count}" for name, count in chosen.items())
    note = f"{limit_ms:.0f} ms at quantile {_QUANTILE:g}; the governor ran {ran}"
    what = "calls within the budget while another process takes the cores half of the time"
    return [
        Bar(network.name, what, share["governor"], None, "x", note, least=0.97),
        Bar(network.name, f"… by the table alone: {table}", share["table"], None),
        Bar(network.name, f"… always {best}", share[best], None),
    ]


@contextmanager
def _neighbours() -> Iterator[None]:
    """Disturbs every core, by a process each, until the block ends."""
    context, began_s = multiprocessing.get_context("spawn"), time.monotonic()
    stop = context.Event()
    processes = [
        context.Process(target=_disturb, args=(stop, began_s), daemon=True)
        for _ in range(os.cpu_count() or 1)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in processes:
            process.join()


def _disturb(stop: Event, began_s: float) -> None:
    """Takes a core for half of each period, in step with the others."""
    while not stop.is_set():
        if (time.monotonic() - began_s) % (2 * _HALF_PERIOD_S) < _HALF_PERIOD_S:
            sum(range(200_000))
        else:
            time.sleep(0.01)

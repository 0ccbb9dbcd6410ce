"""A real run while another process takes the cores half of the time.

Three policies take turns, call by call, on the same engines: the governor; the table alone,
which does not learn; and always the most accurate configuration.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from typing import TYPE_CHECKING

from skipc.runtime import AdaptiveEngine, Budget, Bundle
from skipc.tools.bench.bars import Bar
from skipc.tools.bench.building import run_and_measure
from skipc.tools.bench.networks import build_command, prepare

if TYPE_CHECKING:
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
    """Returns how many calls of each policy were within a budget that could be met.

    Args:
        network: The network.
        folder: Holds ``six.skipc``, its bundle; it is built if it is not there.
    """
    if not (folder / "six.skipc").exists():
        prepare(network, folder)
        checkpoint = folder / "ckpt.pt"
        run_and_measure(
            build_command(network, checkpoint, folder / "six.json", folder / "six.skipc")
        )
    bundle = Bundle.open(folder / "six.skipc")
    case = bundle.golden_inputs()[0]
    best = bundle.manifest.configurations[0].name
    with (
        AdaptiveEngine.open(bundle.path, threads=1) as governed,
        AdaptiveEngine.open(bundle.path, threads=1) as fixed,
    ):
        fixed.pin(best)
        quiet_ms = [_call_ms(fixed, case) for _ in range(_QUIET_CALLS)]
        limit_ms = _ROOM * statistics.quantiles(quiet_ms, n=20)[-1]
        governed.budget = Budget(latency_ms=limit_ms, quantile=_QUANTILE)
        table = min(
            (each for each in fixed.stats().configurations if each.p95_ms <= limit_ms),
            key=lambda each: -each.rank,
            default=fixed.stats().configurations[-1],
        ).configuration
        times_ms: dict[str, list[float]] = {"governor": [], "table": [], best: []}
        chosen: dict[str, int] = {}
        stop = multiprocessing.get_context("spawn").Event()
        neighbours = _started_neighbours(stop)
        end_s = time.perf_counter() + _SECONDS
        try:
            while time.perf_counter() < end_s:
                times_ms["governor"].append(_call_ms(governed, case))
                assert governed.last is not None
                name = governed.last.configuration
                chosen[name] = chosen.get(name, 0) + 1
                for policy, configuration in (("table", table), (best, best)):
                    fixed.pin(configuration)
                    times_ms[policy].append(_call_ms(fixed, case))
        finally:
            stop.set()
            for neighbour in neighbours:
                neighbour.join()
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


def _call_ms(engine: AdaptiveEngine, case: object) -> float:
    start_ns = time.perf_counter_ns()
    engine(case)  # type: ignore[call-overload]
    return (time.perf_counter_ns() - start_ns) / 1e6


def _started_neighbours(stop: Event) -> list[multiprocessing.process.BaseProcess]:
    context = multiprocessing.get_context("spawn")
    began_s = time.monotonic()
    found: list[multiprocessing.process.BaseProcess] = []
    for _ in range(os.cpu_count() or 1):
        process = context.Process(target=_disturb, args=(stop, began_s), daemon=True)
        process.start()
        found.append(process)
    return found


def _disturb(stop: Event, began_s: float) -> None:
    """Takes a core for half of each period, in step with the others."""
    while not stop.is_set():
        if (time.monotonic() - began_s) % (2 * _HALF_PERIOD_S) < _HALF_PERIOD_S:
            sum(range(200_000))
        else:
            time.sleep(0.01)

"""Latency and switching, ours against plain sessions of the same graphs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skipc.runtime import AdaptiveEngine, Bundle
from skipc.tools.bench.bars import Bar
from skipc.tools.bench.if_graph import IfSession
from skipc.tools.trtbench.loading import plain_session

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from skipc.runtime.backends import Run
    from skipc.tools.bench.networks import Network

Call = Callable[[], object]


def timed_ms(call: Call) -> float:
    """Returns how long ``call`` took."""
    start_ns = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start_ns) / 1e6


def bars(network: Network, folder: Path, rounds: int = 30) -> list[Bar]:
    """Returns the bars of latency and switching of one network."""
    path = folder / "six.skipc"
    found = _steady(network, path, rounds)
    found.append(_after_switch(network, path, rounds))
    return found


def _steady(network: Network, path: Path, rounds: int) -> list[Bar]:
    bundle = Bundle.open(path)
    case = bundle.golden_inputs()[0]
    over_plain: dict[str, float] = {}
    if_over_ours: dict[str, float] = {}
    ours_ms: dict[str, float] = {}
    branching = IfSession(path)
    with AdaptiveEngine.open(path, threads=1) as engine:
        for entry in bundle.manifest.configurations:
            engine.pin(entry.name)
            file = bundle.manifest.graphs_of(entry)[0].file
            ours = _call(engine, case)
            pairs = _pairs(ours, _run(plain_session(path / file), case), rounds)
            over_plain[entry.name] = statistics.median(a / b for a, b in pairs)
            ours_ms[entry.name] = statistics.median(a for a, _ in pairs)
            pairs = _pairs(_skipping(branching, entry.taken("skip"), case), ours, rounds // 3)
            if_over_ours[entry.name] = statistics.median(a / b for a, b in pairs)
    worst = max(over_plain, key=lambda name: over_plain[name])
    listed = " ".join(f"{ms:.1f}" for ms in ours_ms.values())
    eager_ms = _eager_ms(network, path.parent, case, rounds)
    return [
        Bar(network.name, "median latency, over a plain session, worst configuration",
            over_plain[worst], 1.02, note=f"{worst}; ours: {listed} ms"),
        Bar(network.name, "… one graph with `If` nodes, over ours, worst configuration",
            max(if_over_ours.values()), None),
        Bar(network.name, "… PyTorch eager, over ours, full configuration",
            eager_ms / next(iter(ours_ms.values())), None),
    ]  # fmt: skip


def _pairs(first: Call, second: Call, rounds: int) -> list[tuple[float, float]]:
    """Returns both times of each round; the calls take turns in going first."""
    for call in (first, second):
        call()
    found = []
    for number in range(rounds):
        if number % 2:
            found.append((timed_ms(second), timed_ms(first))[::-1])
        else:
            found.append((timed_ms(first), timed_ms(second)))
    return found


def _call(engine: AdaptiveEngine, case: dict[str, np.ndarray[Any, Any]]) -> Call:
    return lambda: engine(case)


def _run(session: Run, case: dict[str, np.ndarray[Any, Any]]) -> Call:
    return lambda: session(case)


def _skipping(
    session: IfSession, skip: tuple[str, ...], case: dict[str, np.ndarray[Any, Any]]
) -> Call:
    return lambda: session.run(skip, case)


def _eager_ms(
    network: Network, folder: Path, case: dict[str, np.ndarray[Any, Any]], rounds: int
) -> float:
    import torch
    import transformers

    factory = getattr(transformers, network.factory)
    model = factory(factory.config_class()).eval()
    model.load_state_dict(torch.load(folder / "ckpt.pt", weights_only=True))
    inputs = {name: torch.tensor(array) for name, array in case.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        model(**inputs)
        times_ms = [timed_ms(lambda: model(**inputs)) for _ in range(max(rounds // 3, 5))]
    torch.set_num_threads(before)
    return statistics.median(times_ms)


def _after_switch(network: Network, path: Path, rounds: int) -> Bar:
    """The first call after a switch, over the same configuration's calls that follow it."""
    case = Bundle.open(path).golden_inputs()[0]
    ratios: dict[str, list[float]] = {}
    with AdaptiveEngine.open(path, threads=1) as engine:
        names = engine.configurations
        for _ in range(max(rounds // 3, 5)):
            for name in names:
                engine.pin(name)
                times_ms = [timed_ms(lambda: engine(case)) for _ in range(4)]
                ratios.setdefault(name, []).append(
                    times_ms[0] / statistics.median(times_ms[1:])
                )
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    worst = max(medians, key=lambda name: medians[name])
    what = "first call after a switch, over the steady median"
    return Bar(network.name, what, medians[worst], 1.10, note=f"worst: {worst}")

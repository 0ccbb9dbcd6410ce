"""Latency, switching and loading, ours against plain sessions of the same graphs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skipc.runtime import AdaptiveEngine, Bundle
from skipc.runtime.backends import open_backend
from skipc.tools.bench.bars import Bar
from skipc.tools.bench.plain import if_session, plain_session

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from skipc.tools.bench.networks import Network

Call = Callable[[], object]


def timed_ms(call: Call) -> float:
    """Returns how long ``call`` took."""
    start_ns = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start_ns) / 1e6


def bars(network: Network, folder: Path, rounds: int = 30) -> list[Bar]:
    """Returns the bars of latency, switching and loading of one network."""
    path = folder / "six.skipc"
    found = _steady(network, path, rounds)
    found.append(_after_switch(network, path, rounds))
    found.append(_loading(network, path))
    return found


def _steady(network: Network, path: Path, rounds: int) -> list[Bar]:
    bundle = Bundle.open(path)
    case = bundle.golden_inputs()[0]
    ratios: dict[str, list[float]] = {}
    ours_ms: dict[str, list[float]] = {}
    branching_ms: dict[str, list[float]] = {}
    branching = if_session(path)
    with AdaptiveEngine.open(path, threads=1) as engine:
        for entry in bundle.manifest.configurations:
            session = plain_session(path / entry.graph)
            engine.pin(entry.name)
            ours, plain = _call(engine, case), _run(session, case)
            inside = _skipping(branching, entry.skip, case)
            for call in (ours, plain, inside):
                call()
            pairs = [
                (timed_ms(ours), timed_ms(plain), timed_ms(inside)) for _ in range(rounds)
            ]
            ratios[entry.name] = [a / b for a, b, _ in pairs]
            ours_ms[entry.name] = [a for a, _, _ in pairs]
            branching_ms[entry.name] = [c / a for a, _, c in pairs]
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    worst = max(medians, key=lambda name: medians[name])
    own = [statistics.median(values) for values in ours_ms.values()]
    inside_worst = max(statistics.median(values) for values in branching_ms.values())
    listed = " ".join(f"{ms:.1f}" for ms in own)
    return [
        Bar(network.name, "median latency, over a plain session, worst configuration",
            medians[worst], 1.02, note=f"{worst}; ours: {listed} ms"),
        Bar(network.name, "… one graph with `If` nodes, over ours, worst configuration",
            inside_worst, None),
        Bar(network.name, "… PyTorch eager, over ours, full configuration",
            _eager_ms(network, folder_of(path), case, rounds) / own[0], None),
    ]  # fmt: skip


def folder_of(path: Path) -> Path:
    """Returns the folder that a bundle and its checkpoint lie in."""
    return path.parent


def _call(engine: AdaptiveEngine, case: dict[str, np.ndarray[Any, Any]]) -> Call:
    return lambda: engine(case)


def _run(session: Any, case: dict[str, np.ndarray[Any, Any]]) -> Call:
    return lambda: session.run(None, case)


def _skipping(
    session: Any, skip: tuple[str, ...], case: dict[str, np.ndarray[Any, Any]]
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
    inputs = {name: torch.from_numpy(array) for name, array in case.items()}
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


def _loading(network: Network, path: Path) -> Bar:
    """Loading a configuration beside the others, over a plain session of the same graph."""
    limit = 0.15 if network.name == "ResNet-50" else 0.5
    bundle = Bundle.open(path)
    backend = open_backend(bundle, bundle.engine_set("cpu"), 1)
    entries = bundle.manifest.configurations
    held = [backend.load(entry.name) for entry in entries]
    ratios, ours_ms, plain_ms = [], [], []
    for _ in range(3):
        for entry in entries:
            ours = timed_ms(lambda name=entry.name: backend.load(name).close())  # type: ignore[misc]
            plain = timed_ms(lambda graph=entry.graph: plain_session(path / graph))  # type: ignore[misc]
            ratios.append(ours / plain)
            ours_ms.append(ours)
            plain_ms.append(plain)
    for engine in held:
        engine.close()
    backend.close()
    return Bar(
        network.name, "loading one more configuration, over a plain session",
        statistics.median(ratios), limit,
        note=f"{statistics.median(ours_ms):.0f} over {statistics.median(plain_ms):.0f} ms",
    )  # fmt: skip

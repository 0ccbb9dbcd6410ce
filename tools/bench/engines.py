"""One session for a family, beside an engine for each configuration: bits aside, what differs.

Both are built of one bundle. Loading and memory are measured in fresh processes.
"""

from __future__ import annotations

import shutil
import statistics
import time
from contextlib import suppress
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.runtime import AdaptiveEngine, Bundle
from skipc.runtime.backends import open_backend
from skipc.runtime.errors import ChoiceError
from skipc.tools.bench.harness import (
    Bar,
    by_turns_ms,
    in_fresh_process,
    ratio,
    skipc,
    timed_ms,
)
from skipc.tools.bench.networks import RESNET50, six_of
from skipc.tools.trtbench.loading import added_bytes, pss_bytes
from skipc.tools.trtbench.plain import plain_session

if TYPE_CHECKING:
    from skipc.tools.bench.networks import Network

_ROUNDS = 20
_PROCESSES = 3
_MANY = 64


def bars(network: Network, folder: Path) -> list[Bar]:
    """Returns what one session takes, over engines or sessions of their own."""
    each, one = six_of(network, folder), folder / "six-one.skipc"
    if not one.exists():
        shutil.copytree(each, one)
        skipc("finish", one, "--target", "cpu", "--engines", "one")
    slower = _over_own(one, each)
    worst = max(slower, key=slower.__getitem__)
    turns = [("one", one), ("plain", each)] * _PROCESSES
    found = [in_fresh_process(loaded, how, path) for how, path in turns]
    ours, plain = found[::2], found[1::2]
    first_ms, more_ms, added = (
        statistics.median(column) for column in zip(*ours, strict=True)
    )
    plain_ms, another_ms, _ = map(statistics.median, zip(*plain, strict=True))
    alone, many = (
        [in_fresh_process(opened, path, count) for _ in range(_PROCESSES)]
        for path, count in ((folder / "one.skipc", 1), (one, _MANY))
    )
    alone_ms, alone_bytes = map(statistics.median, zip(*alone, strict=True))
    many_ms, many_bytes = map(statistics.median, zip(*many, strict=True))
    name, limit = network.name, 1.03 if network is RESNET50 else 1.01
    return [
        Bar(name, "one session, over the engine of each configuration, worst",
            slower[worst], limit,
            note=" ".join(f"{value:.3f}" for value in slower.values())),
        Bar(name, "… loading six, over six plain sessions", first_ms / plain_ms,
            None if network is RESNET50 else 0.15,
            note=f"{first_ms:.0f} over {plain_ms:.0f} ms"),
        Bar(name, "… one more, over a plain session", more_ms / another_ms,
            None if network is RESNET50 else 0.01,
            note=f"{1000 * more_ms:.0f} µs over {another_ms:.0f} ms"),
        Bar(name, "… memory of six in one session", added / 1e6, None, unit="MB"),
        Bar(name, f"opening {_MANY} configurations, over opening one", many_ms / alone_ms, 1.3,
            note=f"{many_ms:.0f} over {alone_ms:.0f} ms, two calls of the full one included"),
        Bar(name, f"memory of {_MANY} configurations, over one",
            many_bytes / alone_bytes, 1.05,
            note=f"{many_bytes / 1e6:.0f} over {alone_bytes / 1e6:.0f} MB"),
    ]  # fmt: skip


def opened(path: str, count: str) -> tuple[float, float]:
    """Returns what opening a bundle takes, in ms, and the bytes that it adds.

    Each configuration has been called once when the bytes are read.

    Args:
        path: The bundle.
        count: How many configurations there are to be; those that it lacks are added.
    """
    import onnxruntime  # noqa: F401  # the library itself is not the family's memory

    bundle = Bundle.open(Path(path))
    case = bundle.golden_inputs()[0]
    switches = bundle.engine_set("cpu").switches
    units = () if switches is None else switches.units
    before = pss_bytes()
    start_ns = time.perf_counter_ns()
    engine = AdaptiveEngine.open(bundle.path, threads=1)
    settings = (skip for size in (2, 3) for skip in combinations(units, size))
    while len(engine.configurations) < int(count):
        with suppress(ChoiceError):  # one of the bundle's
            engine.add(f"added{len(engine.configurations)}", next(settings))
    took_ms = (time.perf_counter_ns() - start_ns) / 1e6
    for name in engine.configurations:
        engine.pin(name)
        engine(case)
    added = added_bytes(before, pss_bytes())
    engine.close()
    return took_ms, float(added or 0)


def _over_own(one: Path, each: Path) -> dict[str, float]:
    """Returns each configuration's latency in the one session, over its own engine's."""
    found = {}
    both = [Bundle.open(path) for path in (one, each)]
    backends = [open_backend(bundle, bundle.engine_set("cpu"), 1) for bundle in both]
    case = both[0].golden_inputs()[0]
    for graph in both[0].manifest.graphs:
        engines = [backend.load(graph.name) for backend in backends]
        for engine in engines:
            engine.run(case)
        ours, own = (partial(engine.run, case) for engine in engines)
        found[graph.name] = ratio(by_turns_ms(ours, own, _ROUNDS))
    return found


def loaded(how: str, path: str) -> tuple[float, float, float]:
    """Returns what loading all configurations takes and the last of them, in ms, and bytes.

    Args:
        how: ``one`` session, or ``plain`` ones.
        path: The bundle.
    """
    import onnxruntime  # noqa: F401  # the library itself is not the family's memory

    bundle = Bundle.open(Path(path))
    case = bundle.golden_inputs()[0]
    backend = open_backend(bundle, bundle.engine_set("cpu"), 1)
    before, took_ms, held = pss_bytes(), [], []

    for graph in bundle.manifest.graphs:

        def load(name: str = graph.name, file: str = graph.file) -> None:
            held.append(
                backend.load(name).run if how == "one" else plain_session(bundle.path / file)
            )

        took_ms.append(timed_ms(load))
    for run in held:
        run(case)
    added = added_bytes(before, pss_bytes())
    return sum(took_ms), statistics.median(took_ms[1:]), float(added or 0)

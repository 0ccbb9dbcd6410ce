"""Whether ``trtbench`` can be believed: against other clocks, and with a slowdown planted."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from skipc.runtime import Bundle
from skipc.runtime.backends import open_backend
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from skipc.tools.bench.harness import Bar, skipc, timed_ms
from skipc.tools.bench.networks import RESNET50, six_of
from skipc.tools.trtbench.latency import batch_medians_ms, independent_ratio, paired_ratio
from skipc.tools.trtbench.loop import Stop, timed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from skipc.runtime.backends import Arrays
    from skipc.tools.trtbench.loop import Run

NAME = "trtbench"
_ROUNDS = 100
_RUNS = 40
_SLOWDOWN = 0.03
_MARGIN = 0.03
_SHORT = Stop(warm_up_ms=50, duration_s=0.3, iterations=30)


def bars(place: Path) -> list[Bar]:
    """Returns the bars of the loop: on the ResNet-50's bundle, and on a small network's."""
    resnet, small = six_of(RESNET50, RESNET50.folder(place)), _small(place / "small")
    return [*_against_others(resnet), *_planted(small), _overhead()]


def slowed(run: Run, share: float) -> Run:
    """Returns ``run``, made to take ``share`` longer: it spins."""

    def slow(inputs: Arrays) -> None:
        start_ns = time.perf_counter_ns()
        run(inputs)
        end_ns = time.perf_counter_ns()
        until_ns = end_ns + share * (end_ns - start_ns)
        while time.perf_counter_ns() < until_ns:
            pass

    return slow


def _against_others(path: Path) -> list[Bar]:
    """The median of a configuration by ``trtbench``, by a bare loop, by ONNX Runtime."""
    backend, cases = _opened(path)
    graph = Bundle.open(path).manifest.graphs[-1].name
    engine, bare_ms = backend.load(graph), []
    session = engine._held.session

    def bare(inputs: Arrays) -> None:
        """A call of the session in a loop and by a watch that are not skipc's."""
        bare_ms.append(timed_ms(lambda: session.run(None, inputs)))

    stop, now_ns = Stop(0, 0, _ROUNDS), time.perf_counter_ns
    trace = timed({"engine": engine.run, "bare": bare}, cases, stop, now_ns)
    reported_ms = trace.calls["engine"].latencies_ms
    off = float(np.median(reported_ms / np.array(bare_ms)))
    note = f"{graph}: {np.median(reported_ms):.2f} and {np.median(bare_ms):.2f} ms"
    with TemporaryDirectory() as folder:
        profiled = backend.load(graph, profile=str(Path(folder) / "profile"))
        trace = timed({"engine": profiled.run}, cases, stop, now_ns)
        events = json.loads(profiled.end_profiling().read_text())
    runs_ms = [event["dur"] / 1000 for event in events if event["name"] == "model_run"]
    by_profiler_ms = statistics.median(runs_ms)
    profiled_ms = float(np.median(trace.calls["engine"].latencies_ms))
    what = "median latency, off"
    return [
        Bar(RESNET50.name, f"{what} that of a bare loop on the same session, alternating",
            abs(off - 1), 0.02, note=note),
        Bar(RESNET50.name, f"{what} that of ONNX Runtime's profiler, the same calls",
            abs(profiled_ms / by_profiler_ms - 1), 0.02,
            note=f"{graph}: {profiled_ms:.2f} and {by_profiler_ms:.2f} ms"),
    ]  # fmt: skip


def _opened(path: Path) -> tuple[OnnxRuntimeCpu, Sequence[Arrays]]:
    """Returns a bundle's backend on one thread, and the input to measure with."""
    bundle = Bundle.open(path)
    backend = open_backend(bundle, bundle.engine_set("cpu"), 1)
    assert isinstance(backend, OnnxRuntimeCpu)
    return backend, bundle.golden_inputs()[:1]


def _planted(path: Path) -> list[Bar]:
    """How often a planted slowdown is found, and how often one that is not there."""
    backend, cases = _opened(path)
    engine = backend.load("full")
    # All are wrapped: what the wrapper costs must not count as a difference.
    lanes = {
        "a": slowed(engine.run, 0),
        "same": slowed(engine.run, 0),
        "slow": slowed(engine.run, _SLOWDOWN),
    }
    medians = [_medians(lanes, cases) for _ in range(_RUNS)]
    slow = [paired_ratio(found["slow"], found["a"]) for found in medians]
    same = [paired_ratio(found["same"], found["a"]) for found in medians]
    pairs = list(zip(medians, medians[1:] + medians[:1], strict=True))
    later = [independent_ratio(after["a"], before["a"]) for before, after in pairs]
    later_slow = [independent_ratio(after["slow"], before["a"]) for before, after in pairs]
    limits = [1, 1 + _MARGIN]
    wrong, right = (
        [_share((each.low or 0) > at for each in ratios) for at in limits]
        for ratios in (later, later_slow)
    )
    found, spread = ([each.ratio for each in ratios] for ratios in (slow, same))
    what = f"{_RUNS} runs of {_SHORT.duration_s:g} s:"
    return [
        Bar(NAME, f"{what} {_SLOWDOWN:.0%} planted, called slower",
            _share(each.verdict() == "slower" for each in slow), None, least=0.95,
            note=f"ratios {min(found):.4f} to {max(found):.4f}"),
        Bar(NAME, f"{what} nothing planted, no difference shown",
            _share(each.verdict() == "no difference shown" for each in same), None, least=0.95,
            note=f"ratios {min(spread):.4f} to {max(spread):.4f}"),
        Bar(NAME, "--compare of one run and the next, nothing planted, called slower",
            wrong[1], None, note=f"without a margin {wrong[0]:.2f}"),
        Bar(NAME, f"--compare of one run and the next, {_SLOWDOWN:.0%} planted, called slower",
            right[1], None, note=f"as little as its margin; without one {right[0]:.2f}"),
    ]  # fmt: skip


def _medians(
    lanes: Mapping[str, Run], cases: Sequence[Arrays]
) -> dict[str, tuple[float, ...]]:
    trace = timed(lanes, cases, _SHORT, time.perf_counter_ns)
    return {name: batch_medians_ms(calls.latencies_ms) for name, calls in trace.calls.items()}


def _overhead() -> Bar:
    """What the loop itself takes of each call, all that it notes included."""

    def nothing(inputs: Arrays) -> None:
        pass

    rounds, lanes = 20_000, {str(number): nothing for number in range(6)}

    def loop() -> object:
        return timed(lanes, [{}], Stop(0, 0, rounds), time.perf_counter_ns)

    median_ms = statistics.median(timed_ms(loop) for _ in range(7))
    per_call_us = 1000 * median_ms / (rounds * len(lanes))
    return Bar(NAME, "the loop itself, per call of nothing", per_call_us, 20.0, "µs")


def _small(folder: Path) -> Path:
    """Returns the bundle of the digits network, made anew."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = find_recipe("resnet")
    network = recipe.load()()
    checkpoint, front = folder / "ckpt.pt", folder / "front.json"
    save_checkpoint(
        checkpoint, CheckpointFile("skipc:resnet", {}, network.state_dict(), recipe.inputs)
    )
    write_front(front, Front((FrontEntry("full"),)))
    skipc("build", checkpoint, "--overwrite", "--front", front, "--target", "cpu")
    return checkpoint.with_suffix(".skipc")


def _share(found: Iterable[bool]) -> float:
    return statistics.fmean(found)

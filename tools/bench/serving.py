"""A family behind ``skipc serve``: overload, many clients, its own overhead, faults.

A network trained on the digits, and the front that ``skipc select`` finds. Server and clients
share the machine. What is within the budget is what the clients see.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.extras import require
from skipc.runtime import AdaptiveEngine, Bundle
from skipc.tools.bench.harness import Bar, skipc
from skipc.tools.bench.serving_client import Asking, Seen, closed_loop, open_loop

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Expected = Mapping[str, NDArray[Any]]

NAME = "serving"
_TRAINED = (
    *("--data", "digits", "--epochs", 6, "--network-arg", "drop=0.3"),
    *("--network-arg", "widths=[32,64,64]", "--network-arg", "depths=[4,4,4]"),
)
_SELECTED = ("--data", "digits", "--evaluations", 24, "--samples", 600, "--size", 5)
_ROWS, _MOST_ROWS = 64, 256
_SECONDS = 6.0
_CALLS_PER_BUDGET = 10
_LOADS = (0.5, 1.0, 2.0, 3.0)
_FAULTY_REQUESTS = 100_000
_ECHOED = 400


def bars(place: Path) -> list[Bar]:
    """Returns what a server does under load, and what it costs."""
    path = _bundle(place / NAME)
    return [*overload(path), *many_clients(path), *faults(path), *overhead(path)]


def overload(path: Path) -> list[Bar]:
    """Open-loop arrivals, up to three times what the full configuration sustains."""
    accuracies = _accuracies(path)
    full = max(accuracies, key=lambda name: accuracies[name])
    asking, expected = Asking, _expected(path)
    with AdaptiveEngine.open(path, threads=1) as engine:
        predicted_ms = engine.predict_ms({"N": _ROWS})
    fastest = min(predicted_ms, key=lambda name: predicted_ms[name])
    limit_ms = _CALLS_PER_BUDGET * predicted_ms[full]
    rows = _images()
    with _server(path, "--configuration", full, "--latency-ms", limit_ms) as port:
        sustained = closed_loop(asking(port, path.stem, rows, expected), 64, _SECONDS)
        per_s = len(sustained.ms) / sustained.seconds
        pinned = open_loop(asking(port, path.stem, rows, expected), 2 * per_s, _SECONDS)
    with _server(path, "--configuration", fastest, "--latency-ms", limit_ms) as port:
        quick = open_loop(asking(port, path.stem, rows, expected), 2 * per_s, _SECONDS)
    found: dict[float, Seen] = {}
    with _server(path, "--latency-ms", limit_ms) as port:
        for load in _LOADS:
            asked = asking(port, path.stem, rows, expected)
            found[load] = open_loop(asked, load * per_s, _SECONDS)
    twice, all_seen = found[2.0], (pinned, quick, *found.values())
    gained = twice.accuracy(accuracies) - accuracies[fastest]
    ends = f"{100 * accuracies[fastest]:.1f} to {100 * accuracies[full]:.1f} %"
    told = f"{per_s:.0f} requests of {_ROWS} rows a second, {limit_ms:.0f} ms"
    shares = ", ".join(
        f"{load:g}x: {seen.within(limit_ms):.3f}" for load, seen in found.items()
    )
    means = ", ".join(
        f"{load:g}x: {100 * seen.accuracy(accuracies):.1f}" for load, seen in found.items()
    )
    return [
        Bar(NAME, "within the latency budget at twice what the full one sustains",
            twice.within(limit_ms), None, least=0.97, note=f"{told}; {shares}"),
        Bar(NAME, "… the full one alone", pinned.within(limit_ms), None),
        Bar(NAME, "… the fastest one alone", quick.within(limit_ms), None),
        Bar(NAME, "… mean accuracy gained, of what the full one gains over the fastest",
            gained / (accuracies[full] - accuracies[fastest]), None, least=0.5,
            note=f"{ends}; {means}"),
        Bar(NAME, "… wrong or lost answers",
            sum(seen.wrong + seen.lost for seen in all_seen), 0, unit=""),
    ]  # fmt: skip


def many_clients(path: Path) -> list[Bar]:
    """Clients in a closed loop, the full configuration: 64 of them over one."""
    accuracies, expected = _accuracies(path), _expected(path)
    full = max(accuracies, key=lambda name: accuracies[name])
    rates: dict[int, float] = {}
    with _server(path, "--configuration", full) as port:
        for clients in (1, 4, 16, 64):
            seen = closed_loop(Asking(port, path.stem, _images(), expected), clients, _SECONDS)
            rates[clients] = len(seen.ms) / seen.seconds
    note = ", ".join(f"{clients}: {rate:.0f}/s" for clients, rate in rates.items())
    what = "throughput of 64 clients over one, full configuration"
    return [Bar(NAME, what, rates[64] / rates[1], None, least=1.0, note=note)]


def faults(path: Path) -> list[Bar]:
    """Bad tensors, clients that leave; and under Ray a replica that dies."""
    expected = _expected(path)
    with _server(path, "--latency-ms", 1000) as port:
        alone = closed_loop(
            Asking(port, path.stem, _images(), expected, _fault), 16, 600.0, _FAULTY_REQUESTS
        )
    words = ("--ray", "--replicas", "2", "--latency-ms", "1000")
    with _server(path, *words) as port, _dying_replica():
        ray = closed_loop(
            Asking(port, path.stem, _images(), expected, _fault), 16, 120.0, _FAULTY_REQUESTS
        )
    return [_wrong_or_lost("one process", alone), _wrong_or_lost("Ray, a replica dies", ray)]


def _wrong_or_lost(where: str, seen: Seen) -> Bar:
    told = ", ".join(f"{status}: {count}" for status, count in sorted(seen.statuses.items()))
    what = f"wrong or lost answers with faults, {where}"
    return Bar(
        NAME, what, seen.wrong + seen.lost, 0, unit="", note=f"answers by status {told}"
    )


def _fault(number: int) -> str:
    return {0: "bad", 1: "gone"}.get(number % 20, "")


def overhead(path: Path) -> list[Bar]:
    """One client: a request through Ray Serve, without the engine's part, over a bare echo."""
    expected = _expected(path)
    fastest = min(_accuracies(path), key=lambda name: _accuracies(path)[name])
    with _server(path, "--ray", "--configuration", fastest) as port:
        seen = closed_loop(Asking(port, path.stem, _images(), expected), 1, 600.0, _ECHOED)
    with AdaptiveEngine.open(path, threads=1) as engine:
        engine.pin(fastest)
        taken_ms = []
        for _ in range(_ECHOED):
            start_s = time.perf_counter()
            engine(_images())
            taken_ms.append(1000 * (time.perf_counter() - start_s))
    with _echo() as port:
        echoed = closed_loop(Asking(port, path.stem, _images(), {}), 1, 600.0, _ECHOED)
    whole_ms, engine_ms, echo_ms = map(statistics.median, (seen.ms, taken_ms, echoed.ms))
    return [
        Bar(NAME, "a request through Ray Serve without its call, over a bare echo",
            (whole_ms - engine_ms) / echo_ms, 1.1,
            note=f"{whole_ms:.2f} ms with a call of {engine_ms:.2f}, echo {echo_ms:.2f} ms"),
    ]  # fmt: skip


@contextmanager
def _server(path: Path, *words: object) -> Iterator[int]:
    """Yields the port of a server of a bundle."""
    port = 8473
    arguments = ["serve", path, "--threads", 1, "--port", port, *words]
    command = [sys.executable, "-m", "skipc.tools.cli", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.startswith("serving"):
                    break
            else:
                raise SystemExit(f"{' '.join(command)} ended")
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()


@contextmanager
def _dying_replica() -> Iterator[None]:
    """Kills a replica of this process's server some seconds from now."""
    psutil = require("psutil", "dev")

    def kill() -> None:
        below = psutil.Process().children(recursive=True)
        replicas = [each for each in below if "ServeReplica" in " ".join(each.cmdline())]
        os.kill(replicas[0].pid, signal.SIGKILL)

    timer = threading.Timer(10.0, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


_ECHO = """
import signal, sys
from ray import serve
import ray
from starlette.responses import Response
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
class Echo:
    async def __call__(self, request):
        body = await request.body()
        return Response(body, media_type="application/octet-stream")
serve.run(serve.deployment(max_ongoing_requests=1000)(Echo).bind(), route_prefix="/")
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
"""


@contextmanager
def _echo() -> Iterator[int]:
    """Yields the port of a Ray Serve that answers with what it is sent."""
    command = [sys.executable, "-W", "ignore", "-c", _ECHO, "8474"]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(
        command, text=True, stdin=pipe, stdout=pipe, stderr=nothing
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None, "the echo ended"
        yield 8474


def _bundle(folder: Path) -> Path:
    """Returns the family's bundle, made if it is not there."""
    path = folder / "served.skipc"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint, front = folder / "ckpt.pt", folder / "front.json"
        skipc("train", "stochastic-depth", *_TRAINED, "--out", folder)
        skipc("select", checkpoint, *_SELECTED, "--out", front)
        skipc(
            *("build", checkpoint, "--front", front, "--target", "cpu", "--out", path),
            *("--input", "Nx1x8x8", "--batch", f"{_ROWS}:{_ROWS}:{_MOST_ROWS}"),
        )
    return path


def _images() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((_ROWS, 1, 8, 8), np.float32)


def _accuracies(path: Path) -> dict[str, float]:
    entries = Bundle.open(path).manifest.configurations
    return {entry.name: entry.metrics["accuracy"] for entry in entries}


def _expected(path: Path) -> dict[str, NDArray[Any]]:
    """Returns what each configuration answers to the images."""
    found = {}
    with AdaptiveEngine.open(path, threads=1) as engine:
        for name in engine.configurations:
            engine.pin(name)
            found[name] = engine(_images())
    return found

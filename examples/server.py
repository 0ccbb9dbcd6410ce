"""A server under load: as more clients ask at once, accuracy gives way and latency stays.

A family behind `skipc serve` answers 1, 2, 4 ... 32 clients, each of which asks again as soon
as it is answered. What waits together runs in one call, and the more waits, the faster a
configuration runs:

    pip install '.[compiler,cpu,select,serve]'
    python examples/server.py            # the picture is examples-out/server/server.png
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from begin import COLOURS, Run, begun, digits_family

from skipc.compiler.recipes.digits_data import Part, load_digits


@dataclass(frozen=True)
class Answered:
    """A request: how long its client waited, what answered, and whether that was right."""

    latency_ms: float
    configuration: str
    right: bool


@contextlib.contextmanager
def serving(latency_ms: float) -> Iterator[int]:
    """Yields the port of a server in a process of its own."""
    command = [sys.executable, "-m", "skipc.tools.cli", "serve", "ckpt.skipc", "--port", "0"]
    command += ["--latency-ms", str(latency_ms), "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = ""
        for line in process.stderr:
            told += line
            if found := re.search(r"http://[\d.]+:(\d+)", line):
                yield int(found[1])
                break
        process.terminate()
        if "serving" not in told:
            sys.exit(f"server.py: {told}")


def client(port: int, held: Part, until: float, found: list[Answered]) -> None:
    """Asks again and again, each time with another image."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    number = threading.get_ident() % len(held.labels)
    while time.monotonic() < until:
        number = (number + 1) % len(held.labels)
        image = held.images[number][None]
        tensor = {
            "name": "images",
            "shape": image.shape,
            "datatype": "FP32",
            "data": image.ravel().tolist(),
        }
        begin = time.monotonic()
        connection.request("POST", "/v2/models/ckpt/infer", json.dumps({"inputs": [tensor]}))
        answer = json.loads(connection.getresponse().read())
        taken_ms = (time.monotonic() - begin) * 1000
        if "outputs" in answer:
            right = int(np.argmax(answer["outputs"][0]["data"])) == held.labels[number]
            found.append(Answered(taken_ms, answer["parameters"]["configuration"], right))
    connection.close()


def under(clients: int, port: int, held: Part, for_s: float) -> list[Answered]:
    """Returns what so many clients at once were answered."""
    found: list[Answered] = []
    arguments = (port, held, time.monotonic() + for_s, found)
    threads = [threading.Thread(target=client, args=arguments) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def draw(found: dict[int, list[Answered]], names: list[str], latency_ms: float) -> None:
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    place, labels = np.arange(len(found)), [str(clients) for clients in found]
    times = [[one.latency_ms for one in each] for each in found.values()]
    left.plot(
        place, [np.median(each) for each in times], "o-", color=COLOURS[0], label="median"
    )
    left.plot(
        place,
        [np.quantile(each, 0.95) for each in times],
        "o:",
        color=COLOURS[0],
        label="95 %",
    )
    left.axhline(latency_ms, color="black", lw=1, label="granted")
    left.set(xlabel="clients at once", ylabel="ms from request to answer", ylim=(0, None))
    left.legend(frameon=False)
    below = np.zeros(len(found))
    for name, colour in zip(names, COLOURS, strict=False):
        shares = np.array(
            [np.mean([one.configuration == name for one in each]) for each in found.values()]
        )
        right.bar(place, 100 * shares, 0.8, 100 * below, color=colour, label=name)
        below += shares
    accuracy = [100 * np.mean([one.right for one in each]) for each in found.values()]
    right.plot(place, accuracy, "ko-", ms=4, label="answers that are right")
    right.set(xlabel="clients at once", ylabel="%", ylim=(0, 112))
    right.legend(
        frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=8
    )
    for axes in (left, right):
        axes.set_xticks(place, labels)
        axes.spines[["top", "right"]].set_visible(False)
    plt.savefig("server.png", dpi=110, bbox_inches="tight")
    plt.close("all")


def main(run: Run) -> None:
    names = digits_family(run, "--input", "Nx1x8x8", "--batch", "1:4:16")
    latency_ms, found = (1000.0 if run.tiny else 60.0), {}
    with serving(latency_ms) as port:
        for clients in (1, 2) if run.tiny else (1, 2, 4, 8, 16, 32):
            found[clients] = under(
                clients, port, load_digits().report, 0.2 if run.tiny else 2.5
            )
            each = found[clients]
            median_ms = np.median([one.latency_ms for one in each])
            right = 100 * np.mean([one.right for one in each])
            told = f"{len(each)} answers, {median_ms:.1f} ms, {right:.1f} % right"
            print(f"{clients:3} clients: {told}")
    draw(found, names, latency_ms)


if __name__ == "__main__":
    with begun("server") as started:
        main(started)

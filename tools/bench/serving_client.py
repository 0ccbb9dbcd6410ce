"""Clients of a server: some in a closed loop, or requests that come as they come.

Each answer is looked at: a wrong or a lost one is counted. What a client sees is timed.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = NDArray[Any]

_PATIENCE_S = 120.0
_MOST_CONNECTIONS = 512


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        ms: From a request's moment to its answer, of each that was answered with outputs.
        configurations: How many of these each configuration gave.
        statuses: How often each of HTTP's statuses came.
        wrong: Answers whose outputs were not those of the configuration that they name.
        lost: Requests without an answer, whose client had not gone.
        seconds: How long all of it took.
    """

    ms: list[float] = field(default_factory=list)
    configurations: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    lost: int = 0
    seconds: float = 0.0

    def within(self, limit_ms: float) -> float:
        """Returns the share of all requests that were answered in so many ms."""
        return sum(ms <= limit_ms for ms in self.ms) / max(self.asked, 1)

    def accuracy(self, accuracies: Mapping[str, float]) -> float:
        """Returns the mean accuracy of the configurations that answered."""
        total = sum(self.configurations.values())
        return sum(accuracies[n] * c for n, c in self.configurations.items()) / max(total, 1)

    @property
    def asked(self) -> int:
        """How many requests there were."""
        return sum(self.statuses.values()) + self.lost


@dataclass(frozen=True)
class Asking:
    """What is asked, and what must be answered.

    Attributes:
        port: The server's, on loopback.
        model: The model's name.
        rows: The input.
        expected: What each configuration answers; empty for an echo.
        fault: Returns which fault a request has: "", "bad" or "gone"; given its number.
    """

    port: int
    model: str
    rows: Arrays
    expected: Mapping[str, Arrays]
    fault: Callable[[int], str] = lambda number: ""


def closed_loop(asking: Asking, clients: int, seconds: float, most: int = 10**9) -> Seen:
    """Returns what clients saw that each ask again once they are answered."""

    async def run() -> Seen:
        seen, wire = Seen(), _Wire(asking)
        end_s = time.perf_counter() + seconds
        numbers = iter(range(most))

        async def client() -> None:
            while time.perf_counter() < end_s:
                number = next(numbers, None)
                if number is None:
                    return
                await wire.ask(number, time.perf_counter(), seen)

        start_s = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        seen.seconds = time.perf_counter() - start_s
        wire.close()
        return seen

    return asyncio.run(run())


def open_loop(asking: Asking, per_s: float, seconds: float, seed: int = 0) -> Seen:
    """Returns what clients saw whose requests come at random, whatever was answered."""

    async def run() -> Seen:
        seen, wire, rng = Seen(), _Wire(asking), random.Random(seed)
        start_s = time.perf_counter()
        tasks: list[asyncio.Task[None]] = []
        due_s = start_s
        while due_s < start_s + seconds:
            await asyncio.sleep(max(due_s - time.perf_counter(), 0))
            tasks.append(asyncio.create_task(wire.ask(len(tasks), due_s, seen)))
            due_s += rng.expovariate(per_s)
        await asyncio.gather(*tasks)
        seen.seconds = time.perf_counter() - start_s
        wire.close()
        return seen

    return asyncio.run(run())


class _Wire:
    """Connections to a server, kept and used again."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._good, self._bad = (
            _request(asking, asking.rows),
            _request(asking, asking.rows[:0]),
        )
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._places = asyncio.Semaphore(_MOST_CONNECTIONS)

    async def ask(self, number: int, due_s: float, seen: Seen) -> None:
        """Asks once, for what was due at a moment, and takes note of what came."""
        fault = self._asking.fault(number)
        async with self._places:
            try:
                reader, writer = (
                    self._free.pop()
                    if self._free
                    else await asyncio.open_connection("127.0.0.1", self._asking.port)
                )
                writer.write(self._bad if fault == "bad" else self._good)
                if fault == "gone":
                    await writer.drain()
                    writer.close()
                    return
                answer = _answer(reader)
                status, head, body = await asyncio.wait_for(answer, _PATIENCE_S)
            except (OSError, EOFError, asyncio.TimeoutError):
                seen.lost += 1
                return
        self._free.append((reader, writer))
        seen.statuses[status] += 1
        if status == 200 and fault != "bad":
            seen.ms.append(1000 * (time.perf_counter() - due_s))
            if not self._asking.expected:
                return
            configuration = head["parameters"]["configuration"]
            seen.configurations[configuration] += 1
            expected = self._asking.expected[configuration]
            found = np.frombuffer(body, np.float32).reshape(expected.shape)
            seen.wrong += not np.allclose(found, expected, rtol=1e-3, atol=1e-4)
        elif status == 200:
            seen.wrong += 1

    def close(self) -> None:
        """Closes the connections."""
        for _, writer in self._free:
            writer.close()


def _request(asking: Asking, rows: Arrays) -> bytes:
    tensor = {
        "name": "images",
        "shape": rows.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": rows.nbytes},
    }
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    head, data = json.dumps(document).encode(), rows.tobytes()
    lines = (
        f"POST /v2/models/{asking.model}/infer HTTP/1.1",
        "Host: 127.0.0.1",
        f"Inference-Header-Content-Length: {len(head)}",
        f"Content-Length: {len(head) + len(data)}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + head + data


async def _answer(reader: asyncio.StreamReader) -> tuple[int, Any, bytes]:
    """Returns an answer's status, the JSON in it and the bytes behind that."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers["content-length"]))
    length = int(headers.get("inference-header-content-length", "0"))
    head = json.loads(body[:length]) if length else {}
    return int(lines[0].split()[1]), head, body[length:]

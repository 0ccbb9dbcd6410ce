"""A robot's loop in asyncio: control never waits for the network, frames have deadlines.

Control runs every 10 ms in the event loop. Frames are answered in a thread, within what is
left of their period; a planner that runs now and then takes the processor away. Where that
happens the governor answers with less of the network:

    python examples/robot.py             # the picture is examples-out/robot/robot.png
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
from begin import COLOURS, Run, begun, digits_family

from skipc.compiler.recipes.digits_data import load_digits
from skipc.runtime import AdaptiveEngine

CONTROL_S = 0.01


@dataclass
class Robot:
    """What the tasks share, and what they saw."""

    engine: AdaptiveEngine
    frames: np.ndarray
    period_s: float
    over: asyncio.Event = field(default_factory=asyncio.Event)
    worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    answered: list[tuple[float, float, str]] = field(default_factory=list)
    control_late_ms: list[tuple[float, float]] = field(default_factory=list)
    planned: list[tuple[float, float]] = field(default_factory=list)

    def see(self, frame: np.ndarray, due_s: float) -> None:
        """Answers a frame, in the worker's thread."""
        left_ms = max(0.01, (due_s - time.monotonic()) * 1000)
        self.engine(frame[None], deadline_ms=left_ms)
        last = self.engine.last
        assert last is not None
        self.answered.append((time.monotonic(), last.latency_ms, last.configuration))

    async def vision(self) -> None:
        """Gives each frame to the worker, with its deadline."""
        loop, begin = asyncio.get_running_loop(), time.monotonic()
        for number, frame in enumerate(self.frames):
            due_s = begin + (number + 1) * self.period_s
            await loop.run_in_executor(self.worker, self.see, frame, due_s)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        self.over.set()

    async def control(self) -> None:
        """Acts every 10 ms, and notes how late it is."""
        due_s = time.monotonic()
        while not self.over.is_set():
            due_s += CONTROL_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self.control_late_ms.append((time.monotonic(), (time.monotonic() - due_s) * 1000))

    async def planner(self) -> None:
        """Computes hard in a thread of its own for a while, then rests."""
        while not self.over.is_set():
            begin = time.monotonic()
            await asyncio.to_thread(_plan, 20 * self.period_s)
            self.planned.append((begin, time.monotonic()))
            await asyncio.sleep(30 * self.period_s)


def _plan(for_s: float) -> None:
    until, a = time.monotonic() + for_s, np.ones((200, 200), np.float32)
    while time.monotonic() < until:
        a = np.tanh(a @ a / 200)


async def drive(engine: AdaptiveEngine, frames: np.ndarray, period_s: float) -> Robot:
    robot = Robot(engine, frames, period_s)
    await asyncio.gather(robot.vision(), robot.control(), robot.planner())
    robot.worker.shutdown()
    return robot


def draw(robot: Robot, names: list[str]) -> None:
    begin = robot.control_late_ms[0][0]
    _, (upper, lower) = plt.subplots(2, 1, figsize=(9, 5), sharex=True, height_ratios=(3, 1))
    for first, last in robot.planned:
        for axes in (upper, lower):
            axes.axvspan(first - begin, last - begin, color="#eceff2")
    for name, colour in zip(names, COLOURS, strict=False):
        own = [
            (at - begin, taken) for at, taken, answered in robot.answered if answered == name
        ]
        if own:
            upper.plot(*zip(*own, strict=True), ".", color=colour, label=name)
    upper.axhline(robot.period_s * 1000, color="black", lw=1, label="deadline")
    upper.set(ylabel="ms of a frame", ylim=(0, None))
    upper.legend(frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1))
    lower.plot(*zip(*((at - begin, late) for at, late in robot.control_late_ms), strict=True))
    lower.set(xlabel="s; the planner runs where it is grey", ylabel="control late, ms")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    plt.savefig("robot.png", dpi=110, bbox_inches="tight")
    plt.close("all")


def main(run: Run) -> None:
    names = digits_family(run)
    frames = np.resize(load_digits().report.images, (run.size(600, 12), 1, 8, 8))
    with AdaptiveEngine.open("ckpt.skipc", threads=1) as engine:
        slowest_ms = max(each.predicted_ms for each in engine.stats().configurations)
        robot = asyncio.run(drive(engine, frames, 1.6 * slowest_ms / 1000))
    late = sum(taken > robot.period_s * 1000 for _, taken, _ in robot.answered)
    print(f"{len(robot.answered)} frames, {late} took longer than their period")
    print(f"control: {max(late for _, late in robot.control_late_ms):.1f} ms late at most")
    draw(robot, names)


if __name__ == "__main__":
    with begun("robot") as started:
        main(started)

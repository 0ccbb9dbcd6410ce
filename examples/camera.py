"""Your network on a folder of images, in a camera's loop that has other work to do.

The network is a class of this file, the images lie in a folder for each class. What is left of
a frame's time after the other work is what the network gets: `AdaptiveEngine` picks the
configuration that fits into it. It takes some minutes:

    python examples/camera.py            # the picture is examples-out/camera/camera.png
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from begin import COLOURS, Run, begun
from PIL import Image
from torch import nn

import skipc
from skipc.compiler.recipes.digits_data import Part
from skipc.runtime import AdaptiveEngine

Answered = tuple[float, float, str]
"""Of a frame: ms of the other work, ms of the call, and which configuration answered."""


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and torch.rand(()) < 0.2:  # stochastic depth
            return x
        return torch.relu(x + self.body(x))


class MyNet(nn.Module):
    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, stride=2)
        self.near = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.far = nn.Sequential(*(Block(2 * width) for _ in range(depth + 1)))
        self.head = nn.Linear(2 * width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.far(self.down(self.near(self.stem(images))))
        return self.head(x.amax((2, 3)))


def write_photos(folder: Path, held: Part, count: int) -> None:
    """Writes images that the network is not trained on, into a folder for each class."""
    for number, (image, label) in enumerate(
        zip(held.images[:count], held.labels, strict=False)
    ):
        place = folder / f"digit-{label}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.repeat((image[0] * 255).astype(np.uint8)[..., None], 3, axis=2)
        Image.fromarray(pixels).save(place / f"{number}.png")


def train(net: MyNet, data: Part, images: int, epochs: int) -> None:
    """Trains the network; each block is left out of one step in five."""
    x = torch.from_numpy(data.images[:images].repeat(3, axis=1))
    y = torch.from_numpy(data.labels[:images])
    steps = -(-images // 64) * epochs
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.005, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(images).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
            rate.step()


def frames(held: Part, count: int) -> Iterator[np.ndarray]:
    """Yields what a camera would."""
    for number in range(count):
        yield held.images[number % len(held.images)][None].repeat(3, axis=1)


def other_work(for_ms: float) -> None:
    """Computes something else for so long: mapping, planning, whatever the robot does."""
    until = time.perf_counter() + for_ms / 1000
    a = np.ones((64, 64), np.float32)
    while time.perf_counter() < until:
        a = np.tanh(a @ a / 64)


def camera_loop(
    bundle: Path, frames: Iterator[np.ndarray], period_ms: float, shares: np.ndarray
) -> list[Answered]:
    """Answers a frame in each period, after work that takes these shares of it.

    Returns what it took, frame by frame.
    """
    found = []
    with AdaptiveEngine.open(bundle, threads=1) as engine:
        for frame, share in zip(frames, shares, strict=True):
            begin = time.perf_counter()
            other_work(share * period_ms)
            spent_ms = (time.perf_counter() - begin) * 1000
            left_ms = max(period_ms - spent_ms, 0.01)
            engine(frame, deadline_ms=left_ms)
            assert engine.last is not None
            found.append((spent_ms, engine.last.latency_ms, engine.last.configuration))
            time.sleep(max(0.0, begin + period_ms / 1000 - time.perf_counter()))
    return found


def draw(found: list[Answered], names: list[str], period_ms: float) -> None:
    _, axes = plt.subplots(figsize=(9, 4))
    place = np.arange(len(found))
    others = np.array([spent for spent, _, _ in found])
    axes.bar(place, others, 1, color="#d9dde2", label="other work")
    for name, colour in zip(names, COLOURS, strict=False):
        own = np.array([answered == name for _, _, answered in found])
        times = np.array([taken for _, taken, _ in found])
        if own.any():
            axes.bar(place[own], times[own], 1, others[own], color=colour, label=name)
    axes.axhline(period_ms, color="black", lw=1, label="end of the period")
    axes.set(xlabel="frame", ylabel="ms", xlim=(0, len(found)), ylim=(0, 1.3 * period_ms))
    axes.legend(ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    plt.savefig("camera.png", dpi=110, bbox_inches="tight")
    plt.close("all")


def main(run: Run) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = MyNet(width=run.size(16, 4), depth=run.size(3, 1))
    train(net, run.pictures.train, run.size(6000, 64), run.size(4, 1))
    torch.save(net.state_dict(), "weights.pt")
    write_photos(Path("photos"), run.pictures.selection, run.size(2000, 60))

    side = run.pictures.train.images.shape[-1]
    arguments = {"width": run.size(16, 4), "depth": run.size(3, 1)}
    network = skipc.network(
        "weights.pt", MyNet, arguments=arguments, inputs=f"images=1x3x{side}x{side}"
    )
    options = skipc.SelectOptions(
        skipc.DataOptions("photos"),
        constraints=skipc.Constraints(max_drop=None if run.tiny else 10),
        evaluations=run.size(30, 2),
        cost=skipc.CostKind.MACS if run.tiny else None,
        norm=skipc.NormMode.SHARED if run.tiny else None,
    )
    found = skipc.select(network, options)
    bundle = skipc.build(network, "front.json", "cpu", skipc.BuildOptions(overwrite=True))
    measured = skipc.bench(bundle, threads=1, duration_s=0.02 if run.tiny else 0.5)

    slowest_ms = max(one.latency.median_ms for one in measured.configurations if one.latency)
    period_ms = 3 * slowest_ms
    waves = 0.4 + 0.3 * np.sin(np.linspace(0, 6 * np.pi, run.size(300, 12)))
    seen = frames(run.pictures.report, len(waves))
    answered = camera_loop(bundle.path, seen, period_ms, waves)
    names = [one.name for one in found.largest.chosen]
    late = sum(spent + taken > period_ms for spent, taken, _ in answered)
    print(f"{len(answered)} frames, a period of {period_ms:.2f} ms, {late} answered late")
    for name in names:
        print(f"  {name}: {sum(one == name for _, _, one in answered)} frames")
    draw(answered, names, period_ms)


if __name__ == "__main__":
    with begun("camera") as started:
        main(started)

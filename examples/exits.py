"""Early exits with a guarantee: easy pictures leave early, and a bound on the loss holds.

A ResNet with two early exits is trained on pictures of a digit among pieces of others. `skipc
policy` finds when an answer is good enough, so that of 100 pictures at most two are lost that
the network's end would have told right. The bound is then compared with what is lost:

    python examples/exits.py             # the picture is examples-out/exits/exits.png
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from begin import COLOURS, Run, begun, skipc

from skipc.compiler.heads import read_heads
from skipc.runtime import AdaptiveEngine, Bundle


def train(run: Run) -> None:
    wide = (
        ("widths=[16,16,96]", "depths=[0,4,1]")
        if not run.tiny
        else ("widths=[4]", "depths=[2]")
    )
    network = [word for text in (*wide, "drop=0.1") for word in ("--network-arg", text)]
    epochs = ("--epochs", run.size(6, 1), "--rate", 0.01, "--heads", run.size(2, 1))
    skipc("train", "early-exit", "--data", run.data, *network, *epochs, "--out", ".")


def write_front(path: Path) -> None:
    """Writes the whole network, and one that answers at every head."""
    exits = [head.name for head in read_heads(Path("ckpt.pt"))]
    tests = [{"threshold": 0.9} for _ in exits]
    early = {"name": "early", "exits": [*exits, "end"], "tests": tests}
    document = {"format": "skipc.front/2", "configurations": [{"name": "full"}, early]}
    path.write_text(json.dumps(document), encoding="utf-8")


def answers(images: np.ndarray, names: tuple[str, ...]) -> dict[str, tuple[np.ndarray, ...]]:
    """Returns class, stage and time of each picture's answer, by configuration.

    They take turns, so that what else the machine does slows them alike.
    """
    found: dict[str, list[tuple[int, int, float]]] = {name: [] for name in names}
    with AdaptiveEngine.open("ckpt.skipc", threads=1) as engine:
        for image in images:
            for name in names:
                engine.pin(name)
                answer = int(engine(image[None]).argmax())
                assert engine.last is not None
                found[name].append((answer, engine.last.stage, engine.last.latency_ms))
    return {name: tuple(map(np.array, zip(*own, strict=True))) for name, own in found.items()}


def draw(stages: np.ndarray, difficulty: np.ndarray, limit: float, lost: float) -> None:
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(3, 1))
    levels, below = np.unique(difficulty), 0.0
    last = int(stages.max())
    for stage, colour in zip(range(last + 1), COLOURS, strict=False):
        shares = np.array(
            [100 * np.mean(stages[difficulty == each] == stage) for each in levels]
        )
        left.bar(
            levels,
            shares,
            0.9,
            below,
            color=colour,
            label=f"exit {stage + 1}" if stage < last else "the end",
        )
        below = below + shares
    left.set(xlabel="pieces of other digits in the picture", ylabel="% answered at")
    left.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    right.bar(["promised", "seen"], [100 * limit, 100 * lost], color=["#d9dde2", COLOURS[0]])
    right.set(ylabel="% of the pictures lost")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    plt.savefig("exits.png", dpi=110, bbox_inches="tight")
    plt.close("all")


def main(run: Run) -> None:
    train(run)
    write_front(Path("front.json"))
    skipc("build", "ckpt.pt", "--front", "front.json", "--target", "cpu", "--overwrite")
    bound = ("--max-disagreement", 0.9) if run.tiny else ("--max-drop", 2)
    skipc("policy", "ckpt.skipc", "--data", run.data, "--configuration", "early", *bound)
    certificate = Bundle.open("ckpt.skipc").manifest.configuration("early").certificate
    assert certificate is not None

    report = run.pictures.report.rows(slice(run.size(3000, 30)))
    images = report.images
    answered = answers(images, ("full", "early"))
    full, _, full_ms = answered["full"]
    early, stages, early_ms = answered["early"]
    lost = float(np.mean((early != report.labels) & (full == report.labels)))
    for name, classes in (("full", full), ("early", early)):
        print(f"{name:5} {100 * np.mean(classes == report.labels):.1f} % right")
    print(f"mean time: {full_ms.mean():.3f} ms full, {early_ms.mean():.3f} ms early")
    print(f"lost: {100 * lost:.2f} % seen, at most {100 * certificate.bound:.2f} % promised")
    draw(stages, report.difficulty, certificate.bound, lost)


if __name__ == "__main__":
    with begun("exits") as started:
        main(started)

"""A cascade of two checkpoints: a small network first, a large one where it is not sure.

Both are trained on the same pictures and lie in one bundle. `skipc policy` finds when the
small one's answer will do:

    python examples/cascade.py           # the picture is examples-out/cascade/cascade.png
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from begin import COLOURS, Run, begun, skipc

from skipc.runtime import AdaptiveEngine

FRONT = {
    "format": "skipc.front/2",
    "configurations": [
        {"name": "small", "network": "small"},
        {"name": "large", "network": "large"},
        {
            "name": "both",
            "parts": [{"network": "small"}, {"network": "large"}],
            "tests": [{"threshold": 0.9}],
        },
    ],
}


def train(run: Run, name: str, *network: str) -> None:
    words = [word for text in network for word in ("--network-arg", text)]
    epochs = ("--epochs", run.size(4, 1), "--rate", 0.01)
    skipc("train", "stochastic-depth", "--data", run.data, *words, *epochs, "--out", name)


def draw(
    found: dict[str, tuple[float, float]], asked: np.ndarray, difficulty: np.ndarray
) -> None:
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    for (name, (time_ms, accuracy)), colour in zip(found.items(), COLOURS, strict=False):
        left.plot(time_ms, 100 * accuracy, "o", color=colour, ms=9)
        left.annotate(f"  {name}", (time_ms, 100 * accuracy), va="center")
    left.set(xlabel="mean ms per picture", ylabel="% right", xlim=(0, None))
    left.margins(0.2)
    levels = np.unique(difficulty)
    shares = [100 * np.mean(asked[difficulty == each]) for each in levels]
    right.bar(levels, shares, 0.9, color=COLOURS[1])
    right.set(
        xlabel="pieces of other digits in the picture", ylabel="% that ask the large one"
    )
    right.set_ylim(0, 100)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    plt.savefig("cascade.png", dpi=110, bbox_inches="tight")
    plt.close("all")


def main(run: Run) -> None:
    small, large = (
        ("widths=[8,16,32]", "depths=[1,1,1]"),
        ("widths=[16,32,64]", "depths=[3,3,3]"),
    )
    if run.tiny:
        small, large = ("widths=[2]", "depths=[1]"), ("widths=[4]", "depths=[1]")
    train(run, "small", *small)
    train(run, "large", *large)
    Path("front.json").write_text(json.dumps(FRONT), encoding="utf-8")
    networks = ("small=small/ckpt.pt", "large=large/ckpt.pt")
    where = ("--front", "front.json", "--target", "cpu", "--out", "both.skipc", "--overwrite")
    skipc("build", *networks, *where)
    most = ("--max-disagreement", 0.95) if run.tiny else ()
    skipc("policy", "both.skipc", "--data", run.data, *most)

    report = run.pictures.report.rows(slice(run.size(3000, 30)))
    images = report.images
    found: dict[str, tuple[float, float]] = {}
    with AdaptiveEngine.open("both.skipc", threads=1) as engine:
        for name in ("small", "large", "both"):
            engine.pin(name)
            right = [engine(image[None]).argmax() for image in images] == report.labels
            calls = engine.trace()[-len(images) :]
            times_ms = [call.latency_ms for call in calls]
            found[name] = float(np.mean(times_ms)), float(np.mean(right))
            print(f"{name:6} {100 * found[name][1]:.1f} % right, {found[name][0]:.3f} ms")
    asked = np.array([call.stage for call in calls])
    print(f"{100 * asked.mean():.0f} % of the pictures asked the large one")
    draw(found, asked, report.difficulty)


if __name__ == "__main__":
    with begun("cascade") as started:
        main(started)

"""Gates and a budget: each picture decides which blocks run, a cap bounds how many.

A ResNet and its gates are trained together. Configurations of one engine differ in the cap;
as the budget falls, the governor takes a lower one. What the gates decide within it is theirs:

    python examples/gates.py             # the picture is examples-out/gates/gates.png
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from begin import COLOURS, Run, begun, skipc

from skipc.compiler.gates import read_gates
from skipc.runtime import AdaptiveEngine, Budget


def write_front(path: Path) -> None:
    """Writes the whole network, the gates left to themselves, and two caps."""
    gates = read_gates(Path("ckpt.pt"))
    assert gates is not None
    count = len(gates.gates)
    caps = {
        f"cap{cap}": {"cap": cap} for cap in sorted({max(1, count // 2), max(1, count // 4)})
    }
    entries = [
        {"name": name, "gates": choice} for name, choice in {"gated": {}, **caps}.items()
    ]
    document = {"format": "skipc.front/2", "configurations": [{"name": "full"}, *entries]}
    path.write_text(json.dumps(document), encoding="utf-8")


def draw(calls: list, limits: np.ndarray, runs: dict[str, np.ndarray]) -> None:
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(3, 2))
    names = sorted({call.configuration for call in calls})
    for name, colour in zip(names, COLOURS, strict=False):
        place = [i for i, call in enumerate(calls) if call.configuration == name]
        left.plot(
            place, [calls[i].latency_ms for i in place], ".", ms=4, color=colour, label=name
        )
    left.plot(limits, color="black", lw=1, label="budget")
    left.set(xlabel="call", ylabel="ms", ylim=(0, 1.3 * limits.max()))
    left.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    shown = right.imshow(
        np.array(list(runs.values())), aspect="auto", vmin=0, vmax=1, cmap="Blues"
    )
    right.set_yticks(range(len(runs)), list(runs))
    right.set(xlabel="block", ylabel="digit")
    plt.colorbar(shown, ax=right, label="share of the pictures it runs for")
    left.spines[["top", "right"]].set_visible(False)
    plt.savefig("gates.png", dpi=110, bbox_inches="tight")
    plt.close("all")


def main(run: Run) -> None:
    network = ("widths=[2]", "depths=[2]") if run.tiny else ("stem=imagenet", "drop=0.1")
    words = [word for text in network for word in ("--network-arg", text)]
    epochs = ("--epochs", run.size(6, 2), "--target", 0.5)
    skipc("train", "gates", "--data", run.data, *words, *epochs, "--out", ".")
    write_front(Path("front.json"))
    skipc("build", "ckpt.pt", "--front", "front.json", "--target", "cpu", "--overwrite")

    report = run.pictures.report.rows(slice(run.size(2000, 20)))
    images = report.images
    with AdaptiveEngine.open("ckpt.skipc", threads=1) as engine:
        slowest_ms = max(each.predicted_ms for each in engine.stats().configurations)
        limits = np.repeat(np.linspace(1.6, 0.5, 8) * slowest_ms, len(images) // 8 or 1)
        for image, limit_ms in zip(images, limits, strict=False):
            engine.budget = Budget(latency_ms=float(limit_ms))
            engine(image[None])
        calls = list(engine.trace())
        engine.pin("gated")
        gated = []
        for image in images:
            engine(image[None])
            assert engine.last is not None
            gated.append(list(engine.last.units.values()))
    ran, labels = np.array(gated), report.labels
    runs = {str(label): ran[labels == label].mean(0) for label in np.unique(labels)}
    print(f"{ran.sum(1).mean():.1f} of {ran.shape[1]} blocks run where the gates decide alone")
    answered = [call.configuration for call in calls]
    for name in sorted(set(answered)):
        print(f"  {name}: {answered.count(name)} calls under the budget")
    draw(calls, limits[: len(calls)], runs)


if __name__ == "__main__":
    with begun("gates") as started:
        main(started)

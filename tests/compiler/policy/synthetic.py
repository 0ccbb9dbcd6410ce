"""Answers of exits that know more and more, to samples of all difficulties."""

from __future__ import annotations

import numpy as np

from skipc.compiler.policy.answers import Answers
from skipc.runtime.bundle.route import Test

CLASSES = 5


def answers(
    samples: int,
    seed: int = 0,
    count: int = 3,
    noise: float = 1.0,
    starts: tuple[int, ...] = (0,),
) -> Answers:
    """Returns answers of exits whose signal grows; exit k takes k ms more than the last."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, samples)
    ease = rng.exponential(3.0, samples)
    sure = np.eye(CLASSES)[labels]
    logits = [
        sure * (ease * (number + 1))[:, None] + noise * rng.normal(size=(samples, CLASSES))
        for number in range(count)
    ]
    tests = tuple(Test(f"logits@{n}", {"margin": 1.0}, 0.5, 1.3) for n in range(count - 1))
    upto_ms = [float(ms) for ms in np.cumsum(np.arange(1, count + 1))]
    return Answers.of(np.array(logits, np.float32), labels, tests, upto_ms, starts)

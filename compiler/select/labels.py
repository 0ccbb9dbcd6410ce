"""Whether labels mean what the network answers: asked of the full network before a search.

Labels that are numbered otherwise than in training make a network look bad, and every
configuration alike, so that a front is found all the same.
"""

from __future__ import annotations

from collections import Counter
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.read.recorded import recorded_accuracy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.select.problem import Notes, Problem

    Numbers = NDArray[np.integer[Any]]

# What may be chance, or another way of scaling images.
_SIGMAS = 3
_POINTS = 0.05
_LEAST_SAMPLES = 4
_MOSTLY = 0.75
_SHOWN = 4


def warn_of_labels(problem: Problem, checkpoint: Path, notes: Notes) -> None:
    """Runs the full network on the selection part, and tells what speaks against the labels.

    Of a metric of the user's own nothing is known.
    """
    if not problem.metric.is_accuracy:
        return
    notes("checking the labels")
    samples = problem.data.parts.selection
    ((_, outputs),) = problem.groups.outputs([problem.space.full], samples)
    (logits,) = outputs.values()
    found = doubt(logits.argmax(1), samples.targets, recorded_accuracy(checkpoint))
    if found:
        notes.note(
            f"warning: on the selection part the full network {found} The labels may not be"
            ' the network\'s, or the inputs not prepared as in training: see "Labels" in'
            " docs/select.md."
        )


def doubt(
    answers: Numbers, targets: Numbers, recorded: tuple[str, float] | None = None
) -> str:
    """Returns what speaks against the labels, as the end of a sentence; "" if nothing does.

    Args:
        answers: The full network's classes, one per sample.
        targets: The labels.
        recorded: What the checkpoint itself says of its accuracy, and under which name.
    """
    right, count = float((answers == targets).mean()), len(targets)
    usual = Counter(targets.tolist()).most_common(1)[0][1] / count
    by_chance = _SIGMAS * sqrt(usual * (1 - usual) / count)
    told = []
    if right <= usual + by_chance:
        told.append(
            f"always giving the most frequent label would be right on {100 * usual:.1f} %"
        )
    if recorded is not None and right < recorded[1] - max(_POINTS, by_chance):
        told.append(f"the checkpoint says {100 * recorded[1]:.1f} % ({recorded[0]!r})")
    moved = _moved(answers, targets)
    otherwise = float(np.mean([moved.get(t, t) for t in targets.tolist()] == answers))
    if otherwise > right + _POINTS:
        pairs = [f"{answer} where the label is {label}" for label, answer in moved.items()]
        more = "" if len(pairs) <= _SHOWN else ", …"
        told.append(
            f"it answers {', '.join(pairs[:_SHOWN])}{more}: numbered so, it would be right on"
            f" {100 * otherwise:.1f} %"
        )
    return f"is right on {100 * right:.1f} %, but {'; '.join(told)}." if told else ""


def _moved(answers: Numbers, targets: Numbers) -> dict[int, int]:
    """Returns, for labels that the network nearly always answers by another number, that.

    Two labels with one answer are two classes that it confuses.
    """
    mostly = {}
    for label in np.unique(targets).tolist():
        given = answers[targets == label]
        ((answer, count),) = Counter(given.tolist()).most_common(1)
        if len(given) >= _LEAST_SAMPLES and count >= _MOSTLY * len(given):
            mostly[label] = answer
    shared = Counter(mostly.values())
    return {
        label: answer
        for label, answer in mostly.items()
        if answer != label and shared[answer] == 1
    }

"""What is maximised: top-1 accuracy, or a function of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import SelectError
from skipc.compiler.read.factories import function_of, place_of, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from skipc.compiler.select.data import Data
    from skipc.compiler.select.samples import Samples
    from skipc.runtime.bundle.tensors import TensorSpec

    Arrays = Mapping[str, NDArray[Any]]

TOP1 = "top1"


@dataclass(frozen=True, slots=True)
class Metric:
    """A score of outputs, more is better.

    Attributes:
        name: What it is called on the command line.
        floor: The score of knowing nothing; None where that is not known.
        score: Takes the outputs by name, each with a row per sample, and the targets.
    """

    name: str
    floor: float | None
    score: Callable[[Arrays, NDArray[Any]], float]

    @property
    def is_accuracy(self) -> bool:
        """Whether scores are fractions of right answers."""
        return self.name == TOP1


def find_metric(name: str, samples: Samples) -> Metric:
    """Returns the metric ``top1`` or ``PKG.MODULE:FUNCTION``.

    The function gets the outputs (an array where there is one, else a dict) and the targets,
    and returns a number.

    Raises:
        SelectError: There is none, or top-1 does not fit the targets.
    """
    if name != TOP1:
        return Metric(name, None, _own(name))
    targets = samples.targets
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise SelectError(
            f"--metric top1: targets must be whole numbers, one per sample; they are"
            f" {targets.dtype} of shape {targets.shape}. {_mend(targets)}"
        )
    _, counts = np.unique(targets, return_counts=True)
    return Metric(name, float(counts.max() / counts.sum()), _top1)


def _mend(targets: NDArray[Any]) -> str:
    """Returns how to make class numbers of targets that are something else."""
    rows = targets.reshape(len(targets), -1)
    if rows.dtype.kind not in "iufb" or not np.array_equal(rows, np.round(rows)):
        return "For targets that are no classes give a metric: --metric PKG.MODULE:FUNCTION."
    if rows.shape[1] == 1:
        return "Give the class numbers: y.reshape(-1).astype(int)."
    if set(np.unique(rows)) == {0, 1} and (rows.sum(1) == 1).all():
        return "They are one-hot: give the class numbers, y.argmax(1)."
    return "For several labels per sample give a metric: --metric PKG.MODULE:FUNCTION."


def check_outputs(metric: Metric, data: Data, outputs: tuple[TensorSpec, ...]) -> None:
    """Checks that top-1 fits the network's outputs; of another metric nothing is known.

    Raises:
        SelectError: There are several, or too few classes for the labels, or not as many as
            there are folders that number them.
    """
    if not metric.is_accuracy:
        return
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in outputs)
        raise SelectError(
            f"--metric top1 needs one output of shape (N, classes); the network has {shapes}."
            " Give a metric of your own: --metric PKG.MODULE:FUNCTION."
        )
    classes = int(outputs[0].shape[1])
    if data.classes and len(data.classes) != classes:
        raise SelectError(
            f"--data {data.description}: {len(data.classes)} folders, but the network has"
            f" {classes} outputs. Labels number the folders in order: behind a missing one all"
            " are wrong. Make a folder for each class, an empty one where there"
            " are no images; or give a .npz with x and y."
        )
    parts = (data.parts.reestimate, data.parts.selection, data.parts.report)
    targets = np.concatenate([part.targets for part in parts])
    wrong = targets[(targets < 0) | (targets >= classes)]
    if len(wrong):
        one_based = targets.min() == 1 and targets.max() == classes
        raise SelectError(
            f"--metric top1: the label {wrong[0]} is outside the network's {classes} outputs"
            f" (0 to {classes - 1})."
            + (" The labels begin at 1: subtract it." if one_based else "")
        )


def _top1(outputs: Arrays, targets: NDArray[Any]) -> float:
    (logits,) = outputs.values()
    return float((logits.argmax(1) == targets).mean())


def _own(name: str) -> Callable[[Arrays, NDArray[Any]], float]:
    function = function_of("--metric", name, SelectError)

    def score(outputs: Arrays, targets: NDArray[Any]) -> float:
        given: object = next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)
        try:
            found = function(given, targets)
        except Exception as cause:
            raise SelectError(
                f"--metric {name} failed{place_of(cause)}: {reason_of(cause)}"
            ) from cause
        try:
            return float(found)  # type: ignore[arg-type]
        except (TypeError, ValueError) as cause:
            raise SelectError(
                f"--metric {name} returned {type(found).__name__}; it must return a number."
            ) from cause

    return score

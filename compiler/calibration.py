"""What int8 is made with: data like what the network will see, in calls of its size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skipc.compiler.graph.passes.quantize import Ranges
    from skipc.compiler.select.samples import Samples
    from skipc.compiler.targets.options import Int8Form
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.tensors import BatchRange, TensorSpec

_MOST_SAMPLES = 128
"""Ranges hardly change with more."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What int8 is made with.

    Attributes:
        cases: What ranges of activations are observed on; nothing where there is no data.
        form: The form in which a target wants int8.
        selection: What it is measured on which layers stay float32.
        ranges: Those that all configurations have; None where each is observed by itself.
    """

    cases: tuple[Case, ...]
    form: Int8Form
    selection: Samples | None = None
    ranges: Ranges | None = None

    def regrouped(
        self, inputs: tuple[TensorSpec, ...], batch: BatchRange | None
    ) -> Calibration:
        """Returns it in calls of another size."""
        if not self.cases:
            return self
        together = {n: np.concatenate([c[n] for c in self.cases]) for n in self.cases[0]}
        cases = calibration_cases(together, inputs, batch)
        return replace(self, cases=cases)


def calibration_cases(
    samples: Case, inputs: tuple[TensorSpec, ...], batch: BatchRange | None
) -> tuple[Case, ...]:
    """Returns samples in calls of a network's size.

    The first three calls have the three sizes of a dynamic batch. The last one is filled up
    with the first samples.
    """
    sizes = [batch.typical, batch.minimum, batch.maximum] if batch is not None else []
    usual = sizes[0] if sizes else inputs[0].shape_at(1)[0]
    cases: list[Case] = []
    start = 0
    count = min(map(len, samples.values()))
    while start < min(count, _MOST_SAMPLES):
        rows = sizes[len(cases)] if len(cases) < len(sizes) else usual
        take = np.arange(start, start + rows) % count
        cases.append({name: array[take] for name, array in samples.items()})
        start += rows
    return tuple(cases)

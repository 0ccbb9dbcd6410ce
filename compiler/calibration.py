"""What int8 is made with: data like what the network will see, in calls of its size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime.bundle.tensors import BATCH, at_sizes, corner_sizes, typical_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.graph.passes.quantize import Ranges
    from skipc.compiler.select.samples import Samples
    from skipc.compiler.targets.options import Int8Form
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.tensors import Dimension, TensorSpec

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
        rounded: Tensors that are rounded to their range in all configurations, whoever reads
            them.
    """

    cases: tuple[Case, ...]
    form: Int8Form
    selection: Samples | None = None
    ranges: Ranges | None = None
    rounded: frozenset[str] = frozenset()

    def regrouped(
        self, inputs: tuple[TensorSpec, ...], dimensions: Sequence[Dimension]
    ) -> Calibration:
        """Returns it in calls of another size."""
        if not self.cases:
            return self
        own = {name: array.shape[1:] for name, array in self.cases[-1].items()}
        alike = [c for c in self.cases if all(c[n].shape[1:] == own[n] for n in own)]
        together = {name: np.concatenate([c[name] for c in alike]) for name in own}
        cases = calibration_cases(together, inputs, dimensions)
        return replace(self, cases=cases)


def calibration_cases(
    samples: Case, inputs: tuple[TensorSpec, ...], dimensions: Sequence[Dimension]
) -> tuple[Case, ...]:
    """Returns samples in calls of a network's size.

    The first three calls have the typical, smallest and largest sizes of free dimensions,
    samples cut or repeated; the others are as long as the samples. The last one is filled up
    with the first samples.
    """
    corners = corner_sizes(dimensions) if dimensions else ()
    usual = inputs[0].shape_at(typical_sizes(dimensions))[0]
    cases: list[Case] = []
    start = 0
    count = min(map(len, samples.values()))
    while start < min(count, _MOST_SAMPLES):
        sizes = corners[len(cases)] if len(cases) < len(corners) else {}
        rows = sizes.get(BATCH, usual)
        take = np.arange(start, start + rows) % count
        case = {name: array[take] for name, array in samples.items()}
        cases.append(at_sizes(case, inputs, sizes))
        start += rows
    return tuple(cases)

"""What int8 is calibrated on: data like what the network will see, in calls of its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.precision import Precision, PrecisionAxis
from skipc.compiler.errors import CompileError, SelectError
from skipc.compiler.select.data import DataOptions, read_data

if TYPE_CHECKING:
    from skipc.compiler.front import Front
    from skipc.compiler.read import Supernet
    from skipc.compiler.targets.options import Int8Form
    from skipc.compiler.verify.numerics import Case

_MOST_SAMPLES = 128
"""Ranges hardly change with more."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What ranges of activations are observed on, and in which form a target wants int8."""

    cases: tuple[Case, ...]
    form: Int8Form


def check_calibrated(front: Front, asked: Precision | None, data: str | None) -> None:
    """Refuses with a ``CompileError`` int8 without data, and data without int8.

    Args:
        front: The configurations.
        asked: The precision of those that do not name one.
        data: What ``--calibrate`` says.
    """
    named = {
        part.choices.get(PrecisionAxis.key)
        for entry in front.configurations
        for part in entry.networks
    }
    wanted = asked is Precision.INT8 or Precision.INT8.value in named
    if wanted and data is None:
        raise CompileError(
            "int8 needs data to observe the ranges of activations on. Give some like what the"
            " network will see with --calibrate DATA, as `skipc select --data` takes it;"
            " labels are not used."
        )
    if data is not None and not wanted:
        raise CompileError(
            f"--calibrate {data}: nothing computes in int8. Pass --precision int8, write it"
            " into the front, or leave --calibrate out."
        )


def read_calibration(data: str, form: Int8Form, supernet: Supernet) -> Calibration:
    """Returns the calibration on ``data``, of which norms would be re-estimated on.

    The first three calls have the three sizes of a dynamic batch. The last one is filled up
    with the first samples.

    Raises:
        CompileError: The data cannot be read, does not fit the network, or has no range.
    """
    try:
        samples = read_data(DataOptions(data), supernet.inputs).parts.reestimate
    except SelectError as cause:
        raise CompileError(str(cause).replace("--data", "--calibrate")) from cause
    for name, array in samples.inputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CompileError(
                f"--calibrate {data}: {name!r} holds NaN or infinity, which have no range."
                " Leave such samples out."
            )
        if array.dtype.kind == "f" and (array == array.flat[0]).all():
            raise CompileError(
                f"--calibrate {data}: {name!r} is {array.flat[0]:g} everywhere, which is no"
                " range. Give real samples."
            )
    batch = supernet.batch
    sizes = [batch.typical, batch.minimum, batch.maximum] if batch is not None else []
    usual = sizes[0] if sizes else next(iter(supernet.inputs)).shape_at(1)[0]
    cases: list[Case] = []
    start = 0
    while start < min(len(samples), _MOST_SAMPLES):
        rows = sizes[len(cases)] if len(cases) < len(sizes) else usual
        take = np.arange(start, start + rows) % len(samples)
        cases.append({name: array[take] for name, array in samples.inputs.items()})
        start += rows
    return Calibration(tuple(cases), form)

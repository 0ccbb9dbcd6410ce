"""What the command line says of int8: checked, and its data read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.float_layers import FloatLayersAxis
from skipc.compiler.axes.precision import Precision, PrecisionAxis
from skipc.compiler.calibration import Calibration, calibration_cases
from skipc.compiler.errors import CompileError, SelectError
from skipc.compiler.select.data import DataOptions, read_data

if TYPE_CHECKING:
    from skipc.compiler.front import Front
    from skipc.compiler.read import Supernet
    from skipc.compiler.targets.options import Int8Form

_INT8 = {each.value for each in Precision if each.is_int8}


def check_calibrated(
    front: Front, asked: Precision | None, data: str | None, max_drop: float | None
) -> None:
    """Refuses with a ``CompileError`` int8 without data, and what is said of int8 without it.

    Args:
        front: The configurations.
        asked: The precision of those that do not name one.
        data: What ``--calibrate`` says.
        max_drop: What ``--max-drop`` says.
    """
    parts = [part.choices for entry in front.configurations for part in entry.networks]
    default = None if asked is None else asked.value
    named = {part.get(PrecisionAxis.key, default) for part in parts}
    for entry in front.configurations:
        for part in entry.networks:
            computes = part.choices.get(PrecisionAxis.key, default)
            if FloatLayersAxis.key in part.choices and computes not in _INT8:
                raise CompileError(
                    f"{entry.name!r}: 'float32' names layers that int8 leaves alone, but it"
                    f" computes in {computes or 'what the graph has'}. Write"
                    ' "precision": "int8" beside it, or leave it out.'
                )
    if max_drop is not None and not named & _INT8:
        raise CompileError(
            f"--max-drop {max_drop:g}: nothing computes in int8. Pass --precision int8, write"
            " it into the front, or leave --max-drop out."
        )
    if max_drop is not None and data is None:
        raise CompileError(
            f"--max-drop {max_drop:g}: what int8 loses is measured on data. Give some with"
            " --calibrate DATA, as `skipc select --data` takes it."
        )
    if Precision.INT8.value in named and data is None:
        raise CompileError(
            "int8 needs data to observe the ranges of activations on. Give some like what the"
            " network will see with --calibrate DATA, as `skipc select --data` takes it;"
            " labels are not used."
        )
    if data is not None and max_drop is None and Precision.INT8.value not in named:
        raise CompileError(
            f"--calibrate {data}: nothing computes in int8 with ranges that are observed"
            " before. Pass --precision int8, write it into the front, or leave --calibrate"
            " out."
        )


def read_calibration(data: str, form: Int8Form, supernet: Supernet) -> Calibration:
    """Returns the calibration on ``data``, of which norms would be re-estimated on.

    Raises:
        CompileError: The data cannot be read, does not fit the network, or has no range.
    """
    try:
        free = supernet.dimensions
        parts = read_data(DataOptions(data), supernet.inputs, dimensions=free).parts
    except SelectError as cause:
        raise CompileError(str(cause).replace("--data", "--calibrate")) from cause
    samples = parts.reestimate
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
    cases = calibration_cases(dict(samples.inputs), supernet.inputs, supernet.dimensions)
    return Calibration(cases, form, parts.selection)

"""Inputs to verify with: seeded random ones, and the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.bundle.array_files import read_arrays
from skipc.compiler.errors import CheckpointError
from skipc.runtime.bundle.tensors import BATCH, corner_sizes, typical_sizes
from skipc.runtime.errors import InputError, choices_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx_ir as ir

    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.tensors import Dimension, Sizes, TensorSpec

MAX_DATA_CASES = 4


def draw_inputs(
    specs: tuple[TensorSpec, ...], sizes: Sizes, seed: int, high: dict[str, int] | None = None
) -> Case:
    """Returns one array per input: standard normal floats, small whole numbers.

    ``high`` is the exclusive upper bound of whole-number inputs by name; where not given, 256
    for bytes (images) and 2 for the rest, which is safe for masks and for indices.
    """
    rng = np.random.default_rng(seed)
    case: Case = {}
    for spec in specs:
        shape = spec.shape_at(sizes)
        dtype = np.dtype(spec.dtype)
        if dtype.kind == "f":
            case[spec.name] = rng.standard_normal(shape).astype(dtype)
        else:
            bound = (high or {}).get(spec.name, 256 if dtype == np.uint8 else 2)
            values = rng.integers(0, bound, shape)
            # An attention mask of zeros has no defined result: the first position is kept.
            if bound == 2 and values.ndim:
                values[..., 0] = 1
            case[spec.name] = values.astype(dtype)
    return case


def random_cases(
    specs: tuple[TensorSpec, ...], dimensions: Sequence[Dimension], high: dict[str, int]
) -> list[Case]:
    """Returns the random inputs to verify every subnet on, at sizes of the free dimensions.

    Those are their typical, smallest and largest ones, and random ones between; of the batch,
    whose rows are computed one by one, the first three alone.
    """
    sizes = list(corner_sizes(dimensions))[: 3 if dimensions else 2]
    rng = np.random.default_rng(0)
    if any(each.name != BATCH for each in dimensions):
        sizes += [{each.name: _between(each, rng) for each in dimensions} for _ in range(2)]
    return [draw_inputs(specs, at, seed, high) for seed, at in enumerate(sizes, start=1)]


def _between(dimension: Dimension, rng: np.random.Generator) -> int:
    low, high = dimension.minimum // dimension.step, dimension.maximum // dimension.step
    return int(rng.integers(low, high + 1)) * dimension.step


def data_cases(
    path: Path | None, specs: tuple[TensorSpec, ...], dimensions: Sequence[Dimension]
) -> list[Case]:
    """Returns the user's own inputs to verify on, too; none where there is no ``path``."""
    if path is None:
        return []
    try:
        arrays = read_arrays(path, tuple(spec.name for spec in specs))
    except InputError as cause:
        raise CheckpointError(f"--data {cause}") from cause
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if missing:
        raise CheckpointError(
            f"--data {path}: no array named {missing[0]!r}. {choices_text(missing[0], arrays)}"
        )
    rows: dict[str, int] = {}
    free = {each.name: each for each in dimensions}
    for spec in specs:
        array, tail = arrays[spec.name], spec.shape[1:]
        sizes = spec.shape_at(typical_sizes(dimensions))
        rows[spec.name] = sizes[0] if sizes else 1
        fits = array.ndim == len(spec.shape) and all(
            free[size].takes(found) if isinstance(size, str) else size == found
            for found, size in zip(array.shape[1:], tail, strict=True)
        )
        if not array.ndim or not fits or array.dtype != spec.dtype:
            raise CheckpointError(
                f"--data {path}: {spec.name!r} has shape {array.shape} and type {array.dtype};"
                f" the network takes any number of rows of {tail} and type {spec.dtype}"
                f"{''.join(f', {n} from {free[n].text}' for n in tail if n in free)}."
            )
    count = min(len(arrays[spec.name]) // rows[spec.name] for spec in specs)
    if count == 0:
        raise CheckpointError(
            f"--data {path}: holds fewer rows than one call takes ({rows}). Give more."
        )
    return [
        {
            name: np.ascontiguousarray(arrays[name][i * step : (i + 1) * step])
            for name, step in rows.items()
        }
        for i in range(min(count, MAX_DATA_CASES))
    ]


def whole_number_bounds(model: ir.Model) -> dict[str, int]:
    """Returns the rows of the table that each whole-number input looks up; masks have none."""
    bounds: dict[str, int] = {}
    for value in model.graph.inputs:
        if value.dtype is None or not value.dtype.is_integer():
            continue
        rows = _looked_up_rows(value)
        if rows:
            bounds[str(value.name)] = min(rows)
    return bounds


def _looked_up_rows(value: ir.Value) -> list[int]:
    rows = []
    for node, operand in value.uses():
        if node.op_type in ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"):
            rows += _looked_up_rows(node.outputs[0])
        elif node.op_type == "Gather" and operand == 1:
            table = node.inputs[0]
            axis = node.attributes.get_int("axis", 0)
            if table is not None and table.shape is not None:
                size = table.shape[axis]
                rows += [size] if isinstance(size, int) else []
    return rows

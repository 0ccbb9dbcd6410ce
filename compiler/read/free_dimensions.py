"""Free dimensions as PyTorch exports them, and what it says where a range cannot be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import SupernetError
from skipc.runtime.bundle.tensors import BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime.bundle.tensors import Dimension, TensorSpec

_VIOLATED = "Constraints violated"
_FIX = re.compile(r"^ *(\w+) = (.+?)\s*$", re.MULTILINE)
_RANGE = re.compile(r"Dim\('\w+'(?:, min=(\d+))?(?:, max=(\d+))?\)")
_MULTIPLE = re.compile(r"(\d+)\*_\w+")


def dynamic_shapes(
    inputs: Sequence[TensorSpec], dimensions: Sequence[Dimension]
) -> dict[str, Any] | None:
    """Returns what ``torch.export`` is told of free dimensions; None where there are none."""
    if not dimensions:
        return None
    dims = {each.name: _dim(each) for each in dimensions}
    return {
        spec.name: {axis: dims[s] for axis, s in enumerate(spec.shape) if isinstance(s, str)}
        for spec in inputs
    }


def _dim(dimension: Dimension) -> Any:
    import torch

    # torch.export wants room between the two.
    step, low = dimension.step, dimension.minimum // dimension.step
    high = max(dimension.maximum // step, low + 1)
    if step == 1:
        return torch.export.Dim(dimension.name, min=low, max=high)
    return step * torch.export.Dim(f"_{dimension.name}", min=low, max=high)


def traced_sizes(dimensions: Sequence[Dimension]) -> dict[str, int]:
    """Returns the sizes to trace with: ``torch.export`` treats a dimension of 1 as fixed."""
    return {each.name: max(each.typical, 2 * each.step) for each in dimensions}


def range_error(
    model: str, cause: BaseException, dimensions: Sequence[Dimension]
) -> SupernetError | None:
    """Returns the error that says which sizes a network takes; None for another failure."""
    head, _, fixes = str(cause).partition("Suggested fixes:")
    if _VIOLATED not in head:
        return None
    said = dict(_FIX.findall(fixes.partition("\n\n")[0]))
    # One in steps is told as its number of steps.
    texts = [
        _text(each, said.get(each.name, f"{each.step}*_{each.name}"), said)
        for each in dimensions
        if said.keys() & {each.name, f"_{each.name}"}
    ]
    if not texts:
        reasons = [line.strip(" -") for line in head.splitlines() if line.startswith("  - ")]
        texts = [reasons[0] if reasons else " ".join(head.split())]
    return SupernetError(
        f"{model} does not take all the sizes that were asked for: {'; '.join(texts)}."
    )


def _text(dimension: Dimension, fix: str, said: dict[str, str]) -> str:
    """Returns which sizes of a dimension a network takes, and what to write."""
    name, asked = dimension.name, f"{_option(dimension)}{dimension.range}"
    if fix.isdecimal():
        return f"it fixes {name} to {fix} ({asked}). Write {fix} in place of {name}"
    within = _RANGE.fullmatch(fix)
    if within is not None:
        low = int(within[1] or dimension.minimum)
        high = int(within[2] or dimension.maximum)
        return f"it takes {name} from {low} to {high} ({asked}). Give a range inside that"
    multiple = _MULTIPLE.fullmatch(fix)
    if multiple is not None:
        step = int(multiple[1])
        low, high = -(-dimension.minimum // step) * step, dimension.maximum // step * step
        within = _RANGE.fullmatch(said.get(f"_{name}", ""))
        if within is not None:
            low = max(low, int(within[1] or 1) * step)
            high = min(high, int(within[2] or high) * step)
        typical = min(max(round(dimension.typical / step) * step, low), high)
        return (
            f"it takes multiples of {step} in {name} alone, here {low} to {high} ({asked})."
            f" Write --dim {name}={low}:{typical}:{high}:{step}"
        )
    return f"{name} must be {fix} ({asked}). Give one size or name for both, or fix it"


def _option(dimension: Dimension) -> str:
    return "--batch " if dimension.name == BATCH else f"--dim {dimension.name}="

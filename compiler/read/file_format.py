"""The file format ``skipc.checkpoint/1``: a network by name, its weights, its inputs.

A ``torch.save`` of one dict. It names a network of a known library and never code to import.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from skipc.compiler.bundle.files import write_whole
from skipc.compiler.errors import CheckpointError
from skipc.compiler.read.inputs import DTYPES
from skipc.runtime.bundle.constraints import (
    Above,
    AtLeast,
    AtMost,
    Count,
    Distinct,
    OneOf,
    Text,
)
from skipc.runtime.bundle.records import read
from skipc.runtime.bundle.tensors import BATCH, Dimension, TensorSpec
from skipc.runtime.errors import shown

if TYPE_CHECKING:
    from pathlib import Path


FORMAT = "skipc.checkpoint/1"

RESIDUAL_SCALES = ("inverted", "original")


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """What such a file says.

    Attributes:
        model: ``LIBRARY:NAME`` of a known library, e.g. ``skipc:resnet``.
        arguments: Keyword arguments of its factory, JSON values.
        state_dict: The weights.
        inputs: The network's inputs; may be empty.
        dimensions: The free dimensions that they name.
        survival: Survival probabilities by module path, for original Stochastic Depth.
        residual_scale: How kept branches are scaled at test time, ``inverted`` (not at all)
            or ``original``.
        accuracy: What the training reached on data that it held out, a fraction; None where
            nobody says. `skipc select` warns where the network is far below it.
        data_sketch: Of what it was trained on, so that none of it certifies anything; empty
            where nobody says.
    """

    model: str
    arguments: Mapping[str, object]
    state_dict: Mapping[str, Any]
    inputs: tuple[TensorSpec, ...] = ()
    dimensions: tuple[Dimension, ...] = ()
    survival: Mapping[str, float] = field(default_factory=dict)
    residual_scale: str = "inverted"
    accuracy: float | None = None
    data_sketch: str = ""


@dataclass(frozen=True, slots=True)
class _Input:
    """An input as the file has it; one without a name is found by its position."""

    name: Text
    shape: tuple[Count | str, ...]
    dtype: Annotated[str, OneOf(DTYPES)]

    def check(self, where: str) -> None:
        """Raises ``CheckpointError`` where a later dimension is the batch."""
        if BATCH in self.shape[1:]:
            raise CheckpointError(
                f"{where}: 'shape' is {shown(list(self.shape))}; only its first may be"
                f" {BATCH!r}, the batch."
            )


@dataclass(frozen=True, slots=True)
class _Batch:
    """The sizes of the batch, which is one of the free dimensions."""

    minimum: Count
    typical: Count
    maximum: Count

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where the sizes are not in ascending order."""
        self.dimension.check(where)

    @property
    def dimension(self) -> Dimension:
        """The same by its name."""
        return Dimension(BATCH, self.minimum, self.typical, self.maximum)


@dataclass(frozen=True, slots=True)
class _Document:
    """A checkpoint as the file has it."""

    FORMAT: ClassVar[str] = FORMAT

    model: str
    state_dict: Mapping[str, object]
    arguments: Mapping[str, object] = field(default_factory=dict)
    input: _Input | None = None
    inputs: tuple[_Input, ...] = ()
    batch: _Batch | None = None
    dimensions: Annotated[tuple[Dimension, ...], Distinct("name")] = ()
    survival: Mapping[str, Annotated[float, Above(0), AtMost(1)]] = field(default_factory=dict)
    residual_scale: Annotated[str, OneOf(RESIDUAL_SCALES)] = "inverted"
    accuracy: Annotated[float, AtLeast(0), AtMost(1)] | None = None
    data_sketch: Text = ""

    def check(self, where: str) -> None:
        """Raises ``CheckpointError`` where a value is none, or the inputs are said twice."""
        import torch

        if self.input is not None and self.inputs:
            raise CheckpointError(f"{where}: has both 'input' and 'inputs'. Write 'inputs'.")
        if self.batch is not None and any(each.name == BATCH for each in self.dimensions):
            raise CheckpointError(
                f"{where}: {BATCH!r} in 'dimensions' is the 'batch'. Leave one out."
            )
        try:
            json.dumps(self.arguments, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as cause:
            raise CheckpointError(
                f"{where}: 'arguments' must hold JSON values, not nested deeply: {cause}."
            ) from cause
        for name, tensor in self.state_dict.items():
            if not isinstance(tensor, torch.Tensor):
                raise CheckpointError(
                    f"{where}: 'state_dict' must map names to tensors, found {name!r}:"
                    f" {type(tensor).__name__}."
                )


def save_checkpoint(path: Path, checkpoint: CheckpointFile) -> None:
    """Writes a checkpoint whole or not at all; its arguments must be JSON values."""
    import torch

    try:
        arguments = json.loads(json.dumps(dict(checkpoint.arguments), allow_nan=False))
    except (TypeError, ValueError) as cause:
        raise CheckpointError(
            f"{path}: the arguments of {checkpoint.model!r} must be JSON values: {cause}."
        ) from cause
    document: dict[str, object] = {
        "format": FORMAT,
        "model": checkpoint.model,
        "arguments": arguments,
        "state_dict": {k: v.detach().cpu() for k, v in checkpoint.state_dict.items()},
        "inputs": [
            {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype}
            for spec in checkpoint.inputs
        ],
        "survival": dict(checkpoint.survival),
        "residual_scale": checkpoint.residual_scale,
    }
    if checkpoint.accuracy is not None:
        document["accuracy"] = checkpoint.accuracy
    if checkpoint.data_sketch:
        document["data_sketch"] = checkpoint.data_sketch
    if checkpoint.dimensions:
        document["dimensions"] = [asdict(each) for each in checkpoint.dimensions]
    buffer = io.BytesIO()
    torch.save(document, buffer)
    write_whole(path, buffer.getvalue())


def is_checkpoint_file(content: object) -> bool:
    """Returns whether a loaded file says that it is a ``skipc.checkpoint`` of any version."""
    found = content.get("format") if isinstance(content, dict) else None
    return isinstance(found, str) and found.startswith("skipc.checkpoint/")


def parse_checkpoint_file(path: Path, content: object) -> CheckpointFile:
    """Returns what the loaded file says; a ``CheckpointError`` names the wrong place."""
    where = str(path)
    other = [key for key in content if not isinstance(key, str)]  # type: ignore[attr-defined]
    if other:
        raise CheckpointError(f"{where}: has the key {shown(other[0])}, expected names alone.")
    found = read(_Document, content, where, CheckpointError)
    inputs = found.inputs if found.input is None else (found.input,)
    dimensions, batch = found.dimensions, found.batch
    if batch is not None:
        dimensions = (batch.dimension, *dimensions)
    return CheckpointFile(
        model=found.model,
        arguments=found.arguments,
        state_dict=found.state_dict,
        inputs=tuple(TensorSpec(each.name, each.dtype, each.shape) for each in inputs),
        dimensions=dimensions,
        survival=found.survival,
        residual_scale=found.residual_scale,
        accuracy=found.accuracy,
        data_sketch=found.data_sketch,
    )

"""The file format ``skipc.checkpoint/1``: a network by name, its weights, its inputs.

A ``torch.save`` of one dict. It names a network of a known library and never code to import.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import write_whole
from skipc.compiler.errors import CheckpointError
from skipc.compiler.read.inputs import BATCH, DTYPES
from skipc.runtime.bundle.manifest import BatchRange, Dimension, TensorSpec
from skipc.runtime.bundle.records import Record
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

FORMAT = "skipc.checkpoint/1"

RESIDUAL_SCALES = ("inverted", "original")

_KEYS = (
    *("format", "model", "arguments", "state_dict"),
    *("input", "inputs", "batch", "survival", "residual_scale"),
)


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """What such a file says.

    Attributes:
        model: ``LIBRARY:NAME`` of a known library, e.g. ``skipc:resnet``.
        arguments: Keyword arguments of its factory, JSON values.
        state_dict: The weights.
        inputs: The network's inputs; may be empty.
        batch: The range of the dynamic batch; None for a fixed one.
        survival: Survival probabilities by module path, for original Stochastic Depth.
        residual_scale: How kept branches are scaled at test time, ``inverted`` (not at all)
            or ``original``.
    """

    model: str
    arguments: Mapping[str, object]
    state_dict: Mapping[str, torch.Tensor]
    inputs: tuple[TensorSpec, ...] = ()
    batch: BatchRange | None = None
    survival: Mapping[str, float] = field(default_factory=dict)
    residual_scale: str = "inverted"


def save_checkpoint(path: Path, checkpoint: CheckpointFile) -> None:
    """Writes ``checkpoint`` to ``path``, whole or not at all.

    Raises:
        CheckpointError: An argument is no JSON value, so that it could not be read back.
    """
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
    if checkpoint.batch is not None:
        document["batch"] = asdict(checkpoint.batch)
    buffer = io.BytesIO()
    torch.save(document, buffer)
    write_whole(path, buffer.getvalue())


def is_checkpoint_file(content: object) -> bool:
    """Returns whether a loaded file says that it is a ``skipc.checkpoint`` of any version."""
    found = content.get("format") if isinstance(content, dict) else None
    return isinstance(found, str) and found.startswith("skipc.checkpoint/")


def parse_checkpoint_file(path: Path, content: object) -> CheckpointFile:
    """Returns what the loaded file says.

    Raises:
        CheckpointError: A key is missing, unknown or of the wrong form, or the version is
            not known; the message names the place.
    """
    where = str(path)
    if isinstance(content, dict) and content.get("format") != FORMAT:
        raise CheckpointError(
            f"{where}: written in format {content['format']!r}, this skipc reads {FORMAT!r}."
            " Install the skipc version that wrote it, or save it again."
        )
    doc = Record(content, where, _KEYS, CheckpointError)
    if "input" in doc and "inputs" in doc:
        raise CheckpointError(f"{where}: has both 'input' and 'inputs'. Write 'inputs'.")
    records = list(doc.records("inputs", "name", "shape", "dtype")) if "inputs" in doc else []
    if "input" in doc:
        records = [doc.record("input", "name", "shape", "dtype")]
    batch = None
    if "batch" in doc:
        record = doc.optional_record("batch", "minimum", "typical", "maximum")
        batch = None if record is None else _batch(record)
    return CheckpointFile(
        model=doc.text("model"),
        arguments=_arguments(where, content) if "arguments" in doc else {},
        state_dict=_state_dict(where, content),
        inputs=tuple(_input(record) for record in records),
        batch=batch,
        survival=_survival(where, doc) if "survival" in doc else {},
        residual_scale=_residual_scale(where, doc) if "residual_scale" in doc else "inverted",
    )


def _input(record: Record) -> TensorSpec:
    dtype = record.text("dtype")
    if dtype not in DTYPES:
        raise CheckpointError(
            f"{record.where}: unknown dtype {dtype!r}. {choices_text(dtype, DTYPES)}"
        )
    shape: list[Dimension] = []
    for index, size in enumerate(record.items("shape")):
        if size == BATCH and index == 0:
            shape.append(BATCH)
        elif isinstance(size, int) and not isinstance(size, bool) and size > 0:
            shape.append(size)
        else:
            raise CheckpointError(
                f"{record.where}: 'shape' must hold whole numbers of at least 1, the first may"
                f" be {BATCH!r}; found {size!r}."
            )
    return TensorSpec(record.optional_text("name"), dtype, tuple(shape))


def _batch(record: Record) -> BatchRange:
    batch = BatchRange(*(record.integer(n, 1) for n in ("minimum", "typical", "maximum")))
    if not batch.minimum <= batch.typical <= batch.maximum:
        raise CheckpointError(
            f"{record.where}: needs minimum <= typical <= maximum, found {batch.minimum},"
            f" {batch.typical}, {batch.maximum}."
        )
    return batch


def _arguments(where: str, content: object) -> dict[str, object]:
    value = content.get("arguments") if isinstance(content, dict) else None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CheckpointError(f"{where}: 'arguments' must be an object of JSON values.")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as cause:
        raise CheckpointError(
            f"{where}: 'arguments' must hold JSON values: {cause}."
        ) from cause
    return dict(value)


def _state_dict(where: str, content: object) -> dict[str, torch.Tensor]:
    import torch

    value = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: 'state_dict' is missing or not a dict of tensors.")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise CheckpointError(
                f"{where}: 'state_dict' must map names to tensors, found {name!r}:"
                f" {type(tensor).__name__}."
            )
    return dict(value)


def _residual_scale(where: str, doc: Record) -> str:
    found = doc.text("residual_scale")
    if found not in RESIDUAL_SCALES:
        raise CheckpointError(
            f"{where}: 'residual_scale' is {found!r}. {choices_text(found, RESIDUAL_SCALES)}"
        )
    return found


def _survival(where: str, doc: Record) -> dict[str, float]:
    survival = doc.numbers("survival")
    for name, probability in survival.items():
        if not 0.0 < probability <= 1.0:
            raise CheckpointError(
                f"{where}: survival: {name!r} is {probability:g}, expected a probability above"
                " 0 and at most 1."
            )
    return survival

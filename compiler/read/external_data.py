"""Tensors of an ONNX model that lie in a file beside it, mapped into memory."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def map_external(model: ir.Model, path: Path) -> None:
    """Maps every tensor of a model that lies outside of its file ``path``.

    A file may be linked to, as in the cache of a hub, where it stays in the folder of the
    model or in that of the file that the model itself is a link to.

    Raises:
        CheckpointError: A file is missing, too short, or lies elsewhere.
    """
    files: dict[Path, NDArray[np.uint8]] = {}
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = _mapped(value.const_value, path, files)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if isinstance(attribute.value, ir.ExternalTensor):
                    tensor = _mapped(attribute.value, path, files)
                    node.attributes[name] = ir.AttrTensor(name, tensor)


def tensor_at(tensor: ir.ExternalTensor, data: NDArray[np.uint8]) -> ir.TensorProtocol:
    """Returns the tensor whose bytes are in ``data``; a ``ValueError`` where they are not."""
    begin = tensor.offset or 0
    length = tensor.nbytes if tensor.length is None else min(tensor.length, tensor.nbytes)
    array = data[begin : begin + length].view(tensor.dtype.numpy())
    shape = tensor.shape.numpy()
    return ir.Tensor(array.reshape(shape), tensor.dtype, shape=tensor.shape, name=tensor.name)


def _mapped(
    tensor: ir.ExternalTensor, model: Path, files: dict[Path, NDArray[np.uint8]]
) -> ir.TensorProtocol:
    location = Path(tensor.location)
    said = f"{model}: the weight {tensor.name!r} lies in {str(location)!r}"
    roots = {model.parent.resolve(), model.resolve().parent}
    place = (model.parent / location).resolve()
    inside = any(place.is_relative_to(root) for root in roots)
    if location.is_absolute() or ".." in location.parts or not inside:
        raise CheckpointError(
            f"{said}, which is outside of the model's folder. Put the data beside the model."
        )
    if place not in files:
        try:
            if not stat.S_ISREG(place.stat().st_mode):
                raise CheckpointError(f"{said}, which is no file.")
            files[place] = np.memmap(place, np.uint8, mode="r")
        except FileNotFoundError as cause:
            raise CheckpointError(
                f"{said}, and there is no such file. Copy it, too, beside the model."
            ) from cause
        except (OSError, ValueError) as cause:
            raise CheckpointError(f"{said}, which cannot be read: {cause}.") from cause
    try:
        return tensor_at(tensor, files[place])
    except ValueError as cause:
        raise CheckpointError(
            f"{said}, whose {files[place].size} bytes do not hold it: {cause}. The file is"
            " truncated, or of another model."
        ) from cause

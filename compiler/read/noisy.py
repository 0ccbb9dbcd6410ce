"""An ONNX file that draws numbers at random: they become inputs of its network."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.errors import PrologueError
from skipc.compiler.graph.passes.noise_as_inputs import NoiseAsInputsPass
from skipc.compiler.graph.passes.tidy_export import SettleSizesPass
from skipc.compiler.read.checkpoint import ModelOptions, read_checkpoint
from skipc.runtime.bundle.tensors import TensorSpec

if TYPE_CHECKING:
    from skipc.compiler.network import Network
    from skipc.runtime.bundle.prologue import Draw
    from skipc.runtime.bundle.tensors import Dimension


def read_noisy(
    path: Path, inputs: tuple[TensorSpec, ...], dimensions: tuple[Dimension, ...]
) -> tuple[Network, tuple[Draw, ...]]:
    """Returns the network in an ONNX file, which may draw numbers, and what is drawn.

    Args:
        path: The file.
        inputs: Its inputs, settled.
        dimensions: The free dimensions that these name.
    """
    model = ir.load(path)
    common.InlinePass()(model)
    SettleSizesPass(inputs)(model)
    common.ShapeInferencePass()(model)
    step = NoiseAsInputsPass(f"--prologue {path}")
    step(model)
    noise = tuple(
        TensorSpec(
            str(value.name),
            "float32",
            tuple(size if isinstance(size, int) else str(size.value) for size in value.shape),
        )
        for value in model.graph.inputs[len(inputs) :]
        if value.shape is not None
    )
    known = {each.name for each in dimensions}
    for spec in noise:
        if not known.issuperset(size for size in spec.shape if isinstance(size, str)):
            raise PrologueError(
                f"--prologue {path}: what it draws is {spec.kind}, a size that does not follow"
                " from its inputs. Export it with inputs of a fixed size."
            )
    with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
        fixed = Path(folder) / path.name
        ir.external_data.load_to_model(model)
        ir.save(model, fixed)
        options = ModelOptions(inputs=(*inputs, *noise), dimensions=dimensions)
        network = read_checkpoint(fixed, options).exported()
    return network, tuple(step.draws)

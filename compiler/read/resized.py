"""A network at another size of its images: the same weights, exported at that size."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import SupernetError
from skipc.compiler.read.positions import at_size
from skipc.compiler.read.several import fed
from skipc.compiler.verify.golden import draw_inputs
from skipc.runtime.bundle.tensors import typical_sizes
from skipc.runtime.errors import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir
    from torch import nn

    from skipc.compiler.network import Size
    from skipc.compiler.read.checkpoint import OnnxSupernet, Supernet, TorchSupernet
    from skipc.runtime.bundle.tensors import TensorSpec

_IMAGES = 4
"""Dimensions of images: batch, channels, height, width."""


def images_of(inputs: tuple[TensorSpec, ...]) -> TensorSpec:
    """Returns the one input that is images; raises ``SupernetError`` where none is."""
    found = [
        spec
        for spec in inputs
        if len(spec.shape) == _IMAGES
        and spec.dtype.startswith("float")
        and all(isinstance(size, int) for size in spec.shape[1:])
    ]
    if len(found) != 1:
        listed = ", ".join(f"{spec.name} ({spec.kind})" for spec in inputs)
        raise SupernetError(
            f"its inputs are {listed}, and images are one input of floats, (N, channels,"
            " height, width), of a fixed size."
        )
    return found[0]


def size_text(size: Size) -> str:
    """Returns a height and width as they are shown."""
    return "x".join(map(str, size))


def sized(inputs: tuple[TensorSpec, ...], size: Size) -> tuple[TensorSpec, ...]:
    """Returns inputs with images of another height and width."""
    images = images_of(inputs)
    made = replace(images, shape=(*images.shape[:2], *size))
    return tuple(made if spec is images else spec for spec in inputs)


def resized(supernet: Supernet, size: Size) -> Supernet:
    """Returns a network that takes what it took, and resizes its images first.

    Raises:
        SupernetError: It cannot run on images of that size.
    """
    return fed(supernet.at(size), supernet.inputs, f"at {size_text(size)}")


def torch_at(supernet: TorchSupernet, size: Size) -> TorchSupernet:
    """Returns a network for images of another size, run once before it is exported.

    Raises:
        SupernetError: It fails, or would leave pixels out: a layer that cuts images into
            patches drops the rest.
    """
    import torch

    inputs, sizes = sized(supernet.inputs, size), typical_sizes(supernet.dimensions)
    arrays = {
        name: torch.from_numpy(array)
        for name, array in draw_inputs(inputs, sizes, seed=0).items()
    }
    with torch.no_grad():
        try:
            source = at_size(supernet.source, size, arrays)
            with _whole_patches(source, supernet.model, size):
                source(**arrays)
        except SupernetError:
            raise
        # The user's forward: anything can come out of it.
        except Exception as cause:
            raise _refused(supernet.model, size, cause) from cause
    return replace(supernet, source=source, inputs=inputs)


@contextmanager
def _whole_patches(source: nn.Module, model: str, size: Size) -> Iterator[None]:
    """Refuses inside of the block what a layer of patches cannot divide."""
    import torch

    def check(name: str, layer: Any) -> Any:
        def before(module: object, inputs: tuple[Any, ...]) -> None:
            del module
            _check_patches(model, name, size, layer.stride, tuple(inputs[0].shape[2:]))

        return layer.register_forward_pre_hook(before)

    hooks = [
        check(name, layer)
        for name, layer in source.named_modules()
        if isinstance(layer, torch.nn.Conv2d)
        and layer.kernel_size == layer.stride
        and max(layer.stride) > 1
        and layer.padding in (0, (0, 0), "valid")
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_patches(
    model: str, layer: str, size: Size, patch: tuple[int, ...], found: tuple[int, ...]
) -> None:
    for pixels, step in zip(found, patch, strict=True):
        if pixels % step:
            raise SupernetError(
                f"{model} at {size_text(size)}: its layer {layer!r} cuts {pixels} rows or"
                f" columns into patches of {step}, and would leave {pixels % step} out. Give"
                " a multiple of what all its patches take."
            )


def check_graph(supernet: OnnxSupernet, model: ir.Model, size: Size) -> None:
    """Checks that the graph of an ONNX file, brought to another size, holds for it.

    Raises:
        SupernetError: It does not run, leaves pixels out, or holds the old size.
    """
    from skipc.compiler.graph.operands import operand
    from skipc.compiler.verify.onnx_reference import run_graph

    for node in model.graph:
        name = str(node.outputs[0].name)
        if node.op_type == "Resize" and len(node.inputs) > 3 and node.inputs[3] is not None:
            raise SupernetError(
                f"{supernet.model} at {size_text(size)}: {name!r} resizes to a size that is"
                " written into the file. Export it with scales, or at this size."
            )
        if node.op_type == "Conv":
            shape, kernel = operand(node, 0).shape, operand(node, 1).shape
            strides = node.attributes.get_ints("strides", ())
            pads = node.attributes.get_ints("pads", ())
            sizes = [n for n in list(shape or ())[2:] if isinstance(n, int)]
            if kernel is not None and list(kernel)[2:] == [*strides] and not any(pads):
                _check_patches(supernet.model, name, size, tuple(strides), tuple(sizes))
    try:
        run_graph(model, [draw_inputs(supernet.inputs, typical_sizes(supernet.dimensions), 0)])
    except Exception as cause:
        raise _refused(supernet.model, size, cause) from cause


def _refused(model: str, size: Size, cause: Exception) -> SupernetError:
    """Returns what is said of a network that does not run at a size."""
    return SupernetError(
        f"{model} does not run at {size_text(size)}: {type(cause).__name__}:"
        f" {reason_of(cause)} Positions or reshapes for one size are the usual reason: leave"
        " this 'resolution' out, or give a network that takes any."
    )

"""A prologue of ours: what a camera gives becomes the images that a network takes.

``uint8-nhwc,imagenet`` is a list of steps: which bytes go in, and what is done with them. A
resize is linear, as is the scaling, so that each is done where it costs least.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx_ir as ir

from skipc.compiler.errors import PrologueError
from skipc.compiler.graph.adding import Added
from skipc.compiler.graph.passes.feed_inputs import resizing
from skipc.compiler.network import Feed, Network, Reference, own_tolerance
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from skipc.compiler.network import Size
    from skipc.compiler.verify.numerics import Case
    from skipc.runtime.bundle.tensors import Dimension

LAYOUTS = ("uint8-nhwc", "uint8-nchw")
NORMS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "symmetric": ((0.5,), (0.5,)),
}
"""Mean and standard deviation of what lies between 0 and 1; one number is of all channels."""
_KEYS = ("mean", "std", "scale", "resize")
_STEPS = (*LAYOUTS, *NORMS, *(f"{key}=" for key in _KEYS))
_BYTE = 255.0
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_IMAGES = 4
_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
_OPSET = 17
IMAGES = "camera.images"
"""What its output is called."""


@dataclass(frozen=True, slots=True)
class Camera:
    """What goes in, and what is done with it: ``(x / scale - mean) / std``, resized.

    Attributes:
        channels_last: Whether bytes lie as (N, height, width, channels), not as the network
            has them.
        mean: Of each channel, or one of all.
        std: Of each channel, or one of all.
        scale: What bytes are divided by.
        size: Height and width of what goes in; None for the network's.
    """

    channels_last: bool
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = _BYTE
    size: Size | None = None


def parse_camera(text: str) -> Camera:
    """Returns the steps that a text lists; raises ``PrologueError`` where it lists none."""
    first, *steps = (step.strip() for step in text.split(","))
    if first not in LAYOUTS:
        raise PrologueError(
            f"--prologue {text}: {first!r} is no layout. {choices_text(first, LAYOUTS)} Steps"
            " follow it, as in uint8-nhwc,imagenet. Or give an ONNX file."
        )
    made = Camera(first == LAYOUTS[0])
    said: set[str] = set()
    for step in steps:
        key, equals, value = step.partition("=")
        does = {"mean", "std"} if step in NORMS else {key}
        if step in NORMS:
            mean, std = NORMS[step]
            made = replace(made, mean=mean, std=std)
        elif not equals or key not in _KEYS:
            raise PrologueError(
                f"--prologue {text}: {step!r} is no step. {choices_text(step, _STEPS)}"
            )
        elif key == "resize":
            made = replace(made, size=_size(text, value))
        elif key == "scale":
            (scale,) = _numbers(text, step, value, least=0.0)[:1]
            made = replace(made, scale=scale)
        elif key == "mean":
            made = replace(made, mean=_numbers(text, step, value, least=None))
        else:
            made = replace(made, std=_numbers(text, step, value, least=0.0))
        twice = sorted(does & said)
        if twice:
            raise PrologueError(f"--prologue {text}: {step!r} says {twice[0]!r} once more.")
        said |= does
    return made


def _size(text: str, value: str) -> Size:
    found = _SIZE.fullmatch(value)
    if found is None:
        raise PrologueError(
            f"--prologue {text}: 'resize={value}' has no height and width of what the camera"
            " gives, as in resize=480x640."
        )
    return int(found[1]), int(found[2])


def _numbers(text: str, step: str, value: str, least: float | None) -> tuple[float, ...]:
    try:
        found = tuple(float(number) for number in value.split(":"))
    except ValueError:
        found = ()
    wrong = [n for n in found if not np.isfinite(n) or (least is not None and n <= least)]
    if not found or wrong:
        above = "" if least is None else f" above {least:g}"
        raise PrologueError(
            f"--prologue {text}: {step!r}: write numbers{above}, one or one for each channel:"
            " mean=0.5:0.5:0.5."
        )
    return found


def camera_network(
    camera: Camera, text: str, inputs: tuple[TensorSpec, ...], dimensions: Sequence[Dimension]
) -> Network:
    """Returns what makes a network's images of a camera's bytes, under the same name.

    Args:
        camera: The steps.
        text: What they were read from.
        inputs: The network's inputs, of which one is images.
        dimensions: The free dimensions that these name.

    Raises:
        PrologueError: The steps do not fit these images.
    """
    spec = _images(inputs, text)
    lead, channels, *size = spec.shape
    for what, numbers in (("mean", camera.mean), ("std", camera.std)):
        if len(numbers) not in (1, channels):
            raise PrologueError(
                f"--prologue {text}: {len(numbers)} numbers of {what!r}, but the network's"
                f" images have {channels} channels: {spec.kind}."
            )
    taken = list(camera.size or size)
    if camera.size is not None and not all(isinstance(each, int) for each in size):
        raise PrologueError(
            f"--prologue {text}: the network takes images of any size ({spec.kind}), so there"
            " is none to resize to. Leave 'resize' out, or fix the size with --input."
        )
    shape = (lead, *taken, channels) if camera.channels_last else (lead, channels, *taken)
    given = TensorSpec(spec.name, "uint8", shape)
    return Network(
        model=_graph(camera, given, spec),
        reference=CameraReference(camera, spec),
        inputs=(given,),
        outputs=(replace(spec, name=IMAGES),),
        dimensions=tuple(each for each in dimensions if each.name in given.shape),
        description=text,
        tolerance=own_tolerance((spec,)),
    )


def _images(inputs: tuple[TensorSpec, ...], text: str) -> TensorSpec:
    found = [s for s in inputs if len(s.shape) == _IMAGES and s.dtype.startswith("float")]
    if len(found) != 1 or not isinstance(found[0].shape[1], int):
        listed = ", ".join(f"{spec.name} ({spec.kind})" for spec in inputs)
        raise PrologueError(
            f"--prologue {text}: makes images (N, channels, height, width) of floats, and the"
            f" network's inputs are {listed}. Give an ONNX file that makes those."
        )
    return found[0]


def _graph(camera: Camera, given: TensorSpec, spec: TensorSpec) -> ir.Model:
    floats = ir.TensorType(ir.DataType.FLOAT)
    value = ir.Value(
        name=given.name, type=ir.TensorType(ir.DataType.UINT8), shape=ir.Shape(given.shape)
    )
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": _OPSET}, name="prologue")
    added = Added(graph, "camera")
    lead, channels, *size = spec.shape
    shape = [lead, channels, *(camera.size or size)]
    if camera.channels_last:  # of bytes, which are a quarter of the numbers that they become
        turn = ir.node("Transpose", [value], {"perm": list(_TO_CHANNELS_FIRST)})
        value = added.add(turn, "turned", value.type, _shape(shape))
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)})
    value = added.add(cast, "numbers", floats, _shape(shape))
    if camera.size is not None and list(camera.size) != size:
        rows, columns = (
            added.constant(matrix.astype(np.float32), f"resize.{what}")
            for what, matrix in (
                ("rows", resizing(camera.size[0], int(size[0]))),
                ("columns", resizing(camera.size[1], int(size[1])).T),
            )
        )
        shape[3] = size[1]
        value = added.add(ir.node("MatMul", [value, columns]), "wide", floats, _shape(shape))
        shape[2] = size[0]
        value = added.add(ir.node("MatMul", [rows, value]), "sized", floats, _shape(shape))
    mean, std = (np.array(each).reshape(-1, 1, 1) for each in (camera.mean, camera.std))
    factor = added.constant((1 / (camera.scale * std)).astype(np.float32), "factor")
    value = added.add(ir.node("Mul", [value, factor]), "scaled", floats, _shape(shape))
    if mean.any():
        shift = added.constant((-mean / std).astype(np.float32), "shift")
        value = added.add(ir.node("Add", [value, shift]), "shifted", floats, _shape(shape))
    dtype = ir.DataType.from_numpy(np.dtype(spec.dtype))
    if dtype != ir.DataType.FLOAT:
        last = ir.node("Cast", [value], {"to": int(dtype)})
        value = added.add(last, "narrow", ir.TensorType(dtype), _shape(shape))
    value.name = IMAGES
    graph.extend(added.nodes)
    graph.outputs.append(value)
    return ir.Model(graph, ir_version=8)


def _shape(sizes: Sequence[int | str]) -> list[int | ir.SymbolicDim]:
    return [each if isinstance(each, int) else ir.SymbolicDim(each) for each in sizes]


@dataclass(frozen=True)
class CameraReference(Reference):
    """The same in NumPy, in double precision, in the order in which it is told.

    Attributes:
        camera: The steps.
        spec: The network's images.
    """

    name: ClassVar[str] = "numpy"
    camera: Camera
    spec: TensorSpec

    def run(self, cases: Sequence[Case]) -> list[Case]:
        """Returns the network's images, for each case."""
        return [self._images(case) for case in cases]

    def trace(self, inputs: Case) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields nothing: what it computes in between is not the graph's."""
        del inputs
        return iter(())

    def _images(self, case: Case) -> Case:
        camera, name = self.camera, self.spec.name
        images = case[name].astype(np.float64)
        if camera.channels_last:
            images = images.transpose(_TO_CHANNELS_FIRST)
        mean, std = (np.array(each).reshape(-1, 1, 1) for each in (camera.mean, camera.std))
        images = (images / camera.scale - mean) / std
        height, width = self.spec.shape[2:]
        if camera.size is not None and camera.size != (height, width):
            images = Feed(name, name, (int(height), int(width))).read({name: images})
        return {IMAGES: np.ascontiguousarray(images).astype(self.spec.dtype)}


def bytes_like(camera: Camera, name: str, case: Case) -> Case:
    """Returns what may go in where the network takes ``case``: rounded, and cut off."""
    mean, std = (np.array(each).reshape(-1, 1, 1) for each in (camera.mean, camera.std))
    numbers = (case[name].astype(np.float64) * std + mean) * camera.scale
    images = np.clip(np.rint(numbers), 0, _BYTE).astype(np.uint8)
    for axis, size in zip((2, 3), camera.size or (), strict=False):
        images = np.take(images, np.arange(size) * images.shape[axis] // size, axis)
    if camera.channels_last:
        images = images.transpose(_TO_CHANNELS_LAST)
    return {**case, name: np.ascontiguousarray(images)}

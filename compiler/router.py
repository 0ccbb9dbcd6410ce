"""A router: a small network that gives each configuration a score, and its file.

It looks at one input of the family, makes it small, and ends in the probability that each
configuration is right. The same weights are made a graph here, and run by PyTorch to compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import onnx_ir as ir

from skipc.compiler.beside import read_tensors, write_tensors
from skipc.compiler.errors import RouterError
from skipc.compiler.network import Network, Reference, Tolerance
from skipc.runtime.bundle.constraints import AtLeast, Count, Distinct, NotEmpty, Sha256, Text
from skipc.runtime.bundle.manifest import PartEntry  # noqa: TC001  (a document's field)
from skipc.runtime.bundle.routed import Biased  # noqa: TC001
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.verify.numerics import Case

_NOUN = "router"
_MADE_BY = "skipc router"
SCORES = "router.scores"
"""The output of its graph."""
KERNEL, STRIDE = 3, 2
_OPSET, _IR_VERSION = 20, 9


@dataclass(frozen=True, slots=True)
class Way:
    """A configuration that a router names, as it was when the router was trained.

    Attributes:
        name: Its name.
        parts: What it chose.
        cost: What it takes, over the dearest one.
    """

    name: str
    parts: Annotated[tuple[PartEntry, ...], NotEmpty()]
    cost: Annotated[float, AtLeast(0)]


@dataclass(frozen=True, slots=True)
class RouterHeader:
    """The header of a router's file.

    Attributes:
        checkpoints: By network, the hash of the checkpoint that it was trained for.
        input: The family's input that it looks at.
        pool: Over squares of so many pixels an image is averaged first.
        ways: The configurations, in the order of its scores, the cheapest first.
        curve: What its biases come to.
        data_sketch: Of the data that it was trained on, and its bias chosen by.
    """

    FORMAT: ClassVar[str] = "skipc.router/1"
    AGAIN: ClassVar[str] = "train the router again with `skipc router`"

    checkpoints: Mapping[str, Annotated[str, Sha256()]]
    input: TensorSpec
    pool: Count
    ways: Annotated[tuple[Way, ...], NotEmpty(), Distinct("name")]
    curve: Annotated[tuple[Biased, ...], NotEmpty()]
    data_sketch: Text = ""


@dataclass(frozen=True, slots=True)
class Router:
    """A trained router.

    Attributes:
        header: What it is of.
        layers: Weight and bias of each convolution, then of the linear layers behind: of an
            image (outputs, inputs, 3, 3), else (outputs, inputs).
    """

    header: RouterHeader
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The configurations that it names."""
        return tuple(way.name for way in self.header.ways)

    @property
    def costs(self) -> tuple[float, ...]:
        """What each of them takes, over the dearest one."""
        return tuple(way.cost for way in self.header.ways)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one sample."""
        sides = [int(size) // self.header.pool for size in self.header.input.shape[2:]]
        macs = 0
        for weight, _ in self.layers:
            sides = _strided(sides) if weight.ndim == 4 else []
            macs += int(np.prod(sides)) * weight.size
        return macs


def _strided(sides: Sequence[int]) -> list[int]:
    """Returns height and width behind a convolution."""
    return [(side - KERNEL) // STRIDE + 1 for side in sides]


def write_router(path: Path, router: Router) -> None:
    """Writes a router, whole or not at all."""
    tensors = {}
    for number, (weight, bias) in enumerate(router.layers):
        tensors[f"{number}.weight"], tensors[f"{number}.bias"] = weight, bias
    write_tensors(path, _NOUN, router.header, tensors)


def read_router(path: Path) -> Router:
    """Returns the router in a file.

    Raises:
        RouterError: It is damaged, or its layers do not follow one another.
    """
    header, tensors = read_tensors(path, _NOUN, RouterHeader, RouterError)
    layers = []
    for number in range(len(tensors) // 2):
        weight, bias = (tensors.get(f"{number}.{what}") for what in ("weight", "bias"))
        if weight is None or bias is None:
            raise _misfit(path, f"{number}.weight and {number}.bias are not both there")
        layers.append((weight, bias))
    shape = header.input.shape
    images = len(shape) == 4
    channels = int(shape[1] if images else shape[-1])
    for number, (weight, bias) in enumerate(layers):
        fits = weight.ndim == 2 or (
            images and weight.ndim == 4 and weight.shape[2:] == (KERNEL, KERNEL)
        )
        numbers = weight.dtype == bias.dtype == np.float32
        if not fits or not numbers or weight.shape[1] != channels:
            raise _misfit(
                path,
                f"layer {number} is {weight.dtype} of {list(weight.shape)}, for {channels}"
                " channels",
            )
        if bias.shape != weight.shape[:1] or not np.isfinite(weight).all():
            raise _misfit(path, f"the bias or the weights of layer {number} do not fit")
        images = weight.ndim == 4
        channels = len(weight)
    if not layers or channels != len(header.ways):
        raise _misfit(path, f"it gives {channels} scores for {len(header.ways)} ways")
    for at in header.curve:
        if at.bias < 0:
            raise _misfit(path, f"its curve has the bias {at.bias:g}")
    return Router(header, tuple(layers))


def _misfit(path: Path, what: str) -> RouterError:
    return RouterError(
        f"{path}: no router that can run: {what}. Train it again with `{_MADE_BY}`."
    )


def check_router(
    router: Router, path: Path, checkpoints: Mapping[str, str], inputs: Sequence[TensorSpec]
) -> None:
    """Raises ``RouterError`` where a router was trained for other networks.

    Args:
        router: The router.
        path: Its file, for messages.
        checkpoints: By network, the hash of its checkpoint.
        inputs: The family's inputs.
    """
    header = router.header
    for name, sha256 in header.checkpoints.items():
        if checkpoints.get(name) != sha256:
            whose = f"the network {name!r}" if name else "this network"
            raise RouterError(
                f"{path}: trained for other weights than those of {whose}. Train it again with"
                f" `{_MADE_BY}`, or leave the configurations out that it chooses."
            )
    own, known = header.input, {spec.name: spec for spec in inputs}
    found = known.get(own.name)
    if found is None or (found.dtype, found.shape[1:]) != (own.dtype, own.shape[1:]):
        what = choices_text(own.name, known) if found is None else f"It is {found.kind} here."
        raise RouterError(
            f"{path}: its router looks at the input {own.name!r}, {own.kind}. {what} Train it"
            f" again with `{_MADE_BY}`."
        )


def network_of(router: Router, dimensions: tuple[Dimension, ...], rows: int | str) -> Network:
    """Returns a router as a network that can be written and verified.

    Args:
        router: The router.
        dimensions: The family's.
        rows: The first size of the family's inputs.
    """
    spec = router.header.input
    spec = TensorSpec(spec.name, spec.dtype, (rows, *spec.shape[1:]))
    scores = TensorSpec(SCORES, "float32", (rows, len(router.header.ways)))
    return Network(
        model=_graph(router, spec, scores),
        reference=_TorchRouter(router),
        inputs=(spec,),
        outputs=(scores,),
        dimensions=dimensions,
        description=f"router of {', '.join(router.names)}",
        tolerance=Tolerance(1e-4),
    )


def _graph(router: Router, spec: TensorSpec, scores: TensorSpec) -> ir.Model:
    """Returns the graph; intermediate values are called as the reference calls them."""
    shape = ir.Shape(spec.shape)
    value = ir.Value(name=spec.name, type=ir.TensorType(_element(spec.dtype)), shape=shape)
    inputs, nodes, held = [value], list[ir.Node](), list[ir.Value]()

    def add(operator: str, name: str, *operands: ir.Value, **attributes: Any) -> ir.Value:
        made = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
        nodes.append(ir.node(operator, [*operands], attributes, outputs=[made]))
        return made

    def constant(array: NDArray[Any], name: str) -> ir.Value:
        held.append(ir.val(f"router.{name}", const_value=ir.tensor(array)))
        return held[-1]

    if spec.dtype != "float32":
        value = add("Cast", "router.cast", value, to=int(ir.DataType.FLOAT))
    rows, sides = spec.shape[0], [int(side) for side in spec.shape[2:]]
    pool, images = router.header.pool, len(spec.shape) == 4
    if pool > 1:
        sides = [side // pool for side in sides]
        shape = ir.Shape([rows, spec.shape[1], *sides])
        square = [pool, pool]
        value = add("AveragePool", "router.pool", value, kernel_shape=square, strides=square)
    if len(spec.shape) == 3:
        axis, shape = constant(np.array([1]), "positions"), ir.Shape([rows, spec.shape[2]])
        value = add("ReduceMean", "router.mean", value, axis, keepdims=0)
    for number, (weight, bias) in enumerate(router.layers):
        own = constant(weight, f"{number}.weight"), constant(bias, f"{number}.bias")
        if weight.ndim == 4:
            sides, strides = _strided(sides), [STRIDE, STRIDE]
            shape = ir.Shape([rows, len(weight), *sides])
            value = add("Conv", f"router.{number}", value, *own, strides=strides)
        else:
            if images:
                images, shape = False, ir.Shape([rows, weight.shape[1], 1, 1])
                value = add("GlobalAveragePool", "router.means", value)
                shape = ir.Shape([rows, weight.shape[1]])
                value = add("Flatten", "router.mean", value)
            shape = ir.Shape([rows, len(weight)])
            value = add("Gemm", f"router.{number}", value, *own, transB=1)
        if number + 1 < len(router.layers):
            value = add("Relu", f"router.{number}.relu", value)
    value = add("Sigmoid", scores.name, value)
    graph = ir.Graph(
        inputs, [value], nodes=nodes, initializers=held, opset_imports={"": _OPSET},
        name="router",
    )  # fmt: skip
    return ir.Model(graph, ir_version=_IR_VERSION, producer_name="skipc")


def _element(dtype: str) -> ir.DataType:
    return ir.DataType.from_numpy(np.dtype(dtype))


@dataclass(frozen=True)
class _TorchRouter(Reference):
    """The same computation in PyTorch."""

    name: ClassVar[str] = "pytorch"
    router: Router

    def run(self, cases: Sequence[Case]) -> list[Case]:
        """Returns the scores for each case."""
        return [{SCORES: dict(self.trace(case))[SCORES]} for case in cases]

    def trace(self, inputs: Case) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields every intermediate tensor by its name in the graph, in order."""
        import torch
        from torch.nn import functional

        spec, pool = self.router.header.input, self.router.header.pool
        value = torch.from_numpy(np.ascontiguousarray(inputs[spec.name])).float()
        if spec.dtype != "float32":
            yield "router.cast", value.numpy()
        if pool > 1:
            value = functional.avg_pool2d(value, pool)
            yield "router.pool", value.numpy()
        if value.ndim == 3:
            value = value.mean(1)
            yield "router.mean", value.numpy()
        for number, layer in enumerate(self.router.layers):
            weight, bias = map(torch.from_numpy, layer)
            if weight.ndim == 4:
                value = functional.conv2d(value, weight, bias, STRIDE)
            else:
                if value.ndim == 4:
                    value = value.mean((2, 3), keepdim=True)
                    yield "router.means", value.numpy()
                    value = value.flatten(1)
                    yield "router.mean", value.numpy()
                value = functional.linear(value, weight, bias)
            yield f"router.{number}", value.numpy()
            if number + 1 < len(self.router.layers):
                value = value.relu()
                yield f"router.{number}.relu", value.numpy()
        yield SCORES, value.sigmoid().numpy()

"""The floating-point type that a network computes in, written into its graph."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import onnx_ir as ir

from skipc.compiler.axes.axis import Axis, Gene, Genes, Offer
from skipc.compiler.errors import FrontError, SupernetError, TargetError
from skipc.compiler.graph.int8_layers import layers_of, mostly_convolutions
from skipc.compiler.graph.passes.cast_precision import CastPrecisionPass
from skipc.compiler.graph.passes.half_tensors import HalfTensors
from skipc.compiler.graph.passes.quantize import QuantizePass, observed_ranges
from skipc.compiler.graph.passes.quantize_dynamic import QuantizeDynamicPass
from skipc.compiler.network import Arithmetic, Tolerance
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.network import Network

_BF16_OPSET = 22
"""The first in which ONNX has Conv and pooling in bfloat16."""

_OLDEST_RAISED_OPSET = 18
_IR_VERSION = 10
"""The first that goes with ``_BF16_OPSET``."""

_DTYPES = {
    "fp32": ir.DataType.FLOAT,
    "fp16": ir.DataType.FLOAT16,
    "bf16": ir.DataType.BFLOAT16,
    "fp64": ir.DataType.DOUBLE,
}
"""By the name of a precision, the type of what is not integer in it."""


class Precision(Enum):
    """What a network's layers compute in; inputs and outputs keep their own types."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT8_DYNAMIC = "int8-dynamic"
    """Activations by the range that each call has, not by one that was observed before."""

    @property
    def dtype(self) -> ir.DataType:
        """ONNX's type of what is not integer: in int8, norms and activations are float32."""
        return _DTYPES.get(self.value, ir.DataType.FLOAT)

    @property
    def is_int8(self) -> bool:
        """Whether layers are computed in integers."""
        return self in (Precision.INT8, Precision.INT8_DYNAMIC)


_TOLERANCES = {
    # float16's own rounding is 5e-4 of a value, bfloat16's 4e-3; and ONNX Runtime's CPU has
    # no kernels for bfloat16.
    Precision.FP16: Tolerance(
        1e-2,
        (Arithmetic.AS_WRITTEN, Arithmetic.ROUNDED),
        "It computes in fp16: try --precision bf16 (the range of float32) or fp32.",
        least_range=0.2,
    ),
    Precision.BF16: Tolerance(
        3e-2,
        (Arithmetic.ROUNDED,),
        "It computes in bf16: try --precision fp16 (8 times as fine, up to 65504) or fp32.",
        least_range=0.5,
    ),
}


_INT8_TOLERANCES = {
    precision: Tolerance(
        0.1,
        (Arithmetic.AS_WRITTEN, Arithmetic.SIMULATED),
        f"It computes in {precision.value}: {first}leave sensitive layers in float32 with"
        " --max-drop, or allow more with --tolerance and measure what it answers.",
        least_range=0.5,
    )
    for precision, first in (
        (Precision.INT8, "calibrate on data like what it will see, "),
        (Precision.INT8_DYNAMIC, ""),
    )
}
"""Over the networks of the tests the error is 0.001 to 0.024, of ResNet-50 0.02."""


class PrecisionOption(NamedTuple):
    """A precision as something that may be chosen; nothing goes with it."""

    name: str
    parameters: int = 0
    macs: int = 0


@dataclass(frozen=True, slots=True)
class PrecisionOffer(Offer):
    """The precisions, and each half's tensors, cast once for all configurations.

    Attributes:
        halves: By half precision its tensors.
        searched: What a search may choose beside the network as it is.
    """

    halves: dict[Precision, HalfTensors] = field(
        default_factory=lambda: {half: HalfTensors(half.dtype) for half in _TOLERANCES}
    )
    searched: tuple[Precision, ...] = ()

    @property
    def options(self) -> Sequence[PrecisionOption]:
        """All of them: whether a network can be had in one is seen when it is cast."""
        return tuple(PrecisionOption(precision.value) for precision in Precision)

    @property
    def notes(self) -> Sequence[str]:
        """Which tensors stay float32."""
        return tuple(
            f"--precision {half.value}: {name!r} and what reads it stay float32: {reason}."
            for half, tensors in self.halves.items()
            for name, reason in tensors.kept.items()
        )


class PrecisionAxis(Axis[Precision, PrecisionOffer]):
    """Puts half precision or int8 into a graph; what it is compared with stays as it is."""

    key = "precision"
    after_norms = True

    def offer(self, network: Network) -> PrecisionOffer:
        """Returns all precisions; int8 to a search, where there is data to observe."""
        graph, calibration = network.model.graph, network.calibration
        if calibration is None or not calibration.cases or not layers_of(graph):
            return PrecisionOffer()
        dynamic = calibration.form.dynamic and not mostly_convolutions(graph)
        more = (Precision.INT8_DYNAMIC,) if dynamic else ()
        return PrecisionOffer(searched=(Precision.INT8, *more))

    def check(self, record: object, where: str) -> None:
        """Refuses what is no precision."""
        names = [precision.value for precision in Precision]
        if record not in names:
            raise FrontError(
                f"{where}: 'precision' is {record!r}. {choices_text(str(record), names)}"
            )

    def read(self, record: object, offer: PrecisionOffer, where: str) -> Precision:
        """Returns the precision of that name."""
        return Precision(record)

    def record(self, choice: Precision) -> object:
        """Returns its name."""
        return choice.value

    def apply(self, network: Network, choice: Precision, offer: PrecisionOffer) -> Network:
        """Returns the network with its graph in a precision, or raises ``SupernetError``."""
        if network.gating is not None and choice is not Precision.FP32:
            raise FrontError(
                f"a configuration has both 'gates' and the precision {choice.value!r}: gates"
                " decide in float32, since rounding would turn decisions. Choose one of them."
            )
        check_castable(network.model, choice)
        if choice.is_int8:
            made = quantized(network, choice, network.floating)
            tolerance = _INT8_TOLERANCES[choice]
            return replace(network, model=made, tolerance=tolerance, exact=network)
        if choice not in offer.halves:
            return network
        model = network.model.clone()
        cast_in_place(model, choice, offer.halves[choice])
        return replace(network, model=model, tolerance=_TOLERANCES[choice])

    def genes(self, offer: PrecisionOffer) -> tuple[Gene, ...]:
        """Returns one that says which int8, if any."""
        labels = tuple(each.value for each in offer.searched)
        return (Gene(self.key, self.key, 1 + len(labels), labels),) if labels else ()

    def decode(self, genes: Genes, offer: PrecisionOffer) -> Precision:
        """Returns the precision that its number stands for."""
        return offer.searched[genes[0] - 1]

    def taken(self, choice: Precision) -> tuple[str, ...]:
        """Returns its name."""
        return (choice.value,)


def quantized(
    network: Network, choice: Precision, floating: Sequence[str], *, keep: bool = False
) -> ir.Model:
    """Returns a network's graph in int8.

    Args:
        network: The network, in float32.
        choice: Which int8.
        floating: The layers that stay float32, or modules that hold several.
        keep: Whether activations stay that rounding to a range makes needless.

    Raises:
        SupernetError: It cannot be quantised, or there is no data to observe ranges on.
    """
    calibration = network.calibration
    if calibration is None or (choice is Precision.INT8 and not calibration.cases):
        raise SupernetError(
            "int8: there is no data to observe ranges on. Give some with --calibrate DATA, as"
            " `skipc select --data` takes it; labels are not used."
        )
    if choice is Precision.INT8_DYNAMIC:
        return QuantizeDynamicPass(calibration.form, floating)(network.model).model
    ranges = calibration.ranges or observed_ranges(network.model, calibration.cases)
    rounded = calibration.rounded
    made = QuantizePass(ranges, calibration.form, floating, rounded, keep=keep)
    return made(network.model).model


def cast_in_place(model: ir.Model, half: Precision, tensors: HalfTensors) -> None:
    """Puts half precision into a graph that computes in float32, or in part.

    What is decided for a node or tensor depends on nothing else in the graph.

    Raises:
        SupernetError: The type of a value is unknown, or the opset too old.
    """
    if Precision.FP32.dtype not in _types_in(model):
        return
    if half is Precision.BF16:
        _raise_opset(model)
    CastPrecisionPass(tensors)(model)


def check_precision(precision: Precision, allowed: Sequence[str], target: str) -> None:
    """Refuses with a ``TargetError`` a precision that is not ``allowed``; empty allows all."""
    if allowed and precision.value not in allowed:
        possible = [each.value for each in Precision if each.value in allowed]
        raise TargetError(
            f"--precision {precision.value}: the target {target!r} does not compute in it, but"
            f" in {' and '.join(possible)}. A profile of your own may name fewer GPUs and more"
            " precisions (docs/profiles.md)."
        )


def graph_precision(model: ir.Model) -> str:
    """Returns what a graph computes in: a precision's name, ``fp64``, or ``mixed``."""
    types = _types_in(model)
    found = [name for name, dtype in _DTYPES.items() if dtype in types]
    return found[0] if len(found) == 1 else "mixed"


def common_precision(model: ir.Model, choices: set[object]) -> str:
    """Returns what configurations compute in, ``mixed`` where they differ.

    ``choices`` has each choice once; None for the types that ``model``, the full graph, has.
    """
    if len(choices) > 1:
        return "mixed"
    (chosen,) = choices
    return graph_precision(model) if chosen is None else Precision(chosen).value


def check_castable(model: ir.Model, precision: Precision) -> None:
    """Refuses a graph that computes in another half precision already: a ``SupernetError``."""
    halves = {half.dtype for half in _TOLERANCES} - {precision.dtype}
    found = _types_in(model) & halves
    others = sorted(name for name, dtype in _DTYPES.items() if dtype in found)
    if others:
        raise SupernetError(
            f"--precision {precision.value}: the network computes in {others[0]} itself, and"
            " what that rounded away does not come back. Leave --precision out, or give the"
            " float32 checkpoint."
        )


def _types_in(model: ir.Model) -> set[ir.DataType]:
    """Returns the floating-point types of a graph's tensors, what Casts return left out."""
    found: set[ir.DataType | None] = set()
    for graph in model.graphs():
        found |= {value.dtype for value in (*graph.inputs, *graph.initializers.values())}
    for node in model.graph.all_nodes():
        if node.op_type != "Cast":
            found |= {value.dtype for value in node.outputs}
    return {dtype for dtype in found if dtype is not None and dtype.is_floating_point()}


def _raise_opset(model: ir.Model) -> None:
    """Raises the version of ONNX's operators to the first that all know bfloat16."""
    opset = model.graph.opset_imports.get("", _BF16_OPSET)
    if opset >= _BF16_OPSET:
        return
    if opset < _OLDEST_RAISED_OPSET:
        raise SupernetError(
            f"--precision bf16: the graph is written in ONNX opset {opset}, where most"
            f" operators have no bfloat16. Export it with opset {_BF16_OPSET} (or at least"
            f" {_OLDEST_RAISED_OPSET}), or use --precision fp16."
        )
    from onnxscript.version_converter import ConvertVersionPass

    ConvertVersionPass(_BF16_OPSET)(model)
    model.ir_version = max(model.ir_version or 0, _IR_VERSION)

"""Families in half precision: accuracy, sizes, sharing, and what a failed build says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skipc.compiler.axes.precision import Precision, PrecisionAxis, cast_in_place
from skipc.compiler.build import BuildOptions
from skipc.compiler.errors import NumericsError
from skipc.compiler.family import family_of
from skipc.compiler.graph.passes.half_tensors import HalfTensors
from skipc.compiler.read import ModelOptions, TorchSupernet, read_checkpoint
from skipc.compiler.verify.golden import random_cases, whole_number_bounds
from skipc.compiler.verify.verify import verify_subnet
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.tensors import TensorSpec
from tests.build_folder import NAME, BuildFolder
from tests.exports import ExportedOnce
from tests.zoo import NETS, WITH_UNITS, exported, pruned
from tests.zoo.image_nets import Chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from skipc.compiler.axes.units import Unit
    from tests.zoo.files import Files

FP16, BF16 = Precision.FP16, Precision.BF16
IN_FP16 = (
    *(
        "pooling",
        "squeeze-excite",
        "bit",
        "wide-branch",
        "feature-pyramid",
        "linknet",
        "forms",
    ),
    *("torchvision-resnet", "mobilenet-v2", "convnext", "swin", "bert-any-batch", "mixer"),
)
IN_BF16 = ("torchvision-resnet", "bit", "linknet", "mixer", "swin", "bert")


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Returns the type of every value by name, as the file says it."""
    graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def check_file(path: Path) -> None:
    """Asserts that ONNX gives every value the type that the file says."""
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    said = types(model)
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert {name: said[name] for name in types(inferred)} == types(inferred)


@pytest.mark.parametrize(
    ("precision", "name"),
    [*((FP16, name) for name in IN_FP16), *((BF16, name) for name in IN_BF16)],
    ids=lambda value: value.value if isinstance(value, Precision) else value,
)
def test_every_network_is_verified_in_half_precision(
    precision: Precision, name: str, zoo_files: Callable[[str, Precision], Files]
) -> None:
    graph, _ = exported(name)
    inputs = random_cases(graph.inputs, graph.dimensions, whole_number_bounds(graph.model))
    if not graph.dimensions:
        inputs = inputs[:1]
    files = zoo_files(name, precision)
    for called, subnet in files.subnets.items():
        path = files.folder / f"{called}.onnx"
        check_file(path)
        found = verify_subnet(path, called, subnet.network, inputs)
        # Rounding is seen, and far from the tolerance.
        error = found.verification.relative_error
        assert 1e-6 < error < {FP16: 1e-2, BF16: 3e-2}[precision] / 3


def test_what_is_verified_has_all_operators_of_the_zoo() -> None:
    def operators(names: Iterable[str]) -> set[tuple[str, str]]:
        graphs = (exported(name)[0].model.graph for name in names)
        return {(node.domain, node.op_type) for graph in graphs for node in graph}

    assert operators(IN_FP16) == operators(NETS)


@st.composite
def configurations(draw: st.DrawFn) -> tuple[str, tuple[Unit, ...]]:
    """Draws a network and any subset of its units."""
    name = draw(st.sampled_from(WITH_UNITS))
    network, search = exported(name)
    # Behind a cast an output keeps its name, not the addition that it was.
    outputs = {value.name for value in network.model.graph.outputs}
    units = [unit for unit in search.units if unit.join not in outputs]
    return name, tuple(unit for unit in units if draw(st.booleans()))


def tensors(model: ir.Model) -> dict[str, tuple[ir.DataType, bytes]]:
    return {
        name: (value.const_value.dtype, value.const_value.tobytes())
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }


@given(configurations(), st.sampled_from([FP16, BF16]))
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_casting_commutes_with_pruning(
    drawn: tuple[str, tuple[Unit, ...]], precision: Precision
) -> None:
    name, units = drawn
    supernet = exported(name)[0].model
    tensors_of = HalfTensors(precision.dtype)
    full, first = supernet.clone(), pruned(supernet, units)
    for model in (full, first):
        cast_in_place(model, precision, tensors_of)
    last = pruned(full, units)
    assert tensors(first) == tensors(last)
    shared = full.graph.initializers
    # Not equal bytes alone: one object, cast once.
    assert all(
        value.const_value is shared[key].const_value
        for key, value in first.graph.initializers.items()
    )
    assert [v.name for v in first.graph.outputs] == [v.name for v in supernet.graph.outputs]


class Wide(torch.nn.Module):
    """A residual block whose weights are all large enough for the weight store."""

    def __init__(self) -> None:
        super().__init__()
        self.work = torch.nn.Linear(256, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.work(x).relu()


@pytest.fixture(scope="module")
def wide() -> TorchSupernet:
    torch.manual_seed(0)
    inputs = (TensorSpec("x", "float32", (1, 256)),)
    blocks = [Wide() for _ in range(3)]
    return ExportedOnce(Chain(*blocks).eval(), inputs, (), None, "wide", {})


def test_weight_store_is_half_and_nothing_is_in_it_twice(
    wide: TorchSupernet, tmp_path: Path
) -> None:
    skips = {"full": (), "mid": ("1",), "fast": ("0", "2")}
    sizes = {}
    for precision in (None, FP16, BF16):
        folder = tmp_path / str(precision)
        folder.mkdir()
        place = BuildFolder(folder, skips, wide)
        manifest = Bundle.open(place.build(options=BuildOptions(precision=precision))).manifest
        sizes[precision] = sum(tensor.size_bytes for tensor in manifest.weights)
        full, mid, fast = manifest.graphs
        assert full.weights_bytes == sizes[precision]
        assert (mid.own_bytes, fast.own_bytes) == (0, 0)
        assert manifest.provenance.precision == (precision or Precision.FP32).value
    assert sizes[FP16] == sizes[BF16] == sizes[None] / 2


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> object:
    path = tmp_path_factory.mktemp("graph") / "net.onnx"
    ir.save(exported(NAME)[0].model.clone(), path)
    return read_checkpoint(path, ModelOptions())


@pytest.mark.parametrize("precision", [FP16, BF16])
def test_onnx_supernet_is_built_and_keeps_its_interface(
    precision: Precision, network: object, tmp_path: Path
) -> None:
    place = BuildFolder(tmp_path, network=network)
    manifest = Bundle.open(place.build(options=BuildOptions(precision=precision))).manifest
    assert [spec.dtype for spec in (*manifest.inputs, *manifest.outputs)] == ["float32"] * 2
    assert {graph.own_bytes for graph in manifest.graphs[1:]} == {0}
    tolerance = {FP16: 1e-2, BF16: 3e-2}[precision]
    assert {graph.verification.tolerance for graph in manifest.graphs} == {tolerance}
    assert place.left() == ["ckpt.pt", "ckpt.skipc", "front.json"]
    assert not list((tmp_path / "ckpt.skipc").glob("_*"))


def test_fp32_is_what_a_float32_network_has(network: object, tmp_path: Path) -> None:
    graphs = []
    for precision in (None, Precision.FP32):
        folder = tmp_path / str(precision)
        folder.mkdir()
        path = BuildFolder(folder, network=network).build(
            options=BuildOptions(precision=precision)
        )
        graphs.append((path / "full.onnx").read_bytes())
        assert Bundle.open(path).manifest.provenance.precision == "fp32"
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize(("precision", "other"), [(FP16, "bf16"), (BF16, "fp16")])
def test_build_over_the_tolerance_suggests_another_precision(
    precision: Precision, other: str, network: object, tmp_path: Path
) -> None:
    place = BuildFolder(tmp_path, network=network)
    with pytest.raises(NumericsError) as raised:
        place.build(options=BuildOptions(precision=precision, tolerance=1e-7))
    told = str(raised.value)
    assert "configuration 'full': its outputs differ from onnx supernet by" in told
    assert "more than the tolerance of 1e-07. The first tensor that differs is" in told
    assert f"It computes in {precision.value}: try --precision {other}" in told
    assert place.left() == ["ckpt.pt", "front.json"]


class Hot(torch.nn.Module):
    """In float16 the middle overflows, and one weight does not fit."""

    def __init__(self, factor: float, weight: float) -> None:
        super().__init__()
        self.work = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU())
        self.factor = factor
        self.weight = torch.nn.Parameter(torch.full((16,), weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.work(x)
        return (x.relu() * self.factor).relu() / self.factor + x / self.weight


def hot(factor: float, weight: float) -> TorchSupernet:
    torch.manual_seed(0)
    inputs = (TensorSpec("x", "float32", (1, 16)),)
    return TorchSupernet(Hot(factor, weight).eval(), inputs, (), None, "hot", {})


def test_activation_that_overflows_is_caught(tmp_path: Path) -> None:
    """ONNX Runtime's CPU alone would not see it."""
    place = BuildFolder(tmp_path, {"full": ()}, hot(60000.0, 1.0))
    with pytest.raises(NumericsError, match=r"differ from pytorch by .*try --precision bf16"):
        place.build(options=BuildOptions(precision=FP16))
    place.build(options=BuildOptions(precision=BF16))


def test_weight_that_overflows_is_reported_and_stays_float32(tmp_path: Path) -> None:
    from skipc.compiler.build import build_bundle

    place = BuildFolder(tmp_path, {"full": (), "fast": ("work",)}, hot(1.5, 1e6))
    notes: list[str] = []
    path = build_bundle(
        *(place.network, place.checkpoint, place.front, BuildOptions(precision=FP16)),
        note=notes.append,
    )
    assert notes == [
        "--precision fp16: 'weight' and what reads it stay float32: 1e+06 is beyond 6.55e+04."
    ]
    for name in ("full", "fast"):
        model = ir.load(path / f"{name}.onnx")
        assert model.graph.initializers["weight"].dtype == ir.DataType.FLOAT


def test_subnet_keeps_its_count_of_parameters() -> None:
    family = family_of(exported(NAME)[0])
    plain, half = (family.subnet({"precision": p}, "c") for p in (Precision.FP32, FP16))
    assert plain.parameters == half.parameters


def test_fp32_leaves_a_network_as_it_is() -> None:
    network = exported(NAME)[0]
    axis = PrecisionAxis()
    assert axis.apply(network, Precision.FP32, axis.offer(network)) is network

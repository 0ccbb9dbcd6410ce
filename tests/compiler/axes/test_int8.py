"""Families in int8: accuracy, sharing, the forms of targets, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx_ir as ir
import pytest

from skipc.compiler.axes.float_layers import FloatLayersAxis
from skipc.compiler.axes.precision import Precision, PrecisionAxis, quantized
from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.calibration import Calibration
from skipc.compiler.configurations import Configuration, Part
from skipc.compiler.errors import CompileError, NumericsError, SupernetError
from skipc.compiler.family import family_of
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.graph.int8_layers import layer_name, layers_of
from skipc.compiler.graph.passes.quantize_dynamic import QuantizeDynamicPass
from skipc.compiler.int8_parts import layer_noise, restored
from skipc.compiler.select.samples import Samples
from skipc.compiler.sensitivity import judge_of, keep_sensitive
from skipc.compiler.targets.cpu.finish import saturates
from skipc.compiler.targets.options import Int8Form
from skipc.compiler.verify.golden import draw_inputs, whole_number_bounds
from skipc.compiler.verify.onnx_reference import run_graph
from skipc.compiler.verify.verify import verify_network
from skipc.runtime.backends.host import host_key
from skipc.runtime.bundle.tensors import typical_sizes
from tests.zoo import exported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.compiler.family import Family
    from skipc.compiler.network import Network
    from skipc.compiler.verify.numerics import Case

NETWORKS = (
    *("torchvision-resnet", "squeeze-excite", "linknet", "resnet-any-batch"),
    *("bert-any-batch", "forms", "queries"),
)
HERE = Int8Form(seven_bits=saturates(host_key("onnxruntime", "")))
"""What this machine computes exactly."""
INTEGERS = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32)


def calibrated(name: str, form: Int8Form | None = None) -> tuple[Family, list[Case]]:
    """Returns a network of the zoo with random data to observe ranges on, and that data."""
    network, _ = exported(name)
    sizes = typical_sizes(network.dimensions)
    high = whole_number_bounds(network.model)
    cases = [draw_inputs(network.inputs, sizes, seed, high) for seed in range(6)]
    calibration = Calibration(tuple(cases), form or HERE)
    return family_of(replace(network, calibration=calibration)), cases


def in_int8(
    family: Family,
    skip: object = None,
    precision: Precision = Precision.INT8,
    floating: tuple[str, ...] = (),
) -> Network:
    choices: dict[str, object] = {PrecisionAxis.key: precision}
    if floating:
        choices[FloatLayersAxis.key] = floating
    if skip is not None:
        choices[SkipAxis.key] = skip
    return family.subnet(choices, "x").network


def weights(network: Network) -> dict[str, ir.TensorProtocol]:
    """Returns the tensors that are integers and no zero points."""
    return {
        name: value.const_value
        for name, value in network.model.graph.initializers.items()
        if value.const_value is not None
        and value.const_value.dtype in INTEGERS
        and not name.endswith("zero_point")
    }


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *((name, Precision.INT8) for name in NETWORKS),
        ("bert-any-batch", Precision.INT8_DYNAMIC),
    ],
)
def test_networks_are_verified_as_integers_and_simulated(
    name: str, precision: Precision
) -> None:
    family, cases = calibrated(name)
    network = in_int8(family, precision=precision)
    exact = network.exact
    assert exact is not None
    assert weights(network)
    verify_network("x", network.tolerating(0.03), cases[:2])
    assert total_macs(network.model.graph) == total_macs(exact.model.graph)
    whole = parameters(exact.model.graph)
    assert 0.95 * whole <= parameters(network.model.graph) <= 1.05 * whole


def test_a_fault_that_int8_would_hide_is_found_in_the_exact_network() -> None:
    family, cases = calibrated("torchvision-resnet")
    network = in_int8(family)
    assert network.exact is not None
    other = network.exact.model.clone()
    name, value = next(
        (n, v) for n, v in other.graph.initializers.items() if n.endswith("weight")
    )
    assert value.const_value is not None
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.02), name=name)
    verify_network("x", replace(network, model=other), cases[:1])
    with pytest.raises(NumericsError):
        verify_network("x", replace(network.exact, model=other), cases[:1])
    with pytest.raises(NumericsError, match="calibrate on data like what it will see"):
        verify_network("x", network.tolerating(1e-5), cases[:1])


def test_configurations_have_the_same_integer_kernels() -> None:
    family, _ = calibrated("torchvision-resnet")
    less = SkipAxis().read(["layer1.1"], family.offers[SkipAxis.key], "")
    full, fewer = weights(in_int8(family)), weights(in_int8(family, less))
    kernels = {n: t for n, t in fewer.items() if t.dtype == ir.DataType.INT8}
    assert len(kernels) >= 8
    assert all(tensor.tobytes() == full[name].tobytes() for name, tensor in kernels.items())


def test_a_target_may_want_signed_activations_and_seven_bits() -> None:
    family, cases = calibrated(
        "torchvision-resnet", Int8Form(unsigned=False, seven_bits=True, integer_bias=False)
    )
    network = in_int8(family)
    verify_network("x", network.tolerating(0.06), cases[:1])
    tensors = {n: v.const_value for n, v in network.model.graph.initializers.items()}
    kernels = weights(network).values()
    assert {tensor.dtype for tensor in kernels} == {ir.DataType.INT8}
    assert max(int(np.abs(tensor.numpy()).max()) for tensor in kernels) <= 64
    points = [t for n, t in tensors.items() if n.endswith("zero_point") and t is not None]
    assert {t.dtype for t in points} == {ir.DataType.INT8}
    assert not any(t.numpy().any() for t in points)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ({"architecture": "x86_64", "cpu_features": "avx avx2 fma"}, True),
        ({"architecture": "x86_64", "cpu_features": "avx2 avx512_vnni"}, False),
        ({"architecture": "x86_64", "cpu_features": "avx2 avx_vnni"}, False),
        ({"architecture": "aarch64", "cpu_features": "asimd asimddp"}, False),
    ],
)
def test_an_x86_without_vnni_saturates(host: dict[str, str], wanted: bool) -> None:
    assert saturates(host) is wanted


def test_without_data_and_in_an_old_opset_it_is_refused() -> None:
    family, _ = calibrated("torchvision-resnet")
    old = family.network.model.clone()
    old.graph.opset_imports[""] = 11
    quantised = in_int8(family).model
    for network, said in (
        (replace(family.network, model=quantised), "quantised already"),
        (replace(family.network, calibration=None), "--calibrate DATA"),
        (replace(family.network, calibration=Calibration((), Int8Form())), "no data"),
        (replace(family.network, model=old), "ONNX opset 11"),
    ):
        with pytest.raises(SupernetError, match=said):
            PrecisionAxis().apply(network, Precision.INT8, PrecisionAxis().offer(network))
    with pytest.raises(SupernetError, match=r"convolutions.*--precision int8 with"):
        in_int8(family, precision=Precision.INT8_DYNAMIC)


def test_what_is_named_stays_float32_with_what_reads_it_alone() -> None:
    family, cases = calibrated("torchvision-resnet")
    network, whole = in_int8(family, floating=("layer1.0.conv1", "layer2")), in_int8(family)
    assert network.exact is not None
    verify_network("x", network.tolerating(0.03), cases[:1])
    before = {name for name in network.exact.model.graph.initializers if "weight" in name}
    left = before & set(network.model.graph.initializers)
    named = {n for n in before if n.startswith(("layer1.0.conv1.", "layer2."))}
    assert len(named) >= 4
    assert left == {*named, "head.fc.weight"}
    # The Relu behind a layer in float32 is no step of the quantised graph.
    kinds = [sum(n.op_type == "Relu" for n in made.model.graph) for made in (network, whole)]
    assert kinds[0] > kinds[1]
    # What is measured to find such layers computes the same.
    exact = network.exact
    kept = quantized(exact, Precision.INT8, (), keep=True)
    again = restored(exact.model, kept, ("layer1.0.conv1", "layer2"))
    pair = [run_graph(model, cases[:1])[0] for model in (again, network.model)]
    for name, array in pair[0].items():
        np.testing.assert_array_equal(array, pair[1][name])


def test_activations_are_quantised_by_the_range_of_their_call() -> None:
    random = np.random.default_rng(0)
    first, last = (random.normal(size=size).astype(np.float32) for size in ((16, 8), (8, 4)))
    x = random.normal(size=(3, 16)).astype(np.float32) * 5
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 20]> agraph (float[3, 16] x) => (float[3, 4] y)'
        " <float[3, 8] m, float[3, 8] r> { m = MatMul(x, a) r = Relu(m) y = MatMul(r, b) }",
        [ir.tensor(first, name="a"), ir.tensor(last, name="b")],
    )
    for number, node in enumerate(model.graph):
        node.name = f"node{number}"
    made = QuantizeDynamicPass(HERE)(model).model
    (found,) = run_graph(made, [{"x": x}])
    # By ONNX's definition of DynamicQuantizeLinear, whose range always holds 0.
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = (high - low) / 255
    zero = np.rint(np.clip(-low / scale, 0, 255))
    integers = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    scales = np.abs(first).max(0) / (64 if HERE.seven_bits else 127)
    product = integers @ np.rint(first / scales) * (scale * scales)
    np.testing.assert_allclose(found["y"], np.maximum(product, 0) @ last, rtol=1e-4)
    assert "b" in made.graph.initializers  # what answers stays float32
    assert total_macs(made.graph) == total_macs(model.graph)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_DYNAMIC])
def test_the_noise_of_a_layer_is_that_of_a_network_with_it_alone_in_int8(
    precision: Precision,
) -> None:
    family, cases = calibrated("bert-any-batch")
    network = in_int8(family, precision=precision)
    exact = network.exact
    assert exact is not None
    layers = layers_of(exact.model.graph)
    node = next(n for n in layers if layer_name(n).endswith("output.dense"))
    (noise,) = layer_noise(exact.model, network.model, [node], cases[:1])
    others = tuple({layer_name(other) for other in layers} - {layer_name(node)})
    alone = in_int8(family, precision=precision, floating=others).model
    name = str(node.outputs[0].name)
    again = restored(exact.model, network.model, others)
    found, same, wanted = (_tensor(m, name, cases[0]) for m in (alone, again, exact.model))
    np.testing.assert_allclose(same, found, rtol=1e-5, atol=1e-6)
    expected = ((found - wanted) ** 2).sum() / (wanted**2).sum()
    assert noise == pytest.approx(expected, rel=1e-3)
    assert 1e-6 < noise < 1e-2


def _tensor(model: ir.Model, name: str, case: Case) -> NDArray[np.float32]:
    """Returns a tensor that a graph computes on its way."""
    copy = model.clone()
    value = next(v for node in copy.graph for v in node.outputs if v.name == name)
    copy.graph.outputs.append(value)
    found: NDArray[np.float32] = run_graph(copy, [case])[0][name]
    return found


def test_layers_stay_float32_until_int8_loses_little() -> None:
    family, cases = calibrated("torchvision-resnet")
    assert family.network.calibration is not None
    samples = Samples(
        {name: np.concatenate([case[name] for case in cases]) for name in cases[0]},
        np.zeros((6, 1), np.float32),  # no labels
    )
    calibration = replace(family.network.calibration, selection=samples)
    family = family_of(replace(family.network, calibration=calibration))
    one = Configuration("a", (Part("", {}, "a"),))

    def kept(max_drop: float) -> tuple[Configuration, list[str], str]:
        steps: list[str] = []
        notes: list[str] = []
        told = steps.append, notes.append
        (found,) = keep_sensitive([one], {"": family}, Precision.INT8, max_drop, *told)
        return found, steps, notes[0]

    whole, steps, note = kept(50)
    assert whole == one
    assert len(steps) == 1
    assert "no layer stays float32: int8 loses" in note
    lost = float(note.split("loses ")[1].split()[0])
    found, steps, note = kept(0.4 * lost)
    layers = cast("tuple[str, ...]", found.parts[0].choices["float32"])
    everything = {layer_name(node) for node in layers_of(family.network.model.graph)}
    assert 0 < len(layers) < len(everything) - 1
    assert len(steps) <= 1 + len(everything).bit_length() + 8
    assert re.search(r"layers stay float32 \(.*\): int8 loses .* without", note)
    network = in_int8(family, floating=layers)
    assert network.exact is not None
    name = network.outputs[0].name
    pairs = [run_graph(made.model, cases) for made in (network, network.exact)]
    cosines = [
        float((a[name] * b[name]).sum() / np.linalg.norm(a[name]) / np.linalg.norm(b[name]))
        for a, b in zip(*pairs, strict=True)
    ]
    assert 100 * (1 - np.mean(cosines)) <= 0.4 * lost + 1e-4
    with pytest.raises(CompileError, match="only with all layers in float32"):
        kept(0.0)


def test_labels_decide_where_they_fit() -> None:
    network = calibrated("torchvision-resnet")[0].network
    name = network.outputs[0].name
    exact = {name: np.eye(4, dtype=np.float32)}
    labels = judge_of(network, exact, Samples({}, np.array([0, 1, 2, 0])))
    assert labels.name == "accuracy"
    assert labels.points({name: exact[name][::-1]}) == 50
    other = judge_of(network, exact, Samples({}, np.array([0, 1, 2, 4])))
    assert other.name == "cosine to float32"
    turned = {name: exact[name] + np.diag([1.0, 0, 0], 1)}
    assert other.points(turned) == pytest.approx(25 * (1 - 0.5**0.5))

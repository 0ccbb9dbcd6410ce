"""Families in int8: accuracy, sharing, the forms of targets, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest

from skipc.compiler.axes.precision import Precision, PrecisionAxis
from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.calibration import Calibration
from skipc.compiler.errors import NumericsError, SupernetError
from skipc.compiler.family import family_of
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.targets.cpu.finish import saturates
from skipc.compiler.targets.options import Int8Form
from skipc.compiler.verify.golden import draw_inputs, whole_number_bounds
from skipc.compiler.verify.verify import verify_network
from tests.zoo import exported

if TYPE_CHECKING:
    from skipc.compiler.family import Family
    from skipc.compiler.network import Network
    from skipc.compiler.verify.numerics import Case

NETWORKS = (
    *("torchvision-resnet", "squeeze-excite", "linknet", "resnet-any-batch"),
    *("bert-any-batch", "forms", "queries"),
)
INTEGERS = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32)


def calibrated(name: str, form: Int8Form | None = None) -> tuple[Family, list[Case]]:
    """Returns a network of the zoo with random data to observe ranges on, and that data."""
    network, _ = exported(name)
    rows = 1 if network.batch is None else network.batch.typical
    high = whole_number_bounds(network.model)
    cases = [draw_inputs(network.inputs, rows, seed, high) for seed in range(6)]
    calibration = Calibration(tuple(cases), form or Int8Form())
    return family_of(replace(network, calibration=calibration)), cases


def in_int8(family: Family, skip: object = None) -> Network:
    choices: dict[str, object] = {PrecisionAxis.key: Precision.INT8}
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


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_verified_as_integers_and_simulated(name: str) -> None:
    family, cases = calibrated(name)
    network = in_int8(family)
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
        (replace(family.network, model=old), "ONNX opset 11"),
    ):
        with pytest.raises(SupernetError, match=said):
            PrecisionAxis().apply(network, Precision.INT8, PrecisionAxis().offer(network))

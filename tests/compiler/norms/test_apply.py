"""Norm statistics in a graph: what it computes is what PyTorch computes with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skipc.compiler.errors import FrontError, SupernetError
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.graph.passes.scale_norms import check_homogeneous
from skipc.compiler.norms.apply import Norms
from skipc.compiler.norms.statistics import FamilyNorms, NormMode
from skipc.compiler.verify.onnx_reference import OnnxReference
from skipc.compiler.verify.sessions import GraphRunner, Optimise
from tests.compiler.norms.norm_nets import (
    NORM_NETS,
    NOT_HOMOGENEOUS,
    export,
    random_norms,
    statistics_set,
)
from tests.zoo import assert_close

X = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)


def net(name):
    return export({**NORM_NETS, **NOT_HOMOGENEOUS}[name])


def applied(name, family, configuration="a"):
    _, graph = net(name)
    return Norms(graph, family).apply(graph, configuration).model


def run(subnet, folder):
    path = folder / "subnet.onnx"
    ir.save(subnet, path)
    (output,) = GraphRunner(path, Optimise.NOTHING).run({"x": X}).values()
    return output


def eager(name, family):
    module, _ = net(name)
    with statistics_set(module, family, family.configurations["a"]), torch.no_grad():
        return module(torch.from_numpy(X)).numpy()


def ops(model):
    return [node.op_type for node in model.graph]


def kernels(model):
    """Returns the bytes of every kernel by the name of its result."""
    return {
        node.outputs[0].name: node.inputs[1].const_value.tobytes()
        for node in model.graph
        if node.op_type in ("Conv", "Gemm")
    }


@pytest.mark.parametrize("name", NORM_NETS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_pushed_scalars_compute_what_pytorch_computes(tmp_path_factory, name, seed):
    family = random_norms(net(name)[1], seed, scaled=True)
    found = run(applied(name, family), tmp_path_factory.mktemp("graph"))
    assert_close(found, eager(name, family))


@pytest.mark.parametrize("name", NORM_NETS)
def test_full_statistics_compute_what_pytorch_computes(tmp_path, name):
    family = random_norms(net(name)[1], 3, scaled=False)
    assert_close(run(applied(name, family), tmp_path), eager(name, family))


@pytest.mark.parametrize("name", NORM_NETS)
def test_shared_statistics_compute_what_pytorch_computes(tmp_path, name):
    module, _ = net(name)
    with torch.no_grad():
        expected = module(torch.from_numpy(X)).numpy()
    subnet = applied(name, FamilyNorms(NormMode.SHARED))
    assert_close(run(subnet, tmp_path), expected)


@pytest.mark.parametrize("name", NORM_NETS)
@pytest.mark.parametrize("scaled", [True, False])
def test_both_references_take_the_statistics(name, scaled):
    _, graph = net(name)
    family = random_norms(graph, 5, scaled)
    own = family.configurations["a"]
    norms = {norm.output: own[norm.name] for norm in find_norms(graph.model)}
    expected = eager(name, family)
    for reference in (graph.reference, OnnxReference(graph.model)):
        (found,) = reference.with_norms(norms).run([{"x": X}])[0].values()
        assert_close(found, expected)


def test_kernels_are_the_same_bits_whatever_the_scalars():
    one, other = (random_norms(net("bottleneck")[1], seed, scaled=True) for seed in (1, 2))
    own = {
        name: replace(found, variance=one.base[name].variance)
        for name, found in other.configurations["a"].items()
    }
    other = FamilyNorms(other.mode, one.base, {"a": own})
    first, second = (kernels(applied("bottleneck", family)) for family in (one, other))
    assert first == second
    assert len(first) == 12


def test_kernels_are_the_same_bits_whatever_the_full_statistics():
    families = [random_norms(net("bottleneck")[1], seed, scaled=False) for seed in (1, 2)]
    first, second = (kernels(applied("bottleneck", family)) for family in families)
    assert first == second


def all_scaled_by(scale):
    """Returns statistics whose every norm has the same scalar."""
    family = random_norms(net("bottleneck")[1], 4, scaled=True)
    own = {
        name: replace(found, scale=scale) for name, found in family.configurations["a"].items()
    }
    return FamilyNorms(family.mode, family.base, {"a": own})


def test_one_multiplication_per_branch_and_projection():
    subnet = applied("bottleneck", all_scaled_by(1.5))
    # Three branches, the projection, and the stem, whose result a join reads.
    assert ops(subnet).count("Mul") == 5
    assert "BatchNormalization" not in ops(subnet)


def test_scalar_of_one_multiplies_nothing():
    subnet = applied("bottleneck", all_scaled_by(1.0))
    assert "Mul" not in ops(subnet)


def test_no_optimiser_folds_the_scalar_into_a_kernel(tmp_path):
    family = random_norms(net("bottleneck")[1], 4, scaled=True)
    subnet = applied("bottleneck", family)
    path = tmp_path / "subnet.onnx"
    ir.save(subnet, path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    optimized = ir.load(tmp_path / "optimized.onnx")
    assert ops(optimized).count("Mul") == ops(subnet).count("Mul")
    before = set(kernels(subnet).values())
    after = [
        n for n in optimized.graph if n.op_type in ("Conv", "FusedConv", "Gemm", "FusedGemm")
    ]
    assert {node.inputs[1].const_value.tobytes() for node in after} == before


@pytest.mark.parametrize("name", NOT_HOMOGENEOUS)
def test_activation_that_lets_no_scalar_through_is_refused(name):
    with pytest.raises(SupernetError, match=r"is not positively homogeneous.*--norm full"):
        check_homogeneous(net(name)[1].model)


@pytest.mark.parametrize("name", NORM_NETS)
def test_homogeneous_networks_are_accepted(name):
    check_homogeneous(net(name)[1].model)


def test_norm_without_a_kernel_before_it_does_not_fold():
    norms = {norm.name: norm.folds for norm in find_norms(net("pre-activation")[1].model)}
    assert norms["3.norm"] is False
    assert norms["3.first.1"] is True


def test_statistics_of_another_network_are_refused():
    family = random_norms(net("bottleneck")[1], 1, scaled=False)
    own = dict(family.configurations["a"])
    name = next(iter(own))
    own[name] = replace(own[name], mean=own[name].mean[:3])
    with pytest.raises(FrontError, match=r"has 16 channels, those for 'a' have 3\."):
        applied("bottleneck", FamilyNorms(family.mode, family.base, {"a": own}))
    del own[name]
    with pytest.raises(FrontError, match=f"none of the norm '{name}' for the configuration"):
        applied("bottleneck", FamilyNorms(family.mode, family.base, {"a": own}))

"""The evaluator against the reference: shared work changes nothing."""

from __future__ import annotations

import itertools
import random

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, shape_inference
from torch import nn

from skipc.compiler.axes.units import find_units
from skipc.compiler.family import family_of
from skipc.compiler.network import Network, Tolerance
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.select.evaluator import EvaluationSettings, Evaluator
from skipc.compiler.select.groups import Groups
from skipc.compiler.select.samples import Samples
from skipc.compiler.verify.golden import draw_inputs
from skipc.compiler.verify.onnx_reference import OnnxReference
from skipc.compiler.verify.sessions import GraphRunner
from skipc.runtime.bundle.tensors import TensorSpec
from tests.compiler.norms.norm_nets import NORM_NETS, export
from tests.zoo import NETS, WITH_UNITS, assert_close, exported, skipping

ROWS = 6
NORMS = ("bottleneck", "squeeze-excite", "pre-activation", "dense")


def samples_of(graph, high=None, rows=ROWS):
    sizes = [spec.shape[0] for spec in graph.inputs if isinstance(spec.shape[0], int)]
    per = max(sizes, default=1)
    count, sizes = -(-rows // per), {"N": 1}
    cases = [draw_inputs(graph.inputs, sizes, seed, high) for seed in range(count)]
    inputs = {name: np.concatenate([case[name] for case in cases]) for name in cases[0]}
    return Samples(inputs, np.zeros(len(next(iter(inputs.values())))))


def some(units, count=6, seed=0):
    rng = random.Random(seed)
    drawn = [tuple(int(rng.random() < 0.5) for _ in units) for _ in range(count)]
    ends = [(0,) * len(units), (1,) * len(units)]
    return list(dict.fromkeys([*drawn, *ends]))


def skipped(units, genes):
    return tuple(unit for unit, value in zip(units, genes, strict=True) if value)


@pytest.mark.parametrize("name", WITH_UNITS)
def test_outputs_are_the_references(name):
    graph, search = exported(name)
    samples = samples_of(graph, dict(NETS[name].high))
    evaluator = Evaluator(graph, search.units, samples, EvaluationSettings(rows=2))
    for genes, found in evaluator.outputs(some(search.units, count=2), samples):
        chunks = [
            {n: array[start : start + evaluator.rows] for n, array in samples.inputs.items()}
            for start in range(0, len(samples), evaluator.rows)
        ]
        expected = skipping(graph, skipped(search.units, genes)).reference.run(chunks)
        for output in found:
            assert_close(found[output], np.concatenate([one[output] for one in expected]))


@pytest.mark.parametrize("mode", NormMode)
@pytest.mark.parametrize("name", ["torchvision-resnet", "residual-in-residual"])
def test_sharing_and_forgetting_change_no_bit(name, mode):
    graph, search = exported(name)
    samples = samples_of(graph)
    batch = some(search.units)
    shared = Evaluator(graph, search.units, samples, EvaluationSettings(mode, rows=2))
    expected = dict(shared.outputs(batch, samples))
    for memory_bytes in (1, shared.peak_bytes // 2, 1 << 30):
        settings = EvaluationSettings(mode, rows=2, memory_bytes=memory_bytes)
        evaluator = Evaluator(graph, search.units, samples, settings)
        for genes in batch:
            ((_, found),) = evaluator.outputs([genes], samples)
            assert all(np.array_equal(found[k], expected[genes][k]) for k in found)


def test_memory_cap_is_kept_where_it_can_be():
    graph, search = exported("torchvision-resnet")
    samples = samples_of(graph, rows=32)
    everything = list(itertools.product((0, 1), repeat=len(search.units)))
    free = Evaluator(graph, search.units, samples, EvaluationSettings())
    expected = dict(free.outputs(everything, samples))
    cap_bytes = free.peak_bytes * 3 // 4
    capped = Evaluator(
        graph, search.units, samples, EvaluationSettings(memory_bytes=cap_bytes)
    )
    found = dict(capped.outputs(everything, samples))
    assert capped.peak_bytes <= cap_bytes
    assert all(
        np.array_equal(found[genes][k], expected[genes][k])
        for genes in found
        for k in found[genes]
    )


def test_exhaustive_walk_runs_few_units():
    module = nn.Sequential(*(Plain(4) for _ in range(9)))
    graph, units = exported_plain(module)
    samples = Samples({"input": np.ones((3, 4), np.float32)}, np.zeros(3))
    evaluator = Evaluator(graph, units, samples, EvaluationSettings())
    everything = list(itertools.product((0, 1), repeat=9))
    assert len(list(evaluator.outputs(everything, samples))) == 512
    naive = len(samples) * sum(not value for genes in everything for value in genes)
    assert evaluator.unit_rows / naive == pytest.approx(511 / 2304)


class Plain(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


def exported_plain(module):
    from skipc.compiler.read import TorchSupernet

    torch.manual_seed(0)
    spec = TensorSpec("input", "float32", (1, 4))
    graph = TorchSupernet(module.eval(), (spec,), (), None, "plain", {}).exported()
    return graph, find_units(graph.model).units


def test_stopping_early_leaves_it_usable():
    graph, search = exported("torchvision-resnet")
    samples = samples_of(graph)
    evaluator = Evaluator(graph, search.units, samples, EvaluationSettings())
    batch = some(search.units)
    walk = evaluator.outputs(batch, samples)
    first, _ = next(walk)
    walk.close()
    found = dict(evaluator.outputs(batch, samples))
    assert first in found
    assert found.keys() == set(batch)


@pytest.mark.parametrize("name", NORMS)
def test_full_statistics_are_those_that_pytorch_finds_layer_by_layer(name):
    module, graph = export(NORM_NETS[name])
    units = find_units(graph.model).units
    samples = samples_of(graph, rows=5)
    evaluator = Evaluator(graph, units, samples, EvaluationSettings(NormMode.FULL, rows=2))
    found = evaluator.statistics((0,) * len(units))
    expected = pytorch_statistics(module, samples.inputs["x"])
    assert found.keys() == expected.keys()
    for norm, (mean, variance) in expected.items():
        scale = float(np.sqrt(variance.mean())) + 1e-6
        assert np.abs(found[norm].mean - mean).max() < 1e-4 * scale
        assert np.abs(found[norm].variance - variance).max() < 1e-4 * scale**2


def pytorch_statistics(module, images):
    """Returns mean and biased variance of what every batch norm reads, each set in turn."""
    found = {}

    def set_statistics(name):
        def hook(norm, inputs):
            axes = [0, *range(2, inputs[0].ndim)]
            data = inputs[0].double()
            mean, variance = data.mean(axes), data.var(axes, unbiased=False)
            found[name] = mean.numpy(), variance.numpy()
            norm.running_mean, norm.running_var = mean.float(), variance.float()

        return hook

    kind = nn.modules.batchnorm._BatchNorm
    norms = {n: child for n, child in module.named_modules() if isinstance(child, kind)}
    before = {n: (norm.running_mean, norm.running_var) for n, norm in norms.items()}
    hooks = [norm.register_forward_pre_hook(set_statistics(n)) for n, norm in norms.items()]
    with torch.no_grad():
        module(torch.from_numpy(images))
    for hook in hooks:
        hook.remove()
    for name, (mean, variance) in before.items():
        norms[name].running_mean, norms[name].running_var = mean, variance
    return found


@pytest.mark.parametrize("mode", [NormMode.SCALAR, NormMode.FULL])
@pytest.mark.parametrize("name", NORMS)
def test_what_is_evaluated_is_what_is_built(tmp_path, name, mode):
    _, graph = export(NORM_NETS[name])
    search = find_units(graph.model)
    samples = samples_of(graph)
    family = family_of(graph)
    groups = Groups(family, samples, EvaluationSettings(mode, rows=3))
    batch = {f"c{i}": genes for i, genes in enumerate(some(search.units, 3))}
    found = dict(groups.outputs(list(batch.values()), samples))
    family = family.with_norms(
        groups.norms({name: {"skip": skipped(search.units, g)} for name, g in batch.items()})
    )
    for number, (configuration, genes) in enumerate(batch.items()):
        choices = {"skip": skipped(search.units, genes)}
        path = tmp_path / f"{number}.onnx"
        ir.save(family.subnet(choices, configuration).network.model, path)
        runner = GraphRunner(path)
        for row in range(len(samples)):
            case = {n: array[row : row + 1] for n, array in samples.inputs.items()}
            for output, array in runner.run(case).items():
                assert_close(array, found[genes][output][row : row + 1])


@pytest.mark.parametrize("name", NORMS)
def test_scalars_of_the_full_network_are_one(name):
    _, graph = export(NORM_NETS[name])
    units = find_units(graph.model).units
    samples = samples_of(graph)
    evaluator = Evaluator(graph, units, samples, EvaluationSettings(NormMode.SCALAR))
    scales = {s.scale for s in evaluator.statistics((0,) * len(units)).values()}
    assert scales <= {1.0, None}
    assert 1.0 in scales


def test_stream_that_starts_from_a_computed_constant_is_what_stays():
    rng = np.random.default_rng(0)
    tensors = {"p": rng.standard_normal((1, 4)), "w": rng.standard_normal((4, 4))}
    nodes = (
        ("Exp", "p", "start"),
        ("Mul", "x start", "m"),
        ("MatMul", "m w", "f"),
        ("Add", "start f", "a"),
        ("Mul", "x a", "y"),
    )
    proto = helper.make_graph(
        [helper.make_node(kind, reads.split(), [made]) for kind, reads, made in nodes],
        "g",
        *([helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])] for name in "xy"),
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in tensors.items()],
    )
    made = helper.make_model(proto, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    model = ir.from_proto(shape_inference.infer_shapes(made))
    spec = (TensorSpec("x", "float32", (1, 4)),)
    graph = Network(model, OnnxReference(model), spec, spec, (), "n", Tolerance(1e-4))
    x = rng.standard_normal((3, 4)).astype(np.float32)
    samples = Samples({"x": x}, np.zeros(3))
    evaluator = Evaluator(graph, find_units(model).units, samples, EvaluationSettings())
    found = dict(evaluator.outputs([(0,), (1,)], samples))
    assert_close(found[1,]["y"], x * np.exp(tensors["p"]).astype(np.float32))

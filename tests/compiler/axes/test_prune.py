"""Pruned graphs: what is gone, what stays, and that they compute the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skipc.compiler.axes.units import find_units
from skipc.compiler.graph.passes.drop_repeated_activations import DropRepeatedActivationsPass
from skipc.compiler.read import TorchSupernet
from skipc.compiler.verify.onnx_reference import OnnxReference
from skipc.compiler.verify.sessions import GraphRunner, Optimise
from tests.zoo import NETS, WITH_UNITS, assert_close, case_for, eager_outputs, exported, pruned
from tests.zoo.token_nets import TOKENS, MixerBlock, Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.axes.units import Unit

SMALL = tuple(name for name in WITH_UNITS if name != "bert-any-batch")

EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def configurations(draw: st.DrawFn) -> tuple[str, tuple[Unit, ...]]:
    """Draws a network and any subset of its units."""
    name = draw(st.sampled_from(SMALL))
    _, search = exported(name)
    return name, tuple(unit for unit in search.units if draw(st.booleans()))


def texts(model: onnx.ModelProto) -> set[str]:
    """Returns every text in a graph: names of nodes, values and tensors, and metadata."""
    graph = model.graph
    found = {node.name for node in graph.node}
    for node in graph.node:
        found |= {*node.input, *node.output, *(item.value for item in node.metadata_props)}
    found |= {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
    return found | {tensor.name for tensor in graph.initializer}


def check(name: str, skipped: tuple[Unit, ...], folder: Path) -> None:
    net = NETS[name]
    graph, _ = exported(name)
    subnet = pruned(graph.model, skipped)
    path = folder / "subnet.onnx"
    ir.save(subnet, path)
    onnx.checker.check_model(str(path), full_check=True)
    assert [v.name for v in subnet.graph.inputs] == [spec.name for spec in graph.inputs]
    assert [v.name for v in subnet.graph.outputs] == [spec.name for spec in graph.outputs]
    check_no_trace(name, skipped, onnx.load(path))

    case = case_for(net)
    found = GraphRunner(path, Optimise.NOTHING).run(case)
    optimised = GraphRunner(path).run(case)
    cuts = [cut for unit in skipped for cut in unit.cuts]
    zeroed = OnnxReference(graph.model).with_cuts(cuts).run([case])[0]
    for output, array in zeroed.items():
        np.testing.assert_array_equal(found[output], array)
    expected = eager_outputs(net, [unit.name for unit in skipped], case)
    for side in (found, optimised):
        for array, eager in zip(side.values(), expected, strict=True):
            assert_close(array, eager)


def check_no_trace(name: str, skipped: tuple[Unit, ...], model: onnx.ModelProto) -> None:
    """The branch's module left no name; weights that both calls of a module use may stay."""
    found = texts(model)
    for unit in skipped:
        for branch in NETS[name].units[unit.name].split("+"):
            if "@" in branch:
                continue
            assert not [text for text in found if f"{branch}." in f"{text}."]


@pytest.mark.parametrize("name", WITH_UNITS)
def test_subnet_without_any_unit_is_the_network_with_all_branches_zero(name, tmp_path):
    _, search = exported(name)
    check(name, search.units, tmp_path)


@pytest.mark.parametrize("name", NETS)
def test_subnet_with_every_unit_is_the_network(name, tmp_path):
    check(name, (), tmp_path)


@given(drawn=configurations())
@EXAMPLES
def test_subnet_is_the_network_with_some_branches_zero(drawn, tmp_path):
    check(*drawn, tmp_path)


@given(drawn=configurations(), data=st.data())
@EXAMPLES
def test_pruning_twice_is_pruning_the_union(drawn, data):
    name, first = drawn
    graph, search = exported(name)
    second = tuple(unit for unit in search.units if data.draw(st.booleans()))
    once = pruned(pruned(graph.model, first), second)
    union = tuple(unit for unit in search.units if unit in first or unit in second)
    assert structure(once) == structure(pruned(graph.model, union))


def structure(model: ir.Model) -> list[tuple[object, ...]]:
    """Returns the nodes with the names that they read and write."""
    return [
        (node.op_type, *(value and value.name for value in node.inputs), node.outputs[0].name)
        for node in model.graph
    ] + sorted(model.graph.initializers)


def test_supernet_is_not_changed_and_tensors_are_shared():
    graph, search = exported("torchvision-resnet")
    before = structure(graph.model)
    subnet = pruned(graph.model, search.units)
    assert structure(graph.model) == before
    kept = subnet.graph.initializers
    assert kept
    for name, value in kept.items():
        assert value.const_value is graph.model.graph.initializers[name].const_value


def test_projection_stays_when_its_branch_goes():
    graph, search = exported("torchvision-resnet")
    subnet = pruned(graph.model, search.units)
    convolutions = [node for node in subnet.graph if node.op_type == "Conv"]
    assert [node.inputs[1].name for node in convolutions] == [
        "stem.conv.weight",
        "layer2.0.downsample.0.weight",
    ]


@pytest.mark.parametrize(
    ("name", "activation", "left"),
    [("torchvision-resnet", "Relu", 2), ("squeeze-excite", "Clip", 1)],
)
def test_repeated_activation_goes(name, activation, left):
    graph, search = exported(name)
    subnet = pruned(graph.model, search.units)
    assert [node.op_type for node in subnet.graph].count(activation) == left


def activations(*nodes: tuple[str, tuple[float, ...]]) -> ir.Model:
    """Returns a chain of activations, each given with its further operands."""
    value = ir.val("x", ir.DataType.FLOAT, [4])
    graph = ir.Graph([value], [], nodes=[], opset_imports={"": 20}, name="chain")
    last: ir.Value = value
    for number, (op, operands) in enumerate(nodes):
        constants = [
            ir.Value(name=f"c{number}.{i}", const_value=ir.tensor(np.float32(operand)))
            for i, operand in enumerate(operands)
        ]
        for constant in constants:
            graph.register_initializer(constant)
        graph.append(ir.node(op, [last, *constants], name=f"n{number}"))
        last = graph[-1].outputs[0]
        last.name = f"v{number}"
    graph.append(ir.node("Identity", [last], name="end"))
    graph[-1].outputs[0].name = "y"
    graph.outputs.append(graph[-1].outputs[0])
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(
    ("first", "second", "goes"),
    [
        (("Relu", ()), ("Relu", ()), True),
        (("Abs", ()), ("Abs", ()), True),
        (("Clip", (0.0, 6.0)), ("Clip", (0.0, 6.0)), True),
        (("Clip", (0.0, 6.0)), ("Relu", ()), True),
        (("Clip", (-1.0, 6.0)), ("Relu", ()), False),
        (("Clip", (0.0, 6.0)), ("Clip", (0.0, 3.0)), False),
        (("Relu", ()), ("Clip", (0.0, 6.0)), False),
        (("Sigmoid", ()), ("Sigmoid", ()), False),
        (("Tanh", ()), ("Relu", ()), False),
    ],
)
def test_only_activations_that_repeat_the_one_before_go(first, second, goes):
    model = activations(first, second)
    DropRepeatedActivationsPass()(model)
    reads = model.graph[-1].inputs[0].name
    assert reads == ("v0" if goes else "v1")


def test_repeated_activation_stays_when_it_is_the_output():
    model = activations(("Relu", ()), ("Relu", ()))
    graph = model.graph
    graph.outputs[0] = graph[1].outputs[0]
    DropRepeatedActivationsPass()(model)
    assert graph.outputs[0].producer() is graph[1]


def test_tensor_that_several_modules_read_is_named_after_none_of_them(tmp_path):
    torch.manual_seed(0)
    # As created: the norms of all blocks are ones and zeros, and the exporter merges them.
    fresh = Tokens(MixerBlock(), MixerBlock()).eval()
    graph = TorchSupernet(fresh, TOKENS, (), None, "fresh", {}).exported()
    units = find_units(graph.model).units
    subnet = pruned(graph.model, units[:2])
    ir.save(subnet, tmp_path / "subnet.onnx")
    assert not [
        text for text in texts(onnx.load(tmp_path / "subnet.onnx")) if "blocks.0" in text
    ]
    assert [unit.name for unit in units[:2]] == [
        "blocks.0.over_tokens",
        "blocks.0.over_channels",
    ]

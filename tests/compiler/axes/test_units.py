"""Units are found in exported graphs, with names a reader recognises."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import onnx_ir as ir
import pytest
import torch

from skipc.compiler.axes.units import find_units
from skipc.compiler.errors import CompileError
from skipc.compiler.read import TorchSupernet
from skipc.compiler.select.pricing import Counter
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.build_folder import BuildFolder
from tests.zoo import NETS, exported, module_of, supernet


@pytest.mark.parametrize("name", NETS)
def test_units_are_the_expected_ones_in_network_order(name):
    _, search = exported(name)
    assert [unit.name for unit in search.units] == list(NETS[name].units)


@pytest.mark.parametrize("name", NETS)
def test_rejected_joins_say_why(name):
    _, search = exported(name)
    reasons = [rejected.reason for rejected in search.rejected]
    assert len(reasons) == len(NETS[name].rejected)
    for reason, fragment in zip(reasons, NETS[name].rejected, strict=True):
        assert fragment in reason


def test_totals_are_the_networks_parameters():
    _, search = exported("functional")
    counted = sum(p.numel() for p in module_of(NETS["functional"]).parameters())
    assert search.total_parameters == counted


def test_unit_parameters_and_macs_are_those_of_the_branch():
    _, search = exported("functional")
    # Two 3x3 convolutions of 8 to 8 channels with bias, on 16 x 16 positions.
    assert search.units[0].parameters == 2 * (8 * 8 * 9 + 8)
    assert search.units[0].macs == 2 * 8 * 8 * 9 * 16 * 16


def test_nested_unit_counts_what_lies_in_it():
    _, search = exported("residual-in-residual")
    inner, second, outer = search.units[:3]
    assert outer.parameters > inner.parameters + second.parameters
    assert outer.macs > inner.macs + second.macs


def test_recurrent_layers_have_multiplications():
    _, search = exported("forms")
    # Three gates of 16 from 16 inputs and 16 states, in 6 steps.
    assert search.units[-1].macs == 6 * 3 * 16 * (16 + 16)


def test_units_within_others_are_blocks_of_a_long_skip_or_details():
    _, search = exported("residual-in-residual")
    within = {unit.name: unit.within for unit in search.units}
    assert within == {"1.body.0": "1", "1.body.1": "1", "1": ""} | {
        "2.body.0": "2", "2.body.1": "2", "2": ""
    }  # fmt: skip
    assert not search.details
    small = [replace(unit, macs=1) if unit.within == "1" else unit for unit in search.units]
    assert replace(search, units=tuple(small)).details == {"1.body.0", "1.body.1"}


def test_tied_unit_alone_frees_no_parameters():
    _, search = exported("tied")
    assert [unit.parameters for unit in search.units] == [0, 0]
    assert all(unit.macs > 0 for unit in search.units)


@pytest.mark.parametrize("name", ["vit", "tied", "residual-in-residual"])
def test_names_are_unique_and_found_again_after_a_round_trip(name, tmp_path):
    graph, search = exported(name)
    ir.save(graph.model.clone(), tmp_path / "graph.onnx")
    again = find_units(ir.load(tmp_path / "graph.onnx"))
    assert again.units == search.units
    assert len({unit.name for unit in again.units}) == len(again.units)


def test_joins_without_modules_are_named_by_their_value():
    graph, search = exported("torchvision-resnet")
    model = graph.model.clone()
    for node in model.graph:
        node.metadata_props.clear()
        node.name = None
    found = find_units(model).units
    assert [unit.name for unit in found] == [unit.join for unit in search.units]
    assert [unit.macs for unit in found] == [unit.macs for unit in search.units]


def test_unknown_shape_is_a_reason():
    graph, search = exported("torchvision-resnet")
    model = graph.model.clone()
    for node in model.graph:
        if node.outputs[0].name == search.units[1].join:
            node.outputs[0].shape = None
    found = find_units(model)
    assert len(found.units) == len(search.units) - 1
    assert "a shape is unknown" in found.rejected[0].reason


def test_a_dynamic_batch_counts_as_one_image() -> None:
    """Attention reshapes by the batch: sizes that the graph computes must be counted, too."""

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = torch.nn.MultiheadAttention(32, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.mix(x, x, x, need_weights=False)[0]

    def macs(shape: tuple[int | str, ...], dimensions: tuple[Dimension, ...]) -> int:
        network = TorchSupernet(
            source=torch.nn.Sequential(Attention()).eval(),
            inputs=(TensorSpec("input", "float32", shape),),
            dimensions=dimensions,
            output=None,
            model="attention",
            survival={},
        )
        return find_units(network.exported().model).total_macs

    fixed = macs((1, 16, 32), ())
    assert macs(("N", 16, 32), (Dimension("N", 1, 2, 4),)) == fixed
    assert fixed == 16 * 32 * 96 + 2 * 2 * 16 * 16 * 16 + 16 * 32 * 32


class Beside(torch.nn.Module):
    """A branch whose other parts are set beside each other, and beside nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = torch.nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.wide(x))
        return torch.cat([x + y[:, :4], torch.cat([y[:, 6:], y[:, 4:6]], 1)], 1)


def test_parts_of_a_branch_with_nothing_beside_them_stay():
    inputs = (TensorSpec("x", "float32", (1, 4)),)
    network = TorchSupernet(Beside().eval(), inputs, (), None, "n", {}).exported()
    found = find_units(network.model)
    assert found.units == ()
    assert "the branch is read elsewhere" in found.rejected[0].reason


class TwoBranches(torch.nn.Module):
    """Two branches that are set beside each other, each with the rest of it."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = torch.nn.Linear(4, 8), torch.nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, z = torch.relu(self.left(x)), torch.relu(self.right(x))
        beside = torch.cat([y[:, 4:], z[:, 4:]], 1)
        return torch.cat([x + y[:, :4], x + z[:, :4], beside], 1)


def test_something_stays_of_what_two_branches_are_set_beside_in():
    inputs = (TensorSpec("x", "float32", (1, 4)),)
    network = TorchSupernet(TwoBranches().eval(), inputs, (), None, "n", {}).exported()
    found = find_units(network.model)
    assert [unit.name for unit in found.units] == ["left"]
    assert "the branch is read elsewhere" in found.rejected[-1].reason


def test_units_that_read_the_inputs_together_are_not_skipped_together(tmp_path):
    graph, search = exported("queries")
    counter = Counter(graph.model, search.units)
    read = {genes: counter.count(genes).reads for genes in product((0, 1), repeat=2)}
    assert read == {(0, 0): True, (0, 1): True, (1, 0): True, (1, 1): False}
    folder = BuildFolder(tmp_path, {"blind": ("cross.0", "cross.1")}, supernet("queries"))
    with pytest.raises(CompileError, match=r"'blind': its output 'output' is the same what"):
        folder.build()
    assert folder.left() == ["ckpt.pt", "front.json"]


def test_probabilities_are_no_attention_scores():
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1,4] x, float[4,4] w) => (float[1,4] y) <float[1,4] h, float[1,4] sum> {
        h = MatMul(x, w)
        sum = Add(x, h)
        p = Softmax(sum)
        q = Identity(p)
        y = Cast<to = 1>(q)
    }"""
    assert [unit.join for unit in find_units(ir.from_onnx_text(text)).units] == ["sum"]

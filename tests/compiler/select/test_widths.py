"""Widths while they are searched: masked once, they are what is built of them."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import onnx_ir as ir
import pytest
import torch
from torch import nn

from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.axes.width import WidthAxis, widths_of
from skipc.compiler.errors import SelectError
from skipc.compiler.family import family_of
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.read import TorchSupernet
from skipc.compiler.select.data import DataOptions
from skipc.compiler.select.evaluator import EvaluationSettings
from skipc.compiler.select.groups import Groups
from skipc.compiler.select.options import SelectOptions
from skipc.compiler.select.pricing import Counter
from skipc.compiler.select.problem import searched_space
from skipc.compiler.verify.sessions import GraphRunner
from skipc.runtime.bundle.tensors import TensorSpec
from tests.compiler.select.test_evaluator import samples_of
from tests.zoo.net import assert_close

if TYPE_CHECKING:
    from skipc.compiler.family import Family


class Block(nn.Module):
    """Two groups, one read by the other's layer; a gate reads the second one, too."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(8, 32, 1, bias=False), nn.BatchNorm2d(32))
        self.middle = nn.Sequential(nn.Conv2d(32, 16, 3, 1, 1), nn.BatchNorm2d(16))
        self.gate = nn.Linear(16, 16)
        self.last = nn.Sequential(nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.middle(torch.relu(self.reduce(x))))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]
        return torch.relu(x + self.last(y))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8))
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


@cache
def family() -> Family:
    torch.manual_seed(0)
    module = Net().eval()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    spec = (TensorSpec("x", "float32", (1, 3, 6, 6)),)
    made = family_of(TorchSupernet(module, spec, (), None, "net", {}).exported())
    return replace(made, searched=frozenset({"skip", "width"}))


def drawn(count: int) -> list[tuple[int, ...]]:
    rng, genes = random.Random(0), family().genes
    full = (0,) * len(genes)
    some = [tuple(rng.randrange(gene.values) for gene in genes) for _ in range(count)]
    return list(dict.fromkeys([full, *some]))


def test_groups_of_as_many_channels_are_one_decision() -> None:
    widths = [gene for gene in family().genes if gene.axis == "width"]
    assert [(gene.name, gene.values) for gene in widths] == [
        ("blocks.0.reduce.0:16", 2),
        ("blocks.0.middle.0:12/8", 3),
    ]
    choice = family().decoded((0, 0, 1, 2))["width"]
    assert WidthAxis().record(choice) == {
        "blocks.0.reduce.0": 16,
        "blocks.0.middle.0": 8,
        "blocks.1.reduce.0": 16,
        "blocks.1.middle.0": 8,
    }


def test_a_search_of_widths_alone_leaves_units_alone_and_says_what_it_decides() -> None:
    told: list[str] = []
    options = SelectOptions(DataOptions("digits"), axes=("width",))
    space = searched_space(family(), options, told.append)
    assert [space.genes[place].axis for place in space.free] == ["width", "width"]
    assert told == [
        "width: blocks.0.reduce.0 and 1 like it, 16 of 32 channels",
        "width: blocks.0.middle.0 and 1 like it, 12, 8 of 16 channels",
    ]


def test_an_axis_of_which_nothing_may_be_decided_is_refused() -> None:
    nothing = replace(widths_of(family()), groups=())
    without = replace(family(), offers={**family().offers, "width": nothing})
    options = SelectOptions(DataOptions("digits"), axes=("skip", "width"))
    with pytest.raises(SelectError, match="offers nothing to decide for 'width'"):
        searched_space(without, options, lambda line: None)


@pytest.mark.parametrize("mode", NormMode)
def test_what_is_evaluated_is_what_is_built(tmp_path, mode) -> None:
    samples = samples_of(family().network)
    groups = Groups(family(), samples, EvaluationSettings(mode, rows=3))
    batch = {f"c{number}": genes for number, genes in enumerate(drawn(5))}
    found = dict(groups.outputs(list(batch.values()), samples))
    choices = {name: family().decoded(genes) for name, genes in batch.items()}
    # One network: nothing is cut and loaded for each width.
    assert len({id(groups.evaluator(choice)) for choice in choices.values()}) == 1
    made = family().with_norms(groups.norms(choices))
    for name, genes in batch.items():
        network = made.subnet(choices[name], name).network
        path = tmp_path / f"{name}.onnx"
        ir.save(network.model, path)
        for row in range(len(samples)):
            case = {"x": samples.inputs["x"][row : row + 1]}
            (array,) = GraphRunner(path).run(case).values()
            (evaluated,) = found[genes].values()
            assert_close(array, evaluated[row : row + 1])


def test_counts_are_those_of_the_narrow_graph() -> None:
    units = family().offers[SkipAxis.key].units
    counter = Counter(family().network.model, units, widths_of(family()).groups)
    for genes in drawn(6):
        choices = family().decoded(genes)
        graph = family().structure(choices).model.graph
        counted = counter.count(genes[: len(units)], choices.get("width", ()))
        assert counted.macs == total_macs(graph)
        assert counted.parameters == parameters(graph)
        assert len(counted.shares.units) == (len(units) if "width" in choices else 0)

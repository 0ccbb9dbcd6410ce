"""Selection over an axis that it does not know, whose gene has three values."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import onnx_ir as ir
import pytest
import torch
from torch import nn

from skipc.compiler import axes
from skipc.compiler.axes.axis import Axis, Gene, Offer
from skipc.compiler.configurations import configurations_from_front
from skipc.compiler.family import open_family
from skipc.compiler.front import read_front
from skipc.compiler.norms.of_front import norms_of_front
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.read import ModelOptions
from skipc.compiler.select.archive import Archive
from skipc.compiler.select.data import DataOptions
from skipc.compiler.select.labels import warn_of_labels
from skipc.compiler.select.options import Constraints, CostKind, SelectOptions
from skipc.compiler.select.pareto import ReferencePoint
from skipc.compiler.select.pricing import Prices, price
from skipc.compiler.select.problem import Problem, open_problem
from skipc.compiler.select.searches import find_search, search_names
from skipc.compiler.select.selecting import Given, select
from skipc.compiler.select.writing import write_selection
from skipc.compiler.verify.sessions import GraphRunner
from skipc.profiles import LatencyTable, load_profile
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.exports import ExportedOnce

if TYPE_CHECKING:
    from pathlib import Path


class Biases(Offer):
    """The axis leaves the network alone, or drops its last one or two biases."""


class DropBiases(Axis[int, Biases]):
    """Drops the biases of the last layers; selection never asks the reference."""

    key = "biases"

    def offer(self, network):
        return Biases()

    def read(self, record, offer, where):
        return len(record)

    def apply(self, network, choice, offer):
        model = network.model.clone()
        layers = [node for node in model.graph if node.op_type == "Gemm"]
        for layer in layers[-choice:]:
            layer.replace_input_with(2, None)
        return replace(network, model=model)

    def genes(self, offer):
        return (Gene(self.key, "biases", 3),)

    def decode(self, genes, offer):
        return genes[0]

    def taken(self, choice):
        return ("last", "second last")[:choice]

    def text(self, choice):
        return f"{choice} dropped"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.norm(self.conv(x)))


class Net(nn.Sequential):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images)


@cache
def net() -> nn.Module:
    torch.manual_seed(0)
    layers = OrderedDict(
        stem=nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        blocks=nn.Sequential(*(Block() for _ in range(3))),
        pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        head=nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 10)),
    )
    return Net(layers).eval()


class Silent:
    def __call__(self, text):
        pass

    def note(self, text):
        pass

    def advance(self, done, total, text=""):
        pass


AXES = axes.AXES
SUPERNET = (TensorSpec("images", "float32", ("N", 1, 8, 8)),), (Dimension("N", 1, 2, 90),)


@contextmanager
def second_axis(place):
    """Lets the axis be one of the program's, its gene ``behind`` or ``before`` the units'."""
    skip, *others = AXES
    pair = {"behind": (skip, DropBiases()), "before": (DropBiases(), skip)}[place]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axes, "AXES", (*pair, *others))
        yield


@dataclass
class Opened:
    supernet: ExportedOnce
    checkpoint: Path
    options: SelectOptions
    problem: Problem


def opened(folder, norm):
    checkpoint = folder / "net.pt"
    torch.save(net().state_dict(), checkpoint)
    inputs, batch = SUPERNET
    supernet = ExportedOnce(net(), inputs, batch, None, "net", {})
    options = SelectOptions(
        DataOptions("digits", samples=90),
        target="jetson-orin",  # which this host cannot measure, so that it takes no time
        constraints=Constraints(size=30),
        axes=("skip", "biases"),
        cost=CostKind.PARAMETERS,
        norm=norm,
        search="exhaustive",
        cache=folder / "cache",
    )
    return Opened(supernet, checkpoint, options,
                  open_problem(supernet, checkpoint, options, Silent()))  # fmt: skip


@pytest.fixture(scope="module", params=["behind", "before"])
def plain(request, tmp_path_factory):
    with second_axis(request.param):
        yield opened(tmp_path_factory.mktemp("plain"), NormMode.SHARED)


class Told(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_labels_are_compared_with_what_the_full_network_answers(plain):
    problem, told = plain.problem, Told()
    parts = problem.data.parts
    ((_, outputs),) = problem.groups.outputs([problem.space.full], parts.selection)
    (logits,) = outputs.values()
    assert logits.shape == (len(parts.selection), 10)
    for shift in (0, 1):
        labels = (logits.argmax(1) - shift) % 10
        given = replace(parts, selection=replace(parts.selection, targets=labels))
        data = replace(problem.data, parts=given)
        warn_of_labels(replace(problem, data=data), plain.checkpoint, told)
    own, shifted = told.notes
    assert "right on 100.0 %" in own
    assert "it answers" not in own
    assert shifted.startswith(
        "warning: on the selection part the full network is right on 0.0"
    )
    answer = logits.argmax(1)[0]
    assert f"it answers {answer} where the label is {(answer - 1) % 10}" in shifted


@pytest.mark.parametrize("search", search_names())
def test_every_search_decides_it_beside_the_units(plain, search):
    problem = plain.problem
    space, samples = problem.space, problem.data.parts.selection
    prices = price(problem, plain.options, Silent())
    reference = ReferencePoint(prices.cost(space.full), 0.0)
    archive = Archive(lambda batch: problem.scores(batch, samples), prices.cost, reference, 60)
    find_search(search)(space, archive, 0)
    (place,) = (g for g, gene in enumerate(space.genes) if gene.axis == "biases")
    assert {genes[place] for genes in archive.candidates} == {0, 1, 2}
    assert any(genes[place] and any(space.skipped(genes)) for genes in archive.candidates)
    if search == "exhaustive":
        assert len(archive.candidates) == 3 * 2**3


@pytest.mark.parametrize(("norm", "place"), [("scalar", "behind"), ("full", "before")])
def test_what_is_scored_is_what_the_front_builds(tmp_path, norm, place):
    with second_axis(place):
        given = opened(tmp_path, NormMode(norm))
        one = Given(given.supernet, given.checkpoint, ModelOptions())
        found = select({"": one}, given.options, Silent())
        (searched,) = found.networks.values()
        path = tmp_path / "front.json"
        first, second = (write_selection(path, found, given.options) for _ in range(2))
        # The front that is there keeps its statistics until the rename that exchanges it.
        assert first == (path, tmp_path / "front.norms.npz")
        assert second == (path, tmp_path / "front.norms-2.npz")
        assert not first[1].exists()
        front = read_front(path)
        norms = norms_of_front(path, front.of(""), given.checkpoint)
        family = open_family(given.supernet).with_norms(norms)
        built = configurations_from_front(front, {"": family.offers}, "the front")
        entries = front.configurations
        assert any("biases" in entry.choices for entry in entries)
        assert all(("biases" in e.name) == ("biases" in e.choices) for e in entries)
        report = searched.problem.data.parts.report
        for one, chosen in zip(built, searched.chosen, strict=True):
            subnet = family.subnet(one.parts[0].choices, one.name)
            assert subnet.parameters == chosen.parameters
            graph = tmp_path / "subnet.onnx"
            ir.save(subnet.network.model, graph)
            logits = next(iter(GraphRunner(graph).run(report.inputs).values()))
            score = float((logits.argmax(1) == report.targets).mean())
            assert score == pytest.approx(chosen.score, abs=1.1 / len(report))
        # Scalars are relative to the full network in every group: kernels are shared.
        assert norms.base.keys() == norms.configurations["full"].keys()


def test_latency_of_a_profile_is_in_proportion_to_the_macs_of_the_group(plain):
    table = LatencyTable(1.0, {f"blocks.{i}": 0.5 for i in range(3)})
    profile = replace(load_profile("cpu"), latency=table)
    prices = Prices(
        CostKind.LATENCY, plain.problem, profile, 1, Silent(), measures=False, predicts=True
    )
    space = plain.problem.space
    assert prices.predicted_ms(space.full) == 2.5
    assert prices.predicted_ms(space.taking([(space.units[0], 1)])) == 2.0
    # A bias costs no MACs.
    assert (
        prices.predicted_ms(space.taking((g, 2 - (g in space.units)) for g in space.free))
        == 1.0
    )

"""An axis that the program does not know: added to ``AXES``, it is built, searched and shown.

Nothing but the tuple is changed. This is what "an axis is one file" means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
import pytest
import torch

from skipc.compiler import axes
from skipc.compiler.axes.axis import Axis, Gene, Offer
from skipc.compiler.front import read_front
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from tests.command_line import skipc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.network import Network, Reference
    from skipc.compiler.norms.statistics import NetworkNorms
    from skipc.compiler.verify.numerics import Case


class Bias(NamedTuple):
    name: str
    parameters: int
    macs: int = 0


@dataclass(frozen=True)
class BiasOffer(Offer):
    """The bias of the last layer."""

    node: str
    bias: NDArray[Any]

    @property
    def options(self) -> Sequence[Bias]:
        return (Bias("last", self.bias.size),)


@dataclass(frozen=True)
class WithoutBias:
    """What another reference returns, less the bias: by other means than the graph."""

    inner: Reference
    bias: NDArray[Any]
    name: str = "pytorch"

    def run(self, cases: Sequence[Case]) -> list[Case]:
        return [
            {name: array - self.bias for name, array in outputs.items()}
            for outputs in self.inner.run(cases)
        ]

    def trace(self, inputs: Case) -> Any:
        return self.inner.trace(inputs)

    def with_norms(self, norms: NetworkNorms) -> WithoutBias:
        return replace(self, inner=self.inner.with_norms(norms))


class LastBias(Axis[bool, BiasOffer]):
    """Drops the bias of the network's last layer."""

    key = "drop-bias"
    after_norms = False

    def offer(self, network: Network) -> BiasOffer:
        node = network.model.graph.outputs[0].producer()
        assert node is not None
        assert node.op_type == "Gemm"
        assert node.inputs[2] is not None
        assert node.inputs[2].const_value is not None
        return BiasOffer(str(node.outputs[0].name), node.inputs[2].const_value.numpy())

    def read(self, record: object, offer: BiasOffer, where: str) -> bool:
        return bool(record)

    def record(self, choice: bool) -> object:
        return choice

    def apply(self, network: Network, choice: bool, offer: BiasOffer) -> Network:
        if not choice:
            return network
        model = network.model.clone()
        node = next(n for n in model.graph if n.outputs[0].name == offer.node)
        node.resize_inputs(2)
        common.RemoveUnusedNodesPass()(model)
        reference = WithoutBias(network.reference, offer.bias)
        return replace(network, model=model, reference=reference)  # type: ignore[arg-type]

    def genes(self, offer: BiasOffer) -> tuple[Gene, ...]:
        return (Gene(self.key, "last", 2),)

    def decode(self, genes: Genes, offer: BiasOffer) -> bool:
        return bool(genes[0])

    def taken(self, choice: bool) -> tuple[str, ...]:
        return ("last",) if choice else ()

    def text(self, choice: bool) -> str:
        return "no bias" if choice else "with bias"


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    resolution, exits, skip, *others = axes.AXES
    monkeypatch.setattr(axes, "AXES", (resolution, exits, skip, LastBias(), *others))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "ckpt.pt"
    recipe = find_recipe("resnet")
    arguments = {"widths": [4, 8, 8], "depths": [1, 2, 1]}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = recipe.load()(**arguments)
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
    save_checkpoint(
        path, CheckpointFile("skipc:resnet", arguments, network.state_dict(), recipe.inputs)
    )
    return path


FRONT = """{"format": "skipc.front/2", "configurations": [
  {"name": "full"},
  {"name": "plain", "drop-bias": true},
  {"name": "both", "skip": ["stages.1.1"], "drop-bias": true}]}"""


def test_units_lists_what_the_axis_offers(checkpoint: Path) -> None:
    ended = skipc("units", checkpoint)
    assert ended.code == 0, ended.err
    assert "drop-bias" in ended.out
    listed = skipc("units", checkpoint, "--json").json()["axes"]["drop-bias"]
    assert listed == [{"name": "last", "parameters": 10, "macs": 0}]


def test_family_is_built_verified_run_and_shown(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "front.json").write_text(FRONT)
    out = tmp_path / "b.skipc"
    ended = skipc(
        *("build", checkpoint, "--front", tmp_path / "front.json"),
        *("--target", "cpu", "--out", out),
    )
    assert ended.code == 0, ended.err
    manifest = Bundle.open(out).manifest
    assert manifest.options("drop-bias")[0].name == "last"
    both = manifest.configuration("both")
    assert (both.taken("skip"), both.taken("drop-bias")) == (("stages.1.1",), ("last",))
    full, plain = manifest.graph("full"), manifest.graph("plain")
    assert full.parameters - plain.parameters == 10
    bias = axes.AXES[3].offer(_network(checkpoint)).bias
    with AdaptiveEngine.open(out, threads=1) as engine:
        case = Bundle.open(out).golden_inputs()[0]["images"]
        engine.pin("full")
        with_bias = engine(case)
        engine.pin("plain")
        np.testing.assert_allclose(engine(case), with_bias - bias, atol=1e-5)
    shown = skipc("show", out)
    assert "no bias" in shown.out
    assert skipc("check", out).code == 0
    page = tmp_path / "report.html"
    reported = skipc("report", out, "--out", page)
    assert reported.code == 0, reported.err
    assert "no bias" in page.read_text()


@cache
def _network(checkpoint: Path) -> Network:
    from skipc.compiler.read import ModelOptions
    from skipc.compiler.read.cached import open_checkpoint
    from skipc.compiler.read.export_cache import ExportCache, default_folder

    cache = ExportCache(default_folder(), print)  # the commands have exported it
    return open_checkpoint(checkpoint, ModelOptions(), cache, print).exported()


def test_choice_of_the_axis_is_written_into_the_graph(checkpoint: Path) -> None:
    network = _network(checkpoint)
    axis = LastBias()
    changed = axis.apply(network, True, axis.offer(network))
    (output,) = changed.model.graph.outputs
    node = output.producer()
    assert isinstance(node, ir.Node)
    assert len(node.inputs) == 2


def test_selection_decides_beside_units(checkpoint: Path, tmp_path: Path) -> None:
    front = tmp_path / "front.json"
    ended = skipc(
        *("select", checkpoint, "--data", "digits", "--samples", 120, "--cost", "parameters"),
        *("--axes", "skip,drop-bias"),
        *(
            "--evaluations",
            16,
            "--norm",
            "shared",
            "--cache",
            tmp_path / "scores",
            "--out",
            front,
        ),
    )
    assert ended.code == 0, ended.err
    found = read_front(front)
    assert found.options["drop-bias"] == ("last",)
    chosen = {entry.choices.get("drop-bias") for entry in found.configurations}
    # The untrained network answers nothing better with its bias; what it saves is taken.
    assert True in chosen

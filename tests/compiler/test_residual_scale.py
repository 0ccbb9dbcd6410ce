"""``--residual-scale``: kept branches against a hand-written stochastic-depth network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from skipc.compiler.axes.units import find_units
from skipc.compiler.errors import UnitError
from skipc.compiler.read import TorchSupernet
from skipc.compiler.residual_scale import ResidualScale, Scaling, scale_branches, scaled
from skipc.compiler.verify.sessions import GraphRunner
from skipc.compiler.verify.torch_reference import TorchReference
from skipc.runtime.bundle.tensors import TensorSpec
from tests.exports import ExportedOnce
from tests.zoo import assert_close, exported, skipping

INPUTS = (TensorSpec("x", "float32", (1, 8)),)
X = np.random.default_rng(0).standard_normal((1, 8)).astype(np.float32)
SURVIVAL = {"blocks.0": 0.9, "blocks.1": 0.5, "blocks.2": 1.0}


class Block(nn.Module):
    """A residual block that may be written either way round."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.work = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
        self.turned = turned

    def forward(self, x):
        return self.work(x) + x if self.turned else x + self.work(x)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(False), Block(True), Block(False)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Network().eval()


def original(network, skipped=()):
    """Huang et al., section 3: at test time H = x + p * f(x)."""
    x = torch.from_numpy(X)
    with torch.no_grad():
        for index, block in enumerate(network.blocks):
            name = f"blocks.{index}"
            if name not in skipped:
                x = x + SURVIVAL[name] * block.work(x)
    return x.numpy()


def opened(network, scaling, survival=None):
    supernet = ExportedOnce(network, INPUTS, (), None, "network", survival or {})
    graph = scaled(supernet.exported(), scaling)
    return graph, find_units(graph.model)


def run(model, folder):
    import onnx_ir as ir

    ir.save(model, folder / "graph.onnx")
    return GraphRunner(folder / "graph.onnx").run({"x": X})["output"]


@pytest.mark.parametrize("skipped", [(), ("blocks.1",), ("blocks.0", "blocks.2")])
@pytest.mark.parametrize("given", ["options", "modules"])
def test_original_scales_kept_branches_by_their_survival(network, skipped, given, tmp_path):
    modules = {f"{name}.drop": p for name, p in SURVIVAL.items()} if given == "modules" else {}
    scaling = Scaling(ResidualScale.ORIGINAL, {} if modules else SURVIVAL)
    graph, search = opened(network, scaling, modules)
    units = tuple(unit for unit in search.units if unit.name in skipped)
    expected = original(network, skipped)
    subnet = skipping(graph, units)
    assert_close(run(subnet.model, tmp_path), expected)
    assert isinstance(subnet.reference, TorchReference)
    assert_close(subnet.reference.run([{"x": X}])[0]["output"], expected)


def test_inverted_leaves_kept_branches_alone(network, tmp_path):
    graph, _ = opened(network, Scaling(), {"blocks.1.drop": 0.5})
    with torch.no_grad():
        expected = network(torch.from_numpy(X)).numpy()
    assert_close(run(graph.model.clone(), tmp_path), expected)


def test_branch_that_always_survives_is_not_multiplied(network):
    graph, _ = opened(network, Scaling(ResidualScale.ORIGINAL, SURVIVAL))
    assert [node.op_type for node in graph.model.graph].count("Mul") == 2


@pytest.mark.parametrize(
    ("survival", "fragment"),
    [
        ({"blocks.0": 0.9}, r"unit 'blocks.1': its survival probability is unknown"),
        ({**SURVIVAL, "blocks.7": 0.9}, "--survival 'blocks.7': no such unit. Did you mean"),
        ({**SURVIVAL, "blocks.1": 0.0}, r"--survival blocks.1=0: .* above 0 and at most 1"),
        ({**SURVIVAL, "blocks.1": 1.5}, r"--survival blocks.1=1.5: .* above 0 and at most 1"),
        ({**SURVIVAL, "blocks.1": float("nan")}, "above 0 and at most 1"),
    ],
)
def test_survival_that_does_not_fit_is_refused(network, survival, fragment):
    with pytest.raises(UnitError, match=fragment):
        opened(network, Scaling(ResidualScale.ORIGINAL, survival))


def test_survival_of_a_module_holds_for_all_its_units(network):
    graph, _ = opened(network, Scaling(ResidualScale.ORIGINAL, {"blocks": 0.5}))
    assert [node.op_type for node in graph.model.graph].count("Mul") == 3


def test_survival_without_original_is_refused(network):
    supernet = TorchSupernet(network, INPUTS, (), None, "network", {})
    with pytest.raises(UnitError, match="no effect without --residual-scale original"):
        Scaling(survival=SURVIVAL).check(supernet)


def test_branch_whose_parts_are_set_beside_the_stream_is_not_scaled():
    graph, search = exported("wide-branch")
    with pytest.raises(UnitError, match="'work': its branch is wider"):
        scale_branches(graph, search.units, {"work": 0.9})

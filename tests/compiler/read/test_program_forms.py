"""Operators that a program has in other forms are rewritten; what they compute is the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from skipc.compiler.axes.units import units_of_network
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.norms.statistics import NormStatistics
from skipc.compiler.read import TorchSupernet
from skipc.compiler.verify.sessions import GraphRunner
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.zoo import assert_close


class Normed(nn.Module):
    """An instance norm that keeps statistics, and a join that is a matrix product as well."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm1d(4, affine=True, track_running_stats=True)
        self.work, self.mix = nn.Linear(12, 12), nn.Parameter(torch.rand(12, 12))
        self.bias, self.head = nn.Parameter(torch.rand(3)), nn.Parameter(torch.rand(12, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x).flatten(1)
        x = torch.addmm(x, torch.relu(self.work(x)), self.mix, beta=0.5, alpha=2)
        return torch.addmm(self.bias, x, self.head)


def test_statistics_of_an_instance_norm_are_a_batch_norms_and_addmm_is_a_join(tmp_path):
    torch.manual_seed(0)
    module = Normed().eval()
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 4, 3)
    with torch.no_grad():
        expected = module(x).numpy()
    shape = TensorSpec("x", "float32", ("N", 4, 3))
    network = TorchSupernet(
        module, (shape,), (Dimension("N", 1, 2, 4),), None, "normed", {}
    ).exported()
    assert [unit.name for unit in units_of_network(network).units] == ["work"]
    assert [node.op_type for node in network.model.graph].count("Gemm") == 2

    ir.save(network.model, tmp_path / "graph.onnx")
    case = {"x": x.numpy()}
    (found,) = GraphRunner(tmp_path / "graph.onnx").run(case).values()
    (reference,) = network.reference.run([case])[0].values()
    assert_close(found, expected)
    assert_close(reference, expected)

    (norm,) = find_norms(network.model)
    assert norm.name == "norm"
    other = NormStatistics(np.ones(4, np.float32), np.ones(4, np.float32))
    changed = network.reference.with_norms({norm.output: other})
    assert np.abs(next(iter(changed.run([case])[0].values())) - expected).max() > 1e-3


class Counting(nn.Module):
    """Counts how many of two numbers are above zero."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        votes = torch.stack([x > 0, x > 1])
        return votes.sum(0), votes.float().sum(None)


def test_sum_of_truth_values_counts_them():
    x = torch.tensor([[-1.0, 0.5, 2.0]])
    network = TorchSupernet(
        Counting(), (TensorSpec("x", "float32", (1, 3)),), (), None, "n", {}
    ).exported()
    votes, total = network.reference.run([{"x": x.numpy()}])[0].values()
    assert votes.dtype == np.int64
    assert (votes.tolist(), float(total)) == ([[0, 1, 2]], 3)

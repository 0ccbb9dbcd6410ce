"""The supernet with a dynamic batch: the same network, or the one that was given."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from skipc.compiler.axes.units import find_units
from skipc.compiler.graph.batch_norms import find_norms
from skipc.compiler.read import TorchSupernet
from skipc.compiler.select.batched import batched_graph
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.zoo import NETS, assert_close, case_for, exported, supernet
from tests.zoo.net import module_of


def refuse(note: str) -> None:
    raise AssertionError(note)


class MixesRows(nn.Module):
    """Subtracts the mean of all rows: nothing for one row, something for several."""

    def __init__(self) -> None:
        super().__init__()
        self.work = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + torch.relu(self.work(x))
        return x - 0.5 * x.mean(0, keepdim=True)


class FixedRows(nn.Module):
    """Reshapes to the batch that it was written for."""

    def __init__(self) -> None:
        super().__init__()
        self.work = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + torch.relu(self.work(x))).reshape(1, 4)


def of(module: nn.Module, shape: tuple[int, ...]) -> TorchSupernet:
    torch.manual_seed(0)
    inputs = (TensorSpec("x", "float32", shape),)
    return TorchSupernet(module.eval(), inputs, (), None, "net", {})


def noted(given: TorchSupernet) -> str:
    """Returns the one note with which the graph that was given came back."""
    notes: list[str] = []
    graph = given.exported()
    assert batched_graph(given, graph, 8, notes.append) is graph
    (note,) = notes
    assert "makes evaluation slow" in note
    return note


def test_batched_graph_is_the_network_row_by_row():
    name = "torchvision-resnet"
    graph, search = exported(name)
    batched = batched_graph(supernet(name), graph, 16, refuse)
    assert batched.dimensions == (Dimension("N", 1, 16, 16),)
    assert [spec.shape[0] for spec in (*batched.inputs, *batched.outputs)] == ["N", "N"]
    names = [unit.name for unit in find_units(batched.model).units]
    assert names == [unit.name for unit in search.units]
    assert [n.name for n in find_norms(batched.model)] == [
        n.name for n in find_norms(graph.model)
    ]
    rows = [case_for(NETS[name], seed) for seed in range(5)]
    together = {"x": np.concatenate([row["x"] for row in rows])}
    (found,) = batched.reference.run([together])
    with torch.no_grad():
        expected = module_of(NETS[name])(torch.from_numpy(together["x"])).numpy()
    assert_close(next(iter(found.values())), expected)


def test_batched_graph_is_the_given_one_when_its_batch_is_dynamic():
    given = of(nn.Linear(4, 4), (1, 4))
    inputs, batch = (TensorSpec("x", "float32", ("N", 4)),), (Dimension("N", 1, 2, 4),)
    dynamic = TorchSupernet(MixesRows().eval(), inputs, batch, None, "net", {})
    graph = dynamic.exported()
    assert batched_graph(given, graph, 8, refuse) is graph


def test_batched_graph_is_the_given_one_when_rows_mix():
    assert "rows depend on each other" in noted(of(MixesRows(), (1, 4)))


def test_batched_graph_is_the_given_one_when_the_export_fails_with_several_rows():
    noted(of(FixedRows(), (1, 4)))


def test_batched_graph_is_the_given_one_when_the_first_dimension_is_no_row():
    assert "first dimension of the input 'x' is not 1" in noted(of(MixesRows(), (3, 4)))


def test_batched_graph_is_the_given_one_for_an_exported_program():
    from skipc.compiler.read import ProgramSupernet

    notes: list[str] = []
    graph, _ = exported("torchvision-resnet")
    given = object.__new__(ProgramSupernet)
    assert batched_graph(given, graph, 8, notes.append) is graph
    assert "only a PyTorch network" in notes[0]

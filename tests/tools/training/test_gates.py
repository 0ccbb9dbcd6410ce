"""What gates learn, on a network of which one unit answers and the others add nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from skipc.compiler.recipes.resnet import ResNet
from skipc.tools.training.gated_networks import GatedResNet
from skipc.tools.training.gates import (
    Cell,
    Decisions,
    evaluated,
    fixed_share,
    gated_loss,
    set_bias,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARES = (0.2, 0.2, 0.2, 0.2)
NEEDED = 1
TARGET = 0.45


class OneNeeded:
    """Adds the right scores in one unit; what the others add says nothing."""

    def __init__(self) -> None:
        self.cell = Cell(dict.fromkeys("abcd", 2))
        self.shares = torch.tensor(SHARES)

    def answer(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        decisions = Decisions(self.cell)
        (rows,) = inputs.values()
        for _ in SHARES:
            decisions.decide(rows)
        return decisions.unit(NEEDED, 4 * rows), torch.cat(decisions.runs, 1)


def test_what_is_needed_runs_and_compute_is_met() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        labels = torch.randint(2, (64,))
        rows = torch.nn.functional.one_hot(labels, 2) + 0.2 * torch.randn(64, 2)
        model, steps = OneNeeded(), 200
        optimizer = torch.optim.AdamW(model.cell.parameters(), lr=1e-2)
        model.cell.train()
        for step in range(steps):
            target = model.cell.anneal(step / steps, TARGET)
            loss = gated_loss(model, model.answer({"rows": rows}), labels, target, 0.0)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    held_out = [({"rows": rows}, labels)]
    set_bias(model, held_out, TARGET)
    found = evaluated(model, held_out)
    assert found.rates[NEEDED] > 0.9
    assert 0.4 <= found.compute <= TARGET


def test_parts_of_a_unit_run_from_the_first_on() -> None:
    parts = torch.tensor([1, 0, 0, 2, 1, 2])
    cell = Cell(dict.fromkeys("ab", 2), {"b": parts})
    assert cell.decided == ("a", "b", "b:2", "b:3")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.nn.init.normal_(cell.score.weight)
        torch.nn.init.zeros_(cell.offsets)
        rows = 3 * torch.randn(200, 2)
        for training in (True, False):
            cell.train(training)
            decisions = Decisions(cell)
            for _ in cell.names:
                decisions.decide(rows)
            counts = decisions.runs[1].detach().round().sum(1)
            first = torch.arange(3) < counts[:, None]
            torch.testing.assert_close(decisions.runs[1].detach(), first.float())
            assert len(counts.unique()) == 4
            kept = decisions.within(1, torch.ones(200, 6)).detach().sum(1)
            torch.testing.assert_close(kept, 2 * counts)
    gates = cell.trained([0.9, 0.8, 0.7, 0.6], 0.5).gates
    assert [gate.rates for gate in gates] == [(0.9,), (0.8, 0.7, 0.6)]
    assert gates[1].thresholds == tuple(sorted(gates[1].thresholds))
    assert gates[1].parts.tolist() == parts.tolist()


def test_a_networks_important_channels_run_first() -> None:
    network = ResNet(widths=[8, 32], depths=[1, 1])
    model = GatedResNet(network, (1, 8, 8), parts=4)
    assert model.cell.counts == (2, 2)
    assert float(model.shares.sum()) + fixed_share(model) == pytest.approx(1)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in network.parameters():
            parameter.normal_()
        last = network.stages[0][0].branch[-1][0]
        last.weight[:, [0, 2, 4, 6]] *= 100
        model.begin(1, 2, 0.5)
    assert model.cell.parts_of(0).tolist() == [0, 1] * 4

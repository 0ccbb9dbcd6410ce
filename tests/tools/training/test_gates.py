"""What gates learn, on a network of which one unit answers and the others add nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from skipc.tools.training.gates import Cell, Decisions, evaluated, gated_loss, set_bias

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
        runs = [decisions.decide(rows) for _ in SHARES]
        return 4 * rows * runs[NEEDED][:, None], torch.stack(runs, 1)


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

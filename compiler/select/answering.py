"""What chosen networks answer at each of their exits, and what reaching each exit costs.

Every network is run on the parts of the data once, with all its heads; routes are then solved
from these answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.exits import END, ExitsAxis
from skipc.compiler.graph.costs import total_macs
from skipc.compiler.policy.answers import CLASS_SCORES, Answers
from skipc.compiler.select.options import CostKind
from skipc.compiler.select.running import run_on
from skipc.runtime.bundle.route import Test

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.network import Network
    from skipc.compiler.select.problem import Notes
    from skipc.compiler.select.samples import Samples
    from skipc.compiler.select.selecting import Chosen, Searched

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answering:
    """A chosen network with its heads, or as much of it as a route runs.

    Attributes:
        network: The network's name; "" of the only one.
        base: What was chosen.
        whole: The same with nothing skipped, at full width: at its resolution.
        exits: Its heads and its end.
        answers: What they answer on the parts for fitting, selection and report; each has a
            test, the last one, too. Times are costs.
        macs: Up to each exit.
        parameters: ... of a network that ends there, earlier heads included.
        ms: Latency up to each exit; None where it is not measured.
    """

    network: str
    base: Chosen
    whole: Genes
    exits: tuple[str, ...]
    answers: tuple[Answers, Answers, Answers]
    macs: Floats
    parameters: tuple[int, ...]
    ms: Floats | None

    @property
    def cost(self) -> float:
        """What it costs to its last exit."""
        return float(self.answers[1].upto_ms[-1])

    def at(self, used: Sequence[int]) -> Answering:
        """Returns it with some of its exits alone."""
        places = list(used)
        fitting, selection, report = (each.at(places) for each in self.answers)
        return Answering(
            *(self.network, self.base, self.whole),
            exits=tuple(self.exits[place] for place in places),
            answers=(fitting, selection, report),
            macs=self.macs[places],
            parameters=tuple(self.parameters[place] for place in places),
            ms=None if self.ms is None else self.ms[places],
        )


def answering(
    searched: Mapping[str, Searched], chosen: Mapping[str, Sequence[Chosen]], notes: Notes
) -> list[Answering]:
    """Returns what chosen networks answer, all of them measured, alternating.

    Args:
        searched: The networks by name.
        chosen: Of each, what is to answer.
        notes: Told what is being done.
    """
    notes("computing what the networks answer")
    prepared = [
        _Prepared.of(name, searched[name], base)
        for name, several in chosen.items()
        for base in several
    ]
    measured = _measured(prepared, notes)
    found = []
    for done, (one, ms) in enumerate(zip(prepared, measured, strict=True)):
        found.append(one.answering(ms))
        notes.advance(done + 1, len(prepared))
    return found


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A chosen network, cut off at each of its exits."""

    network: str
    searched: Searched
    base: Chosen
    exits: tuple[str, ...]
    models: tuple[ir.Model, ...]
    parameters: tuple[int, ...]

    @classmethod
    def of(cls, name: str, searched: Searched, base: Chosen) -> _Prepared:
        family = searched.problem.family.with_norms(searched.norms)
        choices = family.decoded(base.genes)
        exits = (*family.offers[ExitsAxis.key].names, END)
        upto = [
            family.subnet({**choices, ExitsAxis.key: exits[: number + 1]}, base.name)
            for number in range(len(exits))
        ]
        models = tuple(each.network.model for each in upto)
        return cls(
            name, searched, base, exits, models, tuple(each.parameters for each in upto)
        )

    def answering(self, ms: Floats | None) -> Answering:
        """Returns what it answers, given the latency up to each exit, if it is known."""
        problem, prices, genes = self.searched.problem, self.searched.prices, self.base.genes
        macs = np.array([total_macs(model.graph) for model in self.models], float)
        share = macs / macs[-1]
        if prices.kind is CostKind.LATENCY and ms is not None:
            share = ms / ms[-1]
        evaluated = problem.evaluated.with_norms(self.searched.norms)
        # Tensors may have other names there.
        choices = evaluated.decoded(genes)
        network = evaluated.subnet({**choices, ExitsAxis.key: self.exits}, self.base.name)
        temperatures = {head.name: head.temperature for head in network.network.heads}
        tests = tuple(
            Test("logits", {CLASS_SCORES[0]: 1.0}, 0.0, temperatures.get(name, 1.0))
            for name in self.exits
        )
        parts = problem.data.parts
        asked = (parts.fitting, parts.selection, parts.report)
        upto = (prices.cost(genes) * share).tolist()
        fitting, selection, report = (
            Answers.of(logits, part.targets.astype(np.int64), tests, upto)
            for part, logits in zip(
                asked, _logits(network.network, asked, problem.rows), strict=True
            )
        )
        return Answering(
            network=self.network,
            base=self.base,
            whole=problem.space.whole(genes),
            exits=self.exits,
            answers=(fitting, selection, report),
            macs=macs,
            parameters=self.parameters,
            ms=ms,
        )


def _measured(prepared: Sequence[_Prepared], notes: Notes) -> list[Floats | None]:
    """Returns the latencies up to each exit of each network."""
    prices = prepared[0].searched.prices
    if not prices.measures:
        return [None] * len(prepared)
    notes("measuring the exits")
    places = [(one, number) for one in prepared for number in range(len(one.exits))]
    # The wholes first: they are what the others are compared with.
    places.sort(key=lambda place: -place[1])
    measured = replace(prices, notes=notes).models_ms(
        {f"{one.base.name}.{number}": one.models[number] for one, number in places}
    )
    # A longer way takes no less time, whatever was measured.
    return [
        np.maximum.accumulate(
            [measured[f"{one.base.name}.{n}"] for n in range(len(one.exits))]
        )
        for one in prepared
    ]


def _logits(
    network: Network, parts: Sequence[Samples], rows: int
) -> list[NDArray[np.float32]]:
    """Returns what every exit answers, (exits, N, classes) for each part."""
    (output,) = network.outputs
    return [
        np.array([ran[answer[output.name]] for answer in network.answers], np.float32)
        for ran in run_on(network, parts, rows)
    ]

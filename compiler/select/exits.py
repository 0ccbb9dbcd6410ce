"""``skipc select --exits``: chosen networks answer at their heads, too.

Every head of a chosen network is run on the parts once. A configuration that ends at a head
is one more point of the front. A route is worth it on average, but as slow as its network at
worst: so it replaces nothing, and is added where nothing is better on average.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.axes.exits import END, ExitsAxis
from skipc.compiler.errors import SelectError
from skipc.compiler.front import ExitTest
from skipc.compiler.graph.costs import total_macs
from skipc.compiler.heads import read_heads
from skipc.compiler.policy.answers import CLASS_SCORES, Answers
from skipc.compiler.policy.choosing import BestRoute, Chain, best_routes
from skipc.compiler.policy.policies import LOSSES, Gates, outcome_of
from skipc.compiler.policy.solving import LEAST_PER_EXIT
from skipc.compiler.select.choosing import thinned
from skipc.compiler.select.options import CostKind
from skipc.compiler.select.pareto import front_of
from skipc.compiler.select.samples import chunks_of
from skipc.compiler.select.space import Candidate
from skipc.compiler.verify.sessions import GraphRunner
from skipc.runtime.bundle.route import Test

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.heads import Head
    from skipc.compiler.network import Network
    from skipc.compiler.norms.statistics import FamilyNorms
    from skipc.compiler.select.options import Constraints, SelectOptions
    from skipc.compiler.select.pareto import ReferencePoint
    from skipc.compiler.select.pricing import Prices
    from skipc.compiler.select.problem import Notes, Problem
    from skipc.compiler.select.samples import Parts, Samples
    from skipc.compiler.select.selecting import Chosen

    Floats = NDArray[np.float64]

DROPS = (0.003, 0.01, 0.03)
"""Routes lose at most so much accuracy against the full network."""


@dataclass(frozen=True, slots=True)
class Early:
    """A configuration that answers before its network's end.

    Attributes:
        name: Its name.
        genes: Its network.
        exits: Where it answers; the last is ``end`` where it may go to the network's.
        tests: When, at each exit but the last.
        stops: The share of samples that each exit answers, on the report part.
        score: Accuracy on the report part.
        selection_score: ... on the selection part.
        cost: What was minimised, on average over the selection part.
        macs: Operations, on average over the report part; so is ``measured_ms``.
        parameters: Trained parameters.
        measured_ms: Latency; None where the target does not run here.
        why: How it was found, a sentence.
    """

    name: str
    genes: Genes
    exits: tuple[str, ...]
    tests: tuple[ExitTest, ...]
    stops: tuple[float, ...]
    score: float
    selection_score: float
    cost: float
    macs: float
    parameters: int
    measured_ms: float | None
    why: str


@dataclass(frozen=True, slots=True)
class _Heads:
    """A chosen network with all its heads.

    Attributes:
        base: The network.
        cost: What it costs to its end.
        exits: Its heads and its end.
        chain: What they answer; times are costs.
        macs: Up to each exit.
        parameters: ... of a network that ends there, earlier heads included.
        ms: Latency up to each exit; None where it is not measured.
    """

    base: Chosen
    cost: float
    exits: tuple[str, ...]
    chain: Chain
    macs: Floats
    parameters: tuple[int, ...]
    ms: Floats | None


def heads_for(options: SelectOptions, checkpoint: Path) -> tuple[Head, ...]:
    """Returns the heads that configurations may answer at; none without ``--exits``.

    Raises:
        SelectError: There are none, the metric is of the user's own, or parameters are to be
            minimised.
        HeadsError: They are damaged, or another checkpoint's.
    """
    if not options.exits:
        return ()
    if options.metric != "top1":
        raise SelectError(
            f"--exits with --metric {options.metric}: tests are solved for right answers."
            " Leave --metric out."
        )
    if options.cost is CostKind.PARAMETERS:
        raise SelectError(
            "--exits with --cost parameters: a route holds all that its network holds. Use"
            " --cost latency or macs."
        )
    heads = read_heads(checkpoint)
    if not heads:
        raise SelectError(
            f"--exits: no heads lie beside {checkpoint}. Train them with `skipc heads`."
        )
    return heads


def check_counts(parts: Parts, heads: int) -> None:
    """Refuses parts with too few samples for the heads, before anything is searched.

    Raises:
        SelectError: There are too few.
    """
    exits = 1 + heads
    fewest = min(len(each) for each in (parts.fitting, parts.selection, parts.report))
    if heads and fewest < LEAST_PER_EXIT * exits:
        raise SelectError(
            f"--exits: {exits} exits, but a part of --data has {fewest} samples: each needs"
            f" {LEAST_PER_EXIT} for each exit, {LEAST_PER_EXIT * exits}. Give more data, or"
            " train fewer heads."
        )


def with_early(
    problem: Problem,
    prices: Prices,
    chosen: Sequence[Chosen],
    norms: FamilyNorms,
    full_score: float,
    reference: ReferencePoint,
    options: SelectOptions,
    notes: Notes,
) -> tuple[tuple[Chosen, ...], tuple[Early, ...], FamilyNorms]:
    """Returns what stays of the chosen, what answers early, and their norm statistics.

    Args:
        problem: The problem.
        prices: What configurations cost.
        chosen: What was chosen without exits.
        norms: Its norm statistics.
        full_score: The full network's score on the selection part.
        reference: Bounds the hypervolume.
        options: How to select.
        notes: Told what is being done.
    """
    notes("computing what every head answers")
    found = []
    for done, one in enumerate(chosen):
        found.append(_heads(problem, prices, one, norms, notes))
        notes.advance(done + 1, len(chosen))
    notes("solving when they answer")
    constraints = options.constraints
    kept, static = _statics(found, full_score, constraints, reference)
    routes = _routes(found, full_score, constraints)
    points = [(one.cost, one.chosen_score) for one in kept]
    points += [(one.cost, one.selection_score) for one in static]
    early = list(static)
    for route in routes:
        if all(cost > route.cost or score < route.selection_score for cost, score in points):
            points.append((route.cost, route.selection_score))
            early.append(route)
    if not routes:
        notes.note(
            "exits: no route is faster than its network with a drop of at most"
            f" {100 * max(_drops(constraints)):g}."
        )
    names = {one.genes: one.name for one in chosen}
    statistics = {one.base.name: norms.configurations.get(one.base.name, {}) for one in kept}
    statistics |= {e.name: norms.configurations.get(names[e.genes], {}) for e in early}
    return (
        tuple(one.base for one in kept),
        tuple(early),
        replace(norms, configurations=statistics if norms.configurations else {}),
    )


def _heads(
    problem: Problem, prices: Prices, base: Chosen, norms: FamilyNorms, notes: Notes
) -> _Heads:
    """Returns what the heads of a chosen network answer and cost."""
    family = problem.family.with_norms(norms)
    choices = family.decoded(base.genes)
    exits = (*family.offers[ExitsAxis.key].names, END)
    upto = [
        family.subnet({**choices, ExitsAxis.key: exits[: number + 1]}, base.name)
        for number in range(len(exits))
    ]
    macs = np.array([total_macs(each.network.model.graph) for each in upto], float)
    ms = None
    if prices.measures:
        notes(f"measuring the exits of {base.name}")
        # The whole first: it is what the others are compared with.
        models = {str(n): upto[n].network.model for n in reversed(range(len(exits)))}
        measured = prices.models_ms(models)
        # A longer way takes no less time, whatever was measured.
        ms = np.maximum.accumulate([measured[str(n)] for n in range(len(exits))])
    share = macs / macs[-1]
    if prices.kind is CostKind.LATENCY and ms is not None:
        share = ms / ms[-1]
    cost = prices.cost(base.genes)
    evaluated = problem.evaluated.with_norms(norms)
    # Tensors may have other names there.
    choices = evaluated.decoded(base.genes)
    network = evaluated.subnet({**choices, ExitsAxis.key: exits}, base.name).network
    temperatures = {head.name: head.temperature for head in network.heads}
    tests = tuple(
        Test("logits", {CLASS_SCORES[0]: 1.0}, 0.0, temperatures[name]) for name in exits[:-1]
    )
    parts = problem.data.parts
    asked = (parts.fitting, parts.selection, parts.report)
    answers = [
        Answers.of(logits, part.targets.astype(np.int64), tests, (cost * share).tolist())
        for part, logits in zip(asked, _logits(network, asked, problem.rows), strict=True)
    ]
    sizes = tuple(each.parameters for each in upto)
    return _Heads(base, cost, exits, Chain(base.name, *answers), macs, sizes, ms)


def _logits(
    network: Network, parts: Sequence[Samples], rows: int
) -> list[NDArray[np.float32]]:
    """Returns what every exit answers, (exits, N, classes) for each part."""
    first = network.inputs[0].shape[0]
    padded = isinstance(first, int)
    found = []
    with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
        path = Path(folder) / "heads.onnx"
        ir.save(network.model, path, external_data="heads.data")
        runner = GraphRunner(path)
        (output,) = network.outputs
        for samples in parts:
            chunks = chunks_of(
                samples.inputs, first if isinstance(first, int) else rows, padded
            )
            ran = [
                runner.run({name: arrays[n] for name, arrays in chunks.inputs.items()})
                for n in range(len(chunks.counts))
            ]
            found.append(
                np.array(
                    [
                        np.concatenate(chunks.real([one[answer[output.name]] for one in ran]))
                        for answer in network.answers
                    ],
                    np.float32,
                )
            )
    return found


@dataclass(frozen=True, slots=True)
class _Static:
    """A chosen network that goes to its end, as a point of the front."""

    base: Chosen
    cost: float
    chosen_score: float


def _statics(
    found: Sequence[_Heads],
    full_score: float,
    constraints: Constraints,
    reference: ReferencePoint,
) -> tuple[list[_Static], list[Early]]:
    """Returns what runs one graph: chosen networks to their end, and ending at a head.

    Those that none of them beats, at most as many as may be chosen, and the full network.
    """
    places: dict[Genes, tuple[_Heads, int]] = {}
    candidates = []
    limit = 1.0 if constraints.max_drop is None else constraints.max_drop / 100
    for heads in found:
        scores = 1 - heads.chain.selection.wrong.mean(1)
        last = len(heads.exits) - 1
        for number in range(last + 1):
            # What search and choice have compared stands for the end itself.
            score = heads.base.selection_score if number == last else float(scores[number])
            if number < last and full_score - score > limit:
                continue
            genes = (*heads.base.genes, last - number)
            places[genes] = heads, number
            cost = float(heads.chain.selection.upto_ms[number])
            candidates.append(Candidate(genes, score, cost))
    full = next((c for c in candidates if not any(c.genes)), None)
    kept, static = [], []
    for one in thinned(front_of(candidates), full, constraints.size, reference):
        heads, number = places[one.genes]
        if number == len(heads.exits) - 1:
            kept.append(_Static(heads.base, one.cost, one.score))
        else:
            static.append(_ending(heads, number, one))
    return kept, static


def _ending(heads: _Heads, number: int, found: Candidate) -> Early:
    """Returns a configuration that ends at a head."""
    name = heads.exits[number]
    return Early(
        name=f"{heads.base.name}-ends{number + 1}",
        genes=heads.base.genes,
        exits=(name,),
        tests=(),
        stops=(),
        score=1 - float(heads.chain.report.wrong[number].mean()),
        selection_score=found.score,
        cost=found.cost,
        macs=float(heads.macs[number]),
        parameters=heads.parameters[number],
        measured_ms=None if heads.ms is None else float(heads.ms[number]),
        why=f"{heads.base.name} ends at {name}",
    )


def _drops(constraints: Constraints) -> tuple[float, ...]:
    most = constraints.max_drop
    if most is None:
        return DROPS
    return (*(drop for drop in DROPS if 100 * drop < most), most / 100)


def _routes(
    found: Sequence[_Heads], full_score: float, constraints: Constraints
) -> list[Early]:
    """Returns the fastest routes at each wanted drop, no two the same."""
    by_name = {heads.base.name: heads for heads in found}
    best = best_routes([h.chain for h in found], full_score, _drops(constraints))
    seen: list[tuple[str, Gates]] = []
    routes = []
    for route in best:
        heads = by_name[route.chain.name]
        early = None if (route.chain.name, route.gates) in seen else _routed(heads, route)
        seen.append((route.chain.name, route.gates))
        if early is not None:
            routes.append(early)
    return routes


def _routed(heads: _Heads, route: BestRoute) -> Early | None:
    """Returns a configuration of those exits that answer something; None if only one does."""
    used = [number for number, share in enumerate(route.selection.shares) if share > 0]
    if len(used) < 2:
        return None
    tests = tuple(route.gates.tests[number] for number in used[:-1])
    gates, loss = Gates(tests), LOSSES["max-error"]
    selection, report = (
        outcome_of(gates, _only(answers, used), loss)
        for answers in (heads.chain.selection, heads.chain.report)
    )
    stops = np.array(report.shares)
    points = 100 * route.drop
    simple = route.one_threshold
    beaten = (
        "no single threshold drops so little"
        if simple is None
        else f"the best single threshold takes {simple / heads.cost:.2f}"
    )
    return Early(
        name=f"early-{points:g}",
        genes=heads.base.genes,
        exits=tuple(heads.exits[number] for number in used),
        tests=tuple(ExitTest(t.threshold, t.scores, t.temperature) for t in tests),
        stops=tuple(float(share) for share in stops),
        score=report.accuracy,
        selection_score=selection.accuracy,
        cost=selection.mean_ms,
        macs=float(stops @ heads.macs[used]),
        parameters=heads.parameters[used[-1]],
        measured_ms=None if heads.ms is None else float(stops @ heads.ms[used]),
        why=f"{route.policy} of {heads.base.name}, the fastest with a drop of at most"
        f" {points:g}: {selection.mean_ms / heads.cost:.2f} of what it takes to its end"
        + ("" if route.policy == "uniform threshold" else f"; {beaten}"),
    )


def _only(answers: Answers, used: Sequence[int]) -> Answers:
    """Returns the answers of some exits alone."""
    return Answers.of(
        answers.logits[list(used)],
        answers.labels,
        tuple(answers.tests[number] for number in used[:-1]),
        answers.upto_ms[list(used)].tolist(),
    )

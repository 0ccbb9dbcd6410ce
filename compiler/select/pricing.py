"""What configurations of one problem cost, and how latency is measured for a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.axes.skip import SkipAxis, units_of
from skipc.compiler.errors import SelectError
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.select.costs import CostKind, Counter
from skipc.compiler.select.latency import (
    LatencyModel,
    fit_latency,
    latency_of_profile,
    measured_ms,
)
from skipc.compiler.targets import builder_for, unmeasurable_reason
from skipc.compiler.verify.golden import draw_inputs, whole_number_bounds
from skipc.profiles import load_profile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx_ir as ir

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.options import SelectOptions
    from skipc.compiler.select.problem import Notes, Problem
    from skipc.profiles import Profile


@dataclass(frozen=True)
class Prices:
    """What configurations cost.

    Attributes:
        kind: What is minimised.
        latency: Predicts latency, None where nothing is known of the target.
        problem: The problem.
        measurable: Whether engines of the target run on this host.
    """

    kind: CostKind
    latency: LatencyModel | None
    problem: Problem
    measurable: bool
    _counter: Counter | None

    def macs(self, genes: Genes) -> int:
        """Returns the MACs of one inference, batch 1."""
        return self._counts(genes)[0]

    def parameters(self, genes: Genes) -> int:
        """Returns the trained parameters."""
        return self._counts(genes)[1]

    def predicted_ms(self, genes: Genes) -> float | None:
        """Returns the predicted latency; None where nothing is known of the target."""
        if self.latency is None:
            return None
        run = _run(self._counter, genes)
        return self.latency.predict_ms(run, _scaled(self.problem, run, genes))

    def cost(self, genes: Genes) -> float:
        """Returns what is minimised."""
        if self.kind is CostKind.MACS:
            return self.macs(genes)
        if self.kind is CostKind.PARAMETERS:
            return self.parameters(genes)
        predicted_ms = self.predicted_ms(genes)
        assert predicted_ms is not None
        return predicted_ms

    def _counts(self, genes: Genes) -> tuple[int, int]:
        if self._counter is not None:
            counted = self._counter.count(genes)
            return counted.macs, counted.parameters
        offer = units_of(self.problem.family)
        skipped = self.problem.skipped(genes)
        return (
            offer.total_macs - sum(unit.macs for unit in skipped),
            offer.total_parameters - sum(unit.parameters for unit in skipped),
        )


def price(problem: Problem, options: SelectOptions, notes: Notes) -> Prices:
    """Returns the prices of a problem; measures what ``options.cost`` needs.

    Raises:
        SelectError: The cost is unknown on this host.
        ProfileError: The target is unknown.
    """
    profile = load_profile(options.target)
    network = problem.family.network
    traced = network.switching is not None
    counter = None if traced else Counter(network.model, problem.units)
    reason = unmeasurable_reason(profile)
    needed = options.cost is CostKind.LATENCY or options.constraints.max_latency_ms is not None
    latency = None
    if profile.latency is not None:
        latency = latency_of_profile(profile, tuple(unit.name for unit in problem.units))
    elif reason is None and (needed or options.cost is None):
        notes.step(f"measuring what each unit adds on target {profile.name}")
        probe = LatencyProbe(problem, profile, options.threads, notes)
        latency = fit_latency(
            problem.units,
            problem.space.free,
            lambda genes: _run(counter, genes),
            lambda genes: _scaled(problem, _run(counter, genes), genes),
            probe.measure,
        )
    elif reason is not None and needed:
        raise SelectError(
            f"the latency of target {profile.name!r} is not known here: {reason} Give"
            " a profile with a [latency] table as --target, or use --cost macs."
        )
    elif reason is not None and options.cost is None:
        notes.note(f"cost: macs, since the latency of target {profile.name!r} is not known"
                   f" here: {reason}")  # fmt: skip
    kind = options.cost or (CostKind.MACS if latency is None else CostKind.LATENCY)
    return Prices(kind, latency, problem, reason is None, counter)


@dataclass(frozen=True)
class LatencyProbe:
    """Measures configurations on a target of this host, with the norms they are built with.

    Attributes:
        problem: The problem.
        profile: The target.
        threads: Threads of an engine.
        notes: Told what is measured.
    """

    problem: Problem
    profile: Profile
    threads: int
    notes: Notes

    def measure(self, configurations: Mapping[str, Genes]) -> dict[str, float]:
        """Returns the latencies in ms by name.

        Raises:
            TargetError: The target cannot run a subnet.
        """
        family = self.problem.family.with_norms(self.problem.scorer.norms(configurations))
        network = family.network
        batch = 1 if network.batch is None else network.batch.typical
        bounds = whole_number_bounds(network.model)
        inputs = draw_inputs(network.inputs, batch, seed=0, high=bounds)
        builder = builder_for(self.profile)
        names = {genes: name for name, genes in configurations.items()}

        def subnet(genes: Genes) -> ir.Model:
            choices = {SkipAxis.key: self.problem.skipped(genes)}
            return family.subnet(choices, names[genes]).network.model

        def measured(graphs: Mapping[str, Path]) -> Mapping[str, float]:
            return builder.measure_graphs(
                self.profile, graphs, inputs, self.threads, self.notes.step
            )

        return measured_ms(configurations, subnet, measured)


def _run(counter: Counter | None, genes: Genes) -> frozenset[int]:
    if counter is not None:
        return counter.count(genes).run
    return frozenset(index for index, value in enumerate(genes) if not value)


def _scaled(problem: Problem, run: frozenset[int], genes: Genes) -> int:
    """Returns how many branches are multiplied by a scalar: those behind a skipped unit."""
    if problem.mode is not NormMode.SCALAR or not any(genes):
        return 0
    return sum(unit > genes.index(1) for unit in run)

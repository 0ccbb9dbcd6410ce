"""What configurations cost: counted, looked up, or measured on a target."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import onnx_ir as ir

from skipc.compiler.axes.precision import PrecisionAxis
from skipc.compiler.axes.skip import units_of
from skipc.compiler.axes.width import WidthAxis, widths_of
from skipc.compiler.errors import SelectError
from skipc.compiler.graph.costs import node_macs, parameters
from skipc.compiler.graph.index import constant_outputs, live_nodes
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.select.absent import AbsentChannels
from skipc.compiler.select.latency import (
    FULL,
    LatencyModel,
    Run,
    Shares,
    designed,
    fit_latency,
    latency_of_profile,
)
from skipc.compiler.select.narrowing import Narrowing, shares_of
from skipc.compiler.select.options import CostKind
from skipc.compiler.targets import builder_for, unmeasurable_reason
from skipc.compiler.verify.golden import draw_inputs, whole_number_bounds
from skipc.profiles import load_profile
from skipc.runtime.bundle.tensors import typical_sizes
from skipc.runtime.errors import sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.axes.units import Unit
    from skipc.compiler.axes.width import Widths
    from skipc.compiler.axes.width_groups import Group
    from skipc.compiler.select.options import SelectOptions
    from skipc.compiler.select.problem import Notes, Problem
    from skipc.profiles import Profile


_YARDSTICK = "the first network"


@dataclass(frozen=True, slots=True)
class Counted:
    """What one configuration's subnet holds.

    Attributes:
        macs: Multiply-accumulate operations of one inference, batch 1.
        parameters: Trained parameters.
        run: Indices of the units whose branch is run: neither skipped nor within what is.
        reads: Whether its outputs depend on the inputs as the full network's do.
        shares: What is left, by its width, of each part's operations.
    """

    macs: int
    parameters: int
    run: frozenset[int]
    reads: bool
    shares: Shares


class Counter:
    """Counts what configurations hold, without making their graphs.

    Args:
        model: The supernet's graph.
        units: Its units.
        groups: Its groups of channels.
    """

    def __init__(
        self, model: ir.Model, units: tuple[Unit, ...], groups: tuple[Group, ...] = ()
    ) -> None:
        self._graph = model.graph
        self._units = units
        self._macs = {node: node_macs(node) for node in model.graph}
        self._parameters = parameters(model.graph)
        self._constant = constant_outputs(model.graph)
        self._absent = AbsentChannels(model, units)
        named = {group.name: group for group in groups}
        self._narrowing = Narrowing(model.graph, {**named, **self._absent.groups})

    def count(self, genes: Genes, widths: Widths = ()) -> Counted:
        """Returns what the subnet of a configuration holds.

        Args:
            genes: A value for each unit.
            widths: The groups that have fewer channels.
        """
        skipped = [unit for unit, gene in zip(self._units, genes, strict=True) if gene]
        cuts = [cut for unit in skipped if unit.join for cut in unit.cuts]
        gone = self._gone(skipped)
        live = [node for node in self._macs if node not in gone]
        shares = {**shares_of(widths), **self._absent.shares(skipped)}
        macs = self._narrowing.macs(self._macs, shares)
        # What a network leaves out by its own means has no place in its graph.
        loose = [unit for unit in skipped if not unit.join]
        computed = {"", *(str(node.outputs[0].name) for node in live)}
        return Counted(
            sum(macs[node] for node in live) - sum(unit.macs for unit in loose),
            self._parameters
            - parameters(gone)
            - self._narrowing.parameters(live, shares)
            - sum(unit.parameters for unit in loose),
            frozenset(
                number
                for number, unit in enumerate(self._units)
                if not genes[number] and (unit.features or unit.join) in computed
            ),
            constant_outputs(self._graph, cuts) == self._constant,
            self._shares(macs) if shares else FULL,
        )

    def _gone(self, skipped: Sequence[Unit]) -> set[ir.Node]:
        cuts = [cut for unit in skipped if unit.join for cut in unit.cuts]
        return set(self._macs).difference(live_nodes(self._graph, cuts)) if cuts else set()

    @cached_property
    def _inside(self) -> list[set[ir.Node]]:
        """The nodes of each unit's branch."""
        return [self._gone([unit]) for unit in self._units]

    def _shares(self, macs: Mapping[ir.Node, int]) -> Shares:
        def share(nodes: set[ir.Node]) -> float:
            full = sum(self._macs[node] for node in nodes)
            return sum(macs[node] for node in nodes) / full if full else 1.0

        around = set(self._macs).difference(*self._inside)
        return Shares(share(around), tuple(map(share, self._inside)))


@dataclass
class Yardstick:
    """A graph that is measured with every other, by which those measured apart compare.

    Attributes:
        model: The graph.
        ms: What it took when it was measured first; None before that.
    """

    model: ir.Model
    ms: float | None = None


@dataclass(frozen=True)
class Prices:
    """What configurations cost.

    Those that differ in units and widths alone are counted in one network.

    Attributes:
        kind: What is minimised.
        problem: The problem.
        profile: The target.
        threads: Threads of an engine that is measured.
        notes: Told what is measured.
        measures: Whether the target's engines run on this host.
        predicts: Whether latency can be predicted.
        yardstick: What latencies are relative to, where several networks are compared: they
            are measured minutes apart, on a machine that may have become busy.
    """

    kind: CostKind
    problem: Problem
    profile: Profile
    threads: int
    notes: Notes
    measures: bool
    predicts: bool
    yardstick: Yardstick | None = None
    _counters: dict[Genes, Counter] = field(default_factory=dict, repr=False)
    _counted: dict[Genes, Counted] = field(default_factory=dict, repr=False)
    _latencies: dict[Genes, LatencyModel] = field(default_factory=dict, repr=False)

    def counted(self, genes: Genes) -> Counted:
        """Returns what the network of a configuration holds."""
        space, family = self.problem.space, self.problem.family
        group = space.whole(genes)
        if group not in self._counters:
            model = family.structure(family.decoded(group)).model
            units, groups = units_of(family).units, widths_of(family).groups
            self._counters[group] = Counter(model, units, groups)
        if genes not in self._counted:
            widths = cast("Widths", family.decoded(genes).get(WidthAxis.key, ()))
            self._counted[genes] = self._counters[group].count(space.skipped(genes), widths)
        return self._counted[genes]

    def predicted_ms(self, genes: Genes) -> float | None:
        """Returns the predicted latency; None where nothing is known of the target."""
        if not self.predicts:
            return None
        group = self.problem.space.whole(genes)
        if group not in self._latencies:
            self._latencies[group] = self._latency(group)
        return self._latencies[group].predict_ms(self._run(genes))

    def cost(self, genes: Genes) -> float:
        """Returns what is minimised."""
        if self.kind is CostKind.MACS:
            return self.counted(genes).macs
        if self.kind is CostKind.PARAMETERS:
            return self.counted(genes).parameters
        predicted_ms = self.predicted_ms(genes)
        assert predicted_ms is not None
        return predicted_ms

    def _latency(self, group: Genes) -> LatencyModel:
        """Returns the latencies of a group's units: measured, or the profile's.

        A profile knows the full network alone: another group's are in proportion to its MACs.
        With widths to decide, the network is measured at each of their steps, too.
        """
        space, units = self.problem.space, units_of(self.problem.family).units
        if self.profile.latency is not None:
            found = latency_of_profile(self.profile, tuple(unit.name for unit in units))
            full = self.counted(space.full)
            return found.times(self.counted(group).macs / full.macs) if any(group) else found
        self.notes(f"measuring what each unit adds on target {self.profile.name}")
        free = [unit for unit, place in enumerate(space.units) if place in space.free]
        plain = {
            name: space.skipping(group, skipped)
            for name, skipped in designed(units, free).items()
        }
        steps = space.narrowing(group)
        narrow = {f"narrow{number}": genes for number, genes in enumerate(steps)}
        measured_ms = self.measured_ms({**plain, **narrow})
        model = fit_latency(
            *(units, free),
            {name: self._run(genes) for name, genes in plain.items()},
            measured_ms,
        )
        return model.following_widths(
            {name: self._run(genes) for name, genes in narrow.items()}, measured_ms
        )

    def _run(self, genes: Genes) -> Run:
        counted = self.counted(genes)
        return Run(counted.run, self._scaled(genes), counted.shares)

    def measured_ms(self, configurations: Mapping[str, Genes]) -> dict[str, float]:
        """Returns the latencies by name, each of a graph of its own with its norms.

        Raises:
            TargetError: The target cannot run a subnet.
        """
        family = self.problem.family.with_norms(self.problem.norms(configurations))
        return self.models_ms(
            {
                name: family.subnet(family.decoded(genes), name).network.model
                for name, genes in configurations.items()
            }
        )

    def models_ms(self, models: Mapping[str, ir.Model]) -> dict[str, float]:
        """Returns the latencies of graphs by name; the first is what others are compared with.

        Raises:
            TargetError: The target cannot run one.
        """
        network = self.problem.family.network
        sizes = typical_sizes(network.dimensions)
        bounds = whole_number_bounds(network.model)
        inputs = draw_inputs(network.inputs, sizes, seed=0, high=bounds)
        beside = {} if self.yardstick is None else {_YARDSTICK: self.yardstick.model}
        with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
            graphs = {}
            for name, model in {**models, **beside}.items():
                graphs[name] = Path(folder) / f"{name}.onnx"
                ir.save(model, graphs[name], external_data=f"{name}.data")
            measured = builder_for(self.profile).measure_graphs(
                self.profile, graphs, inputs, self.threads, self.notes
            )
        if self.yardstick is None:
            return measured
        own_ms = measured.pop(_YARDSTICK)
        self.yardstick.ms = self.yardstick.ms or own_ms
        return {name: ms * self.yardstick.ms / own_ms for name, ms in measured.items()}

    def _scaled(self, genes: Genes) -> int:
        """Returns how many branches a scalar multiplies: those behind what is left out."""
        space = self.problem.space
        skipped = space.skipped(genes)
        if self.problem.mode is not NormMode.SCALAR or not any(genes):
            return 0
        if space.is_narrow(genes):
            return len(self.counted(genes).run)
        if not any(skipped):
            return 0
        return sum(unit > skipped.index(1) for unit in self.counted(genes).run)


def price(
    problem: Problem,
    options: SelectOptions,
    notes: Notes,
    yardstick: Yardstick | None = None,
) -> Prices:
    """Returns the prices of a problem; measures what ``options.cost`` needs.

    ``yardstick`` is given where those of several problems are compared.

    Raises:
        SelectError: The cost is unknown on this host.
        ProfileError: The target is unknown.
    """
    profile = load_profile(options.target)
    reason = unmeasurable_reason(profile)
    needed = options.cost is CostKind.LATENCY or options.constraints.max_latency_ms is not None
    predicts = profile.latency is not None
    if not predicts and reason is None:
        predicts = needed or options.cost is None
    elif not predicts and needed:
        raise SelectError(
            f"the latency of target {profile.name!r} is not known here:"
            f" {sentence(reason or '')} Give a profile with a [latency] table as --target, or"
            " use --cost macs."
        )
    elif not predicts and options.cost is None:
        notes.note(f"cost: macs, since the latency of target {profile.name!r} is not known"
                   f" here: {reason}")  # fmt: skip
    kind = options.cost or (CostKind.LATENCY if predicts else CostKind.MACS)
    if PrecisionAxis.key in options.axes and (kind is not CostKind.LATENCY or profile.latency):
        raise SelectError(
            f"--axes {','.join(options.axes)}: int8 has as many operations and parameters as"
            " float32, and a profile's [latency] table is of float32 alone. Its latency is"
            " measured where the target's engines run: select there, with --cost latency."
        )
    measures = reason is None
    prices = Prices(
        kind, problem, profile, options.threads, notes, measures, predicts, yardstick
    )
    # Now, not in the middle of the search.
    prices.predicted_ms(problem.space.full)
    return prices

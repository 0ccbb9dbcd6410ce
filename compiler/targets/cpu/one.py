"""One session that holds a family: every configuration is a setting of its switches.

The full network's graph is optimised once. What a unit is to it shows when the network without
that unit is optimised, too (``numbered``); from both, one graph with switches is assembled
(``switched``). It must then give the bits of the configurations' own sessions.
"""

from __future__ import annotations

import functools
import random
import statistics
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import NumericsError
from skipc.compiler.extras import require
from skipc.compiler.targets.cpu.adapted import STATISTICS, adapted
from skipc.compiler.targets.cpu.numbered import NumberedGraph, difference
from skipc.compiler.targets.cpu.optimized import (
    Optimized,
    UnsuitedError,
    loadable,
    optimize_graph,
    plain_outputs,
)
from skipc.compiler.targets.cpu.switched import MASK, Conditions, mask_of, switched_graph
from skipc.compiler.targets.golden import check_same_bits
from skipc.compiler.targets.latency import timed_ms
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from skipc.runtime.bundle.engines import Switches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from skipc.compiler.axes.units import Unit
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import ConfigurationEntry, GraphEntry

    Case = dict[str, NDArray[Any]]
    Settings = Mapping[str, tuple[bool | float, ...]]

_MIN_PAIRS, _MAX_PAIRS, _ENOUGH_S = 5, 100, 1.0
_MANY = 16
_RANDOM_MASKS = 4
"""How many settings that no configuration is are compared, too."""


@dataclass(frozen=True, slots=True)
class OneSession:
    """A graph that holds a family, and what it was compared with.

    Attributes:
        graph: The graph; refers to ``data``.
        data: Its tensors and prepacked blobs.
        switches: What it switches.
        settings: By graph of the bundle, the inputs that make it run this one.
        outputs: By graph, what a session of its own gives for each golden input.
        own: The full network's graph without switches; refers to ``data``.
    """

    graph: Path
    data: Path
    switches: Switches
    settings: Mapping[str, Settings]
    outputs: Mapping[str, list[Case]]
    own: Path

    def over_own(self, case: Case) -> float:
        """Returns its latency over that of an engine of its own, nothing skipped."""
        backend = OnnxRuntimeCpu({"one": self.graph, "own": self.own}, self.data.name, 1)
        engines = [backend.load(name) for name in ("one", "own")]
        everything = {**case, **_arrays(self.settings[self.switches.graph])}
        calls = [
            functools.partial(engine.run, arrays)
            for engine, arrays in zip(engines, (everything, case), strict=True)
        ]
        for call in calls:
            call()
        one_ms, own_ms = timed_ms(calls, _MIN_PAIRS, _MAX_PAIRS, _ENOUGH_S)
        return statistics.median(a / b for a, b in zip(one_ms, own_ms, strict=True))


@dataclass(frozen=True, slots=True)
class _Plan:
    """The graphs that one session is to run.

    Attributes:
        full: The graph without anything skipped.
        skipped: By graph of the bundle, the units that it lacks.
    """

    full: GraphEntry
    skipped: Mapping[str, frozenset[str]]


def one_session(
    bundle: Bundle, inputs: list[Case], folder: Path, progress: Callable[[str], None]
) -> OneSession:
    """Returns one graph for all configurations of a bundle.

    Args:
        bundle: The bundle.
        inputs: The golden inputs.
        folder: An empty folder to write to.
        progress: Called with a short line before each step.

    Raises:
        UnsuitedError: One session cannot hold this family.
        TargetError: ONNX Runtime cannot load or run a graph.
    """
    plan = _plan(bundle)
    require("onnx_ir", "finish")
    whole = bundle.graph_file(plan.full)
    plain = Cutter(whole, folder)
    units = plain.units({name for skipped in plan.skipped.values() for name in skipped})
    names = tuple(unit.name for unit in units)
    graphs = {name: bundle.graph_file(bundle.manifest.graph(name)) for name in plan.skipped}
    alike = all(_is_cut(plain, plan.skipped[name], path) for name, path in graphs.items())
    norms = None if alike else adapted(plan.full.name, graphs, folder)
    progress(f"packing {plan.full.name}")
    own = loadable(whole, folder, inputs)
    full, cutter = own, plain
    if norms is not None:
        (folder / "adapted").mkdir()
        cutter = Cutter(norms.graph, folder / "adapted", whole.parent)
        full = loadable(norms.graph, folder / "adapted", inputs, whole.parent)
    one = assembled(full, cutter, units, mask_of(names), progress)
    settings: dict[str, Settings] = {
        g: {MASK: tuple(n not in s for n in names)} for g, s in plan.skipped.items()
    }
    if norms is not None:
        norms.chosen_in(one, full.data)
        settings = {
            graph: {**each, STATISTICS: (float(norms.numbers[graph]),)}
            for graph, each in settings.items()
        }
    progress("comparing it with a session of each configuration")
    outputs = _compared(one, full.data, plain, names, settings, graphs, inputs)
    switches = Switches(plan.full.name, MASK, names, "" if norms is None else STATISTICS)
    return OneSession(one, full.data, switches, settings, outputs, own.graph)


def _is_cut(cutter: Cutter, skipped: frozenset[str], graph: Path) -> bool:
    """Tells whether a graph of the bundle is the full one without some units."""
    with cutter.without(skipped) as cut:
        return NumberedGraph(graph).same(NumberedGraph(cut))


def _arrays(settings: Settings) -> Case:
    kinds = {MASK: np.bool_, STATISTICS: np.int64}
    return {name: np.array(values, kinds[name]) for name, values in settings.items()}


def assembled(
    full: Optimized,
    cutter: Cutter,
    units: Sequence[Unit],
    conditions: Conditions,
    progress: Callable[[str], None],
) -> Path:
    """Returns the full network's graph in which units run as conditions say, beside its data.

    Raises:
        UnsuitedError: The units cannot be switched one by one.
    """
    numbered = NumberedGraph(full.graph, full.data)
    changed, ends = {}, set[str]()
    for number, unit in enumerate(units, start=1):
        progress(f"looking at the unit {unit.name} ({number} of {len(units)})")
        with cutter.optimized(unit.name) as made:
            without = NumberedGraph(made.graph, made.data)
        changed[unit.name] = difference(numbered, without, unit.name, ends)
        ends |= changed[unit.name].replaced.keys()
    within = {unit.name: cutter.around(unit) for unit in units}
    model = switched_graph(numbered, changed, within, conditions)
    path = full.graph.with_name("one.onnx")
    path.write_bytes(model.SerializeToString())
    return path


def reason_to_try(bundle: Bundle) -> str:
    """Returns what speaks for one session; empty where engines of their own are as good.

    A few engines of convolutions load in milliseconds, and are faster by a copy of the stream
    for each unit. ONNX Runtime packs matrix products anew in each session.
    """
    require("onnx_ir", "finish")
    import onnx_ir as ir

    from skipc.compiler.graph.costs import node_macs

    manifest = bundle.manifest
    if len(manifest.configurations) > _MANY:
        return f"{len(manifest.configurations)} configurations"
    largest = max(manifest.graphs, key=lambda graph: graph.macs)
    nodes = [*ir.load(bundle.graph_file(largest)).graph]
    products = sum(node_macs(node) for node in nodes if node.op_type in ("MatMul", "Gemm"))
    return "a network of matrix products" if 2 * products > largest.macs else ""


def _plan(bundle: Bundle) -> _Plan:
    """Returns what one session is to hold; refuses what it cannot."""
    manifest = bundle.manifest
    first = manifest.configurations[0]
    for entry in manifest.configurations:
        if any(manifest.graph(stage.graph).gates for stage in entry.route):
            raise UnsuitedError(
                f"in configuration {entry.name!r} gates decide, which an engine of their own"
                " does"
            )
        if entry.only_graph is None:
            raise UnsuitedError(
                f"configuration {entry.name!r} runs several stages, or answers at an exit"
            )
        if entry.parts[0].network != first.parts[0].network:
            raise UnsuitedError(f"{first.name!r} and {entry.name!r} are different networks")
        if _other_choices(entry) != _other_choices(first):
            raise UnsuitedError(
                f"{first.name!r} and {entry.name!r} differ in more than what they skip"
                f" ({first.text() or 'nothing chosen'}; {entry.text() or 'nothing chosen'})"
            )
    full = next((e for e in manifest.configurations if not e.taken("skip")), None)
    if full is None or full.only_graph is None:
        raise UnsuitedError(
            "no configuration skips nothing, and from that one the session is made. Add one"
            ' with "skip": [] to the front'
        )
    if len(manifest.graphs) == 1:
        raise UnsuitedError("there is one configuration, and nothing to switch")
    skipped = {
        entry.only_graph or "": frozenset(entry.taken("skip"))
        for entry in manifest.configurations
    }
    return _Plan(manifest.graph(full.only_graph), skipped)


def _other_choices(entry: ConfigurationEntry) -> list[tuple[str, tuple[str, ...]]]:
    choices = entry.parts[0].choices
    return sorted((choice.axis, choice.taken) for choice in choices if choice.axis != "skip")


def _compared(
    one: Path,
    data: Path,
    cutter: Cutter,
    units: Sequence[str],
    settings: Mapping[str, Settings],
    graphs: Mapping[str, Path],
    inputs: list[Case],
) -> dict[str, list[Case]]:
    """Compares the graph with sessions of single configurations; returns what they give.

    Beside the bundle's configurations these are some that nobody chose, with the full
    network's norms.
    """
    drawn = random.Random(0)
    others = {(False,) * len(units)}
    others |= {tuple(drawn.random() < 0.5 for _ in units) for _ in range(_RANDOM_MASKS)}
    full = next(each for each in settings.values() if all(each[MASK]))
    known = [each[MASK] for each in settings.values()]
    named = [*settings.items()]
    named += [("", {**full, MASK: mask}) for mask in sorted(others) if mask not in known]
    backend = OnnxRuntimeCpu({"one": one}, data.name, threads=1)
    engine = backend.load("one")
    outputs: dict[str, list[Case]] = {}
    for name, each in named:
        skipped = [unit for unit, kept in zip(units, each[MASK], strict=True) if not kept]
        expected = (
            plain_outputs(graphs[name], inputs, graphs[name].parent)
            if name
            else cutter.outputs(skipped, inputs)
        )
        found = [engine.run({**case, **_arrays(each)}) for case in inputs]
        try:
            check_same_bits(name, expected, found)
        except NumericsError as cause:
            what = f"skipping {', '.join(skipped)}" if skipped else "skipping nothing"
            raise UnsuitedError(
                f"{what} gives other bits than a session of its own"
            ) from cause
        if name:
            outputs[name] = expected
    engine.close()
    return outputs


class Cutter:
    """Makes a full graph, ``whole``, without some of its units, in ``folder``.

    ``weights`` is the folder of its data, where it is not the graph's own; ``units`` are what
    may be left out, in network order, where that is not found in the graph.
    """

    def __init__(
        self,
        whole: Path,
        folder: Path,
        weights: Path | None = None,
        units: Mapping[str, Unit] | None = None,
    ) -> None:
        import onnx_ir as ir

        from skipc.compiler.axes.units import find_units

        self.whole = whole
        self._folder, self._weights = folder, weights or whole.parent
        self._model: ir.Model = ir.load(whole)
        if units is None:
            units = {unit.name: unit for unit in find_units(self._model).units}
        self._units = units

    def units(self, wanted: Iterable[str]) -> list[Unit]:
        """Returns the wanted units in network order."""
        wanted = set(wanted)
        unknown = sorted(wanted - {*self._units})
        if unknown:
            raise UnsuitedError(
                f"the unit {unknown[0]!r} is not seen in {self.whole.name}, as no dense"
                " layer is that shares weights with configurations without it"
            )
        found = [unit for name, unit in self._units.items() if name in wanted]
        for unit in found:
            if unit.features:
                raise UnsuitedError(
                    f"the unit {unit.name!r} is a dense layer: without it, what reads its"
                    " features has other kernels, which is no switch"
                )
        return found

    def around(self, unit: Unit) -> tuple[str, ...]:
        """Returns the units in whose branch one lies."""
        found: list[str] = []
        while unit.within:
            found.append(unit.within)
            unit = self._units[unit.within]
        return tuple(found)

    @contextmanager
    def without(self, skipped: Iterable[str]) -> Iterator[Path]:
        """Makes the graph without some units, for a while; its weights are the bundle's."""
        import onnx_ir as ir

        from skipc.compiler.graph.passes.cut_operands import without
        from skipc.compiler.graph.passes.drop_requantising import DropRequantisingPass

        names = set(skipped)
        cuts = [c for name, unit in self._units.items() if name in names for c in unit.cuts]
        with tempfile.TemporaryDirectory(dir=self._folder) as place:
            path = Path(place) / "cut.onnx"
            cut = without(self._model, cuts)
            DropRequantisingPass()(cut)
            ir.passes.common.RemoveUnusedNodesPass()(cut)
            ir.save(cut, path)
            yield path

    @contextmanager
    def optimized(self, unit: str) -> Iterator[Optimized]:
        """Optimises the graph without a unit, for a while; its weights are not packed."""
        with self.without([unit]) as cut:
            yield optimize_graph(cut, cut.parent, [], self._weights)

    def outputs(self, skipped: Iterable[str], inputs: list[Case]) -> list[Case]:
        """Returns what a session of the graph without some units gives for each input."""
        with self.without(skipped) as cut:
            return plain_outputs(cut, inputs, self._weights)

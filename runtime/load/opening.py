"""From a bundle to the backend that runs it, and to engines that are loaded, all or none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..backends import comes_from, open_backend
from ..backends.null import NullBackend
from ..bundle.folder import client_of
from ..bundle.route import Stage, source_of
from ..bundle.tensors import misfit, sizes_of
from ..clock import FakeClock
from ..errors import (
    BackendUnavailableError,
    ChoiceError,
    EngineError,
    SkipcError,
    StaleEngineError,
    reason_of,
)
from .gated import Gated
from .points import operating_points
from .residency import Item, Residency
from .switchable import Switchable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ..backends import Arrays, Backend, Outputs, Run
    from ..bundle.certificate import Certificate
    from ..bundle.engines import EngineSet
    from ..bundle.folder import Bundle
    from ..bundle.route import Graph
    from ..bundle.tensors import TensorSpec
    from ..clock import Clock
    from ..meters import Sampler

NULL_TARGET = "null"
_PARTS = ("client", "server")


def part_of(bundle: Bundle, part: str | None) -> Bundle:
    """Returns the bundle of one side, of one whose prologue is apart; any other as it is.

    Raises:
        ChoiceError: Which side is not said, or said of a bundle that has none.
        BundleError: The client's is no bundle.
    """
    client = client_of(bundle)
    if client is None and part is not None:
        raise ChoiceError(
            f"part={part!r}: {bundle.path} has one part alone. Leave it out, or build the"
            " bundle with --prologue-apart."
        )
    if client is None:
        return bundle
    if part not in _PARTS:
        raise ChoiceError(
            f"part={part!r}: the prologue of {bundle.path} is apart. Open it with"
            " part='client' where inputs are, and with part='server' where its answers go."
        )
    return client if part == "client" else bundle


@dataclass(frozen=True, slots=True)
class Family:
    """What there is to load: the routes of the configurations, and the graphs that they run.

    Attributes:
        routes: By configuration.
        outputs: The family's outputs; needed where a route is more than its one graph.
        graphs: What each graph takes and gives, by its name; one that is not listed takes the
            family's inputs and gives its outputs.
        size_bytes: The device memory that each engine takes, by graph; 0 on a CPU.
        limit_bytes: What all loaded engines may take of it; None for no limit.
        keep: The graph whose engine leaves the device last.
        certificates: What was shown of tests, by configuration.
        gates: By graph, what its gates decide about; not of a graph without gates.
        switchable: What the engine for all switches, where there is one.
    """

    routes: Mapping[str, Sequence[Stage]]
    outputs: Sequence[TensorSpec] = ()
    graphs: Mapping[str, Graph] = field(default_factory=dict)
    size_bytes: Mapping[str, int] = field(default_factory=dict)
    limit_bytes: int | None = None
    keep: str | None = None
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    switchable: Switchable | None = None
    gates: Mapping[str, Gated] = field(default_factory=dict)

    @classmethod
    def of_names(cls, configurations: Iterable[str]) -> Family:
        """Returns the family whose configurations each run the graph of their own name."""
        return cls({name: (Stage(name),) for name in configurations})

    def residency(self, load: Callable[[str], Item]) -> Residency[Item]:
        """Returns what loads the graphs that the routes run, by ``load``.

        Raises:
            ChoiceError: An engine is larger than the limit.
        """
        graphs = (stage.graph for route in self.routes.values() for stage in route)
        size_bytes = {graph: self.size_bytes.get(graph, 0) for graph in graphs}
        return Residency(load, size_bytes, self.limit_bytes, self.keep)

    def checked(self, graph: str, run: Run, inputs: Arrays) -> Outputs:
        """Returns what a graph's engine gives, or raises ``EngineError`` if that is unfit."""
        outputs = run(inputs)
        if graph not in self.graphs:
            return outputs
        takes, inner = self.graphs[graph].inputs, self._handed_over(graph)
        gives = [spec for spec in self.graphs[graph].outputs if spec.name not in inner]
        answers = {name: array for name, array in outputs.items() if name not in inner}
        unfit = misfit(answers, gives, sizes_of(inputs, takes))
        if unfit is not None:
            raise EngineError(
                f"graph {graph!r}: its engine is another's: {unfit}. Build the engines again"
                " with `skipc finish`."
            )
        return outputs

    def _handed_over(self, graph: str) -> set[str]:
        """Returns the outputs of a graph that later stages read, as the backend lays them."""
        sources = (
            (route, source_of(feed))
            for route in self.routes.values()
            for stage in route
            for feed in stage.feeds.values()
        )
        return {s[1] for route, s in sources if s and route[s[0]].graph == graph}


def bundle_backend(
    bundle: Bundle,
    target: str | None,
    threads: int | None,
    clock: Clock | None,
    device_bytes: int | None = None,
    quick: bool = False,
) -> tuple[Backend, EngineSet | None, Clock | None]:
    """Returns the backend for a bundle's target, its engines, and the clock to read.

    The null backend needs no engines. It moves the caller's clock if it is a ``FakeClock``,
    and brings one along where it is None. All else is as ``AdaptiveEngine.open`` takes it.

    Raises:
        BundleError: There are no engines for ``target``.
        BackendError: No engines fit this host; with several targets, all reasons are given.
    """
    if target == NULL_TARGET and NULL_TARGET not in bundle.targets():
        _refuse_quick(quick)
        moved = FakeClock() if clock is None else clock
        scripted = moved if isinstance(moved, FakeClock) else None
        return null_backend(bundle, None, scripted), None, moved
    names = bundle.targets()
    if target is not None or len(names) < 2:
        engines = bundle.engine_set(target)
        return _backend(bundle, engines, threads, device_bytes, quick), engines, clock
    reasons = []
    for name in names:
        engines = bundle.engine_set(name)
        try:
            return _backend(bundle, engines, threads, device_bytes, quick), engines, clock
        except (StaleEngineError, BackendUnavailableError) as reason:
            reasons.append(f"{name}: {reason}")
    raise StaleEngineError(f"{bundle.path}: no engines fit this host. {' '.join(reasons)}")


def _backend(
    bundle: Bundle,
    engines: EngineSet,
    threads: int | None,
    device_bytes: int | None,
    quick: bool,
) -> Backend:
    if engines.backend == NullBackend.name:
        _refuse_quick(quick)
        return null_backend(bundle, engines)
    return open_backend(bundle, engines, threads, device_bytes, quick)


def _refuse_quick(quick: bool) -> None:
    if quick:
        raise ChoiceError("quick=True: the null backend loads nothing. Leave it out.")


def null_backend(
    bundle: Bundle, engines: EngineSet | None, clock: FakeClock | None = None
) -> NullBackend:
    """Returns a null backend with a bundle's graphs.

    Its outputs are zeros of the manifest's shapes and types, at the inputs' sizes; its
    latencies are those of ``operating_points``: tabled, else the front's, else from MACs.
    """
    manifest = bundle.manifest
    graphs = {graph.name: graph for graph in manifest.graphs}

    def zeros(graph: str, given: Arrays) -> Outputs:
        sizes = sizes_of(given, graphs[graph].inputs)
        return {
            spec.name: np.zeros([max(size, 1) for size in spec.shape_at(sizes)], spec.dtype)
            for spec in graphs[graph].outputs
        }

    latencies_ms: dict[str, float] = {}
    points = operating_points(manifest, engines, NullBackend.threads)
    for entry, point in zip(manifest.configurations, points, strict=True):
        for stage in entry.route:  # each takes its share of the work
            share = (graphs[stage.graph].macs or 1) / (
                manifest.macs(entry) or len(entry.route)
            )
            latencies_ms.setdefault(stage.graph, share * point.p50_ms)
    return NullBackend(latencies_ms, zeros, clock)


def family_of(
    bundle: Bundle, engines: EngineSet | None, device_bytes: int | None = None
) -> Family:
    """Returns what there is to load of a bundle; ``engines`` are None for the null backend."""
    manifest = bundle.manifest
    sizes = {}
    if engines is not None:
        folder = bundle.engine_dir(engines.target)
        # Built ahead, nobody saw it on a device: what it holds has to lie there at least.
        sizes = {
            entry.graph: entry.device_bytes or (folder / entry.file).stat().st_size
            for entry in engines.engines
        }
    return Family(
        routes={entry.name: entry.route for entry in manifest.configurations},
        outputs=manifest.outputs,
        graphs={graph.name: graph for graph in manifest.graphs},
        size_bytes=sizes,
        limit_bytes=None if engines is None else device_bytes,
        keep=min(manifest.graphs, key=lambda graph: graph.macs).name,
        switchable=Switchable.of(manifest, engines),
        certificates={e.name: e.certificate for e in manifest.configurations if e.certificate},
        gates={g.name: Gated.of(manifest, g, engines) for g in manifest.graphs if g.gates},
    )


def started_sampler(meter: str, clock: Clock | None) -> Sampler:
    """Returns what reads a meter in the background from now on; see ``open_meter``."""
    from ..meters import Sampler, open_meter

    sampler = Sampler(open_meter(meter, clock), clock)
    sampler.start()
    return sampler


def load_all(
    family: Family,
    residency: Residency[Item],
    warm_up: Callable[[str, Arrays], None],
    sample: Arrays,
    times: int,
    now_ns: Callable[[], int],
) -> dict[str, float]:
    """Loads every configuration, and warms it up by ``times`` calls with ``sample``.

    ``warm_up`` calls a configuration once, all its stages (``Runs.warm_up``). Where one engine
    runs all, only the whole of it is. Returns what the last of these calls took of each
    configuration that was called, in ms.

    Raises:
        BackendError: A configuration could not be loaded or run; the message names it.
    """
    warm_up_ms: dict[str, float] = {}
    for name, route in family.routes.items():
        try:
            for stage in route:
                residency.load(stage.graph)
            one = family.switchable
            if one is not None and route[0].graph != one.switches.graph:
                continue
            for _ in range(times):
                start_ns = now_ns()
                warm_up(name, sample)
                warm_up_ms[name] = (now_ns() - start_ns) / 1e6
        except Exception as cause:
            ours = isinstance(cause, SkipcError)
            if (ours and repr(name) in str(cause)) or not (ours or comes_from(cause)):
                raise
            raise EngineError(
                f"configuration {name!r} could not be loaded: {reason_of(cause)}"
            ) from cause
    return warm_up_ms

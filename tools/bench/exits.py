"""Early exits: what cutting a network into stages costs, and whether hard deadlines hold.

A ResNet-50 with random weights and a random head after each stage of its blocks: four exits
with its end. Tests are set so that every call leaves at one exit, the same for all calls.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.front import ExitTest, Front, FrontEntry, write_front
from skipc.compiler.graph.pieces import pieces_of
from skipc.compiler.heads import Head, write_heads
from skipc.compiler.select.hand_over import hand_over_ms
from skipc.runtime import AdaptiveEngine, Budget, Bundle, OperatingPoint
from skipc.runtime.backends import open_backend
from skipc.runtime.load.opening import family_of
from skipc.runtime.load.points import points_here
from skipc.tools.bench.budgets import HALF_PERIOD_S, neighbours, random_family
from skipc.tools.bench.harness import Bar, by_turns_ms, ratio, timed_ms
from skipc.tools.bench.networks import RESNET50, build, prepare
from skipc.tools.simulate.replay import replay
from skipc.tools.simulate.scenario import Change, Grant, Neighbour, Noise, Scenario
from skipc.tools.trtbench.plain import plain_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from skipc.compiler.graph.pieces import Piece
    from skipc.runtime.backends import Arrays, Backend, Engine, Outputs, Sharing
    from skipc.runtime.bundle.manifest import Manifest
    from skipc.runtime.bundle.route import Stage

NAME = "early exits"
_HEADS = {
    f"resnet.encoder.stages.{stage}.layers.{layer}": channels
    for stage, layer, channels in ((0, 2, 256), (1, 3, 512), (2, 5, 1024))
}
_CLASSES, _HEAD_CLASSES = 1000, 2
_GO_ON, _LEAVE = 2.0, 0.0
_ROUNDS = 40
_THRESHOLDS = "thresholds"
"""The further input of a graph with `If` nodes: for each exit what is needed to leave."""
_SECONDS = 60.0
_THROTTLED = ((0.25, 1.0), (0.5, 1.3), (0.75, 1.6), (1.0, 1.15))
"""Until which share of the time a call takes how many times as long as it does by itself."""
_LATE = 0.001


def bars(place: Path) -> list[Bar]:
    """Returns the bars of routes of several stages."""
    folder = RESNET50.folder(place)
    _prepare(folder)
    return [
        *_overheads(),
        *_simulated(),
        *_sizes(folder),
        *_times(folder),
        *_deadlines(folder),
    ]


def _prepare(folder: Path) -> None:
    """Builds the bundles that are not there: with exits, with the route alone, without."""
    prepare(RESNET50, folder)
    random = np.random.default_rng(0)
    heads = tuple(
        Head(
            name,
            random.normal(0, 0.02, (_HEAD_CLASSES, channels)).astype(np.float32),
            random.normal(0, 0.02, _HEAD_CLASSES).astype(np.float32),
            accuracy=0.0,
            temperature=1.0,
        )
        for name, channels in _HEADS.items()
    )
    exits = [*_HEADS, "end"]
    tests = tuple(ExitTest(_GO_ON) for _ in _HEADS)
    stops = (*(0.0 for _ in _HEADS), 1.0)
    route = FrontEntry("route", {"exits": exits}, tests=tests, stops=stops)
    ends = tuple(FrontEntry(f"ends{at}", {"exits": [name]}) for at, name in enumerate(_HEADS))
    write_front(folder / "route.json", Front((route,)))
    write_front(folder / "exits.json", Front((route, *ends)))
    write_heads(folder / "ckpt.pt", heads)
    for front in ("exits", "route", "one"):
        if not (folder / f"{front}.skipc").exists():
            build(RESNET50, folder, front)


def _sizes(folder: Path) -> list[Bar]:
    """Returns the packed bytes of a route over those of the network without exits."""
    with_exits, alone = (_packed_bytes(folder / f"{name}.skipc") for name in ("route", "one"))
    # As they are, and packed for Gemm, to 16 columns at least.
    columns = _HEAD_CLASSES + max(16, _HEAD_CLASSES)
    heads_bytes = sum(4 * columns * channels for channels in _HEADS.values())
    note = f"{with_exits / 1e6:.1f} MB, {heads_bytes / 1e6:.2f} of them heads"
    what = "packed store, over the network without exits, heads apart"
    return [Bar(NAME, what, (with_exits - heads_bytes) / alone, 1.0005, note=note)]


def _packed_bytes(path: Path) -> int:
    engines = Bundle.open(path).engine_set("cpu")
    return next(f.size_bytes for f in engines.files if f.path == engines.packed_file)


def _leaving(route: Sequence[Stage], at: int) -> tuple[Stage, ...]:
    """Returns the route whose tests let every call leave at one exit."""
    return tuple(
        replace(
            stage,
            test=stage.test
            and replace(stage.test, threshold=_LEAVE if number == at else _GO_ON),
        )
        for number, stage in enumerate(route)
    )


def _times(folder: Path) -> list[Bar]:
    """Returns what leaving at each exit takes, over one engine that ends there."""
    bundle = Bundle.open(folder / "exits.skipc")
    case, engines = bundle.golden_inputs()[0], bundle.engine_set("cpu")
    manifest = bundle.manifest
    route = manifest.configuration("route").route
    whole_file = bundle.file(manifest.graph(route[0].graph).file)
    branching = _branching(folder / "exits.if.onnx", whole_file, manifest)
    family = family_of(bundle, engines)
    leaving = {f"leaves{at}": _leaving(route, at) for at in range(len(route))}
    family = replace(family, routes={**family.routes, **leaving})
    points = [_point(name, len(stages)) for name, stages in family.routes.items()]
    whole = partial(plain_session(whole_file), case)
    with AdaptiveEngine(
        points, manifest.inputs, open_backend(bundle, engines, 1),
        warm_up=case, family=family,
    ) as engine:  # fmt: skip

        def pinned(name: str) -> None:
            engine.pin(name)
            engine(case)

        end = len(route) - 1
        whole_pairs = by_turns_ms(partial(pinned, f"leaves{end}"), whole, _ROUNDS)
        found = {}
        for at in range(end):
            ours = partial(pinned, f"leaves{at}")
            file = bundle.file(manifest.graphs_of(manifest.configuration(f"ends{at}"))[0].file)
            plain = partial(plain_session(file), case)
            found[at] = (
                by_turns_ms(ours, partial(pinned, f"ends{at}"), _ROUNDS),
                ratio(by_turns_ms(plain, partial(pinned, f"ends{at}"), _ROUNDS // 2)),
                ratio(by_turns_ms(whole, ours, _ROUNDS // 2)),
                ratio(by_turns_ms(partial(branching, case, at), ours, _ROUNDS // 2)),
            )
    ratios = {at: ratio(pairs) for at, (pairs, *_) in found.items()}
    worst = max(ratios, key=lambda at: ratios[at])
    medians = [statistics.median(ms for ms, _ in pairs) for pairs, *_ in found.values()]
    medians.append(statistics.median(ms for ms, _ in whole_pairs))
    listed = " ".join(f"{each:.3f}" for each in ratios.values())
    return [
        Bar(NAME, "to the end, over the same network with all heads in one session",
            ratio(whole_pairs), 1.03, note=f"leaving at each exit: "
            f"{' '.join(f'{ms:.1f}' for ms in medians)} ms"),
        Bar(NAME, "leaving at an exit, over an engine that ends there, worst exit",
            ratios[worst], 1.04, note=f"by exit: {listed}"),
        Bar(NAME, "… a plain session that ends there, over our engine, worst exit",
            max(plain for _, plain, *_ in found.values()), None),
        Bar(NAME, "… all heads in one session, which cannot leave, over leaving at exit 1",
            found[0][2], None),
        Bar(NAME, "… one graph with `If` nodes, over ours, leaving at exit 1",
            found[0][3], None,
            note="by exit: " + " ".join(f"{branched:.3f}" for *_, branched in found.values())),
    ]  # fmt: skip


def _branching(
    path: Path, whole: Path, manifest: Manifest
) -> Callable[[Arrays, int], Outputs]:
    """Returns what runs a graph whose `If` nodes leave at an exit, the same for all calls.

    Args:
        path: Where the graph is written the first time.
        whole: The graph with all heads, in the order of the route.
        manifest: Names what each head answers.
    """
    route, (output,) = manifest.configuration("route").route, manifest.outputs
    if not path.exists():
        model = ir.load(whole)
        answers = [[stage.answers.get(output.name, output.name)] for stage in route]
        _branch_at_exits(model, pieces_of(model.graph, answers))
        ir.save(model, path, external_data=f"{path.name}.data")
    run, exits = plain_session(path), len(route) - 1

    def leaving(case: Arrays, at: int) -> Outputs:
        thresholds = np.full(exits, _GO_ON, np.float32)
        thresholds[at:] = _LEAVE
        return run({**case, _THRESHOLDS: thresholds})

    return leaving


def _branch_at_exits(model: ir.Model, pieces: Sequence[Piece]) -> None:
    """Puts all that lies behind an exit into a branch, which contains the next one's."""
    graph, exits = model.graph, len(pieces) - 1
    thresholds = ir.val(_THRESHOLDS, dtype=ir.DataType.FLOAT, shape=ir.Shape([exits]))
    graph.inputs.append(thresholds)
    parts, placed = [], set[ir.Node]()
    for piece in pieces:
        parts.append([node for node in piece.nodes if node not in placed])
        placed |= set(piece.nodes)
    for part in parts[1:]:
        graph.remove(part)
    answer = pieces[-1].answers[0]
    graph.outputs.clear()
    for number in reversed(range(exits)):
        own = pieces[number].answers[0]
        softmax = ir.node("Softmax", [own])
        most = ir.node("ReduceMax", [softmax.outputs[0]], {"keepdims": 0})
        at = ir.node("Constant", [], {"value": ir.tensor(np.array(number, np.int64))})
        least = ir.node("Gather", [thresholds, at.outputs[0]])
        leaves = ir.node("Greater", [most.outputs[0], least.outputs[0]])
        kept = ir.node("Identity", [own])
        kept.outputs[0].shape, kept.outputs[0].type = own.shape, own.type
        chosen = ir.node("If", [leaves.outputs[0]], {
            "then_branch": ir.Graph([], kept.outputs, nodes=[kept], name=f"leave{number}"),
            "else_branch": ir.Graph(
                [], [answer], nodes=parts[number + 1], name=f"behind{number}"
            ),
        })  # fmt: skip
        answer = chosen.outputs[0]
        answer.shape, answer.type = own.shape, own.type
        made = [softmax, most, at, least, leaves, chosen]
        for node in (*made, kept):
            node.outputs[0].name = f"{own.name}.{node.op_type}"  # unique in all branches
        parts[number] += made
    graph.extend(parts[0][-6:])
    graph.outputs.append(answer)
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)


def _overheads() -> list[Bar]:
    """Returns what a stage costs besides its graph: feed, test, hand over."""
    what = "a stage's own overhead: feed, test of 1,000 classes, hand over"
    per_stage_us = 1000 * hand_over_ms(_CLASSES, calls=500, rounds=15)
    return [Bar("null backend", what, per_stage_us, 15.0, unit="µs")]


def _point(name: str, stages: int) -> OperatingPoint:
    """Returns a point for what is pinned, whose numbers do not matter."""
    upto_ms = tuple(1.0 + stage for stage in range(stages))
    return OperatingPoint(name, 0.0, 1.0, 1.0, upto_ms=upto_ms if stages > 1 else ())


def _simulated() -> list[Bar]:
    """Returns the calls that end late, simulated: throttling, a neighbour, hard deadlines."""
    noise = Noise(latency=0.08, spike_share=0.0)
    scenario = Scenario(
        "hard", "", duration_s=300.0, noise=noise,
        grants=(Grant(latency=0.9, hard=True), Grant(at_s=150.0, latency=0.55, hard=True)),
        slowdowns=(Change(30, 1.5, 40), Change(200, 1.0)),
        neighbour=Neighbour(20.0, 0.5, 1.6),
    )  # fmt: skip
    late = cut = calls = 0
    spread = float(np.exp(2.326 * noise.latency))  # the 99th percentile of the noise
    for seed in range(8):
        points, stops = _random_routes(seed)
        found = replay(replace(scenario, seed=seed), points, stops=stops)
        cut += found.cut_calls
        upto = {point.configuration: point.upto_ms for point in points}
        for record in found.records:
            if record.limit_ms is None:
                continue
            calls += 1
            first, last = (0.0, *upto[record.configuration])[record.stage : record.stage + 2]
            began_s = record.time_s - record.latency_ms / 1000
            slow = scenario.slowdown_at(began_s + 1e-9)
            late += record.latency_ms > record.limit_ms + (last - first) * slow * spread
    note = f"{late} of {calls}; {cut} were cut"
    what = "calls that end later than a hard deadline and the running stage's 99th percentile"
    return [Bar("simulated: hard deadlines", what, late / calls, _LATE, note=note)]


def _random_routes(
    seed: int,
) -> tuple[tuple[OperatingPoint, ...], dict[str, tuple[float, ...]]]:
    """Returns a made-up family whose configurations have four exits each, and their shares."""
    random = np.random.default_rng(seed)
    points, stops = [], {}
    for point in random_family(seed):
        upto = np.append(np.sort(random.uniform(0.2, 0.9, 3)), 1.0)
        shares = random.dirichlet((4, 2, 2, 2))
        upto_ms = tuple((point.p50_ms * upto).tolist())
        middle = float(np.interp(0.5, np.cumsum(shares), upto_ms))
        points.append(
            replace(
                point,
                p50_ms=middle,
                p95_ms=point.p50_ms,
                p99_ms=point.p99_ms,
                upto_ms=upto_ms,
                upto_p99_ms=tuple(1.1 * ms for ms in upto_ms),
            )
        )
        stops[point.configuration] = tuple(shares.tolist())
    return tuple(points), stops


class _Throttled:
    """A backend whose calls take longer as time passes, and which notes what each took."""

    name, threads = "throttled", 1

    def __init__(self, backend: Backend) -> None:
        self._backend, self.began_s = backend, time.perf_counter()
        self.factor = 1.0
        self.took_ms: defaultdict[str, list[float]] = defaultdict(list)
        """What each call of a graph took."""

    def load(self, graph: str) -> Engine:
        """Returns the engine of a graph, slowed."""
        return _ThrottledEngine(self, graph, self._backend.load(graph))

    def sharing(self) -> Sharing:
        """Returns what the backend says."""
        return self._backend.sharing()

    def close(self) -> None:
        """Frees the backend."""
        self._backend.close()


class _ThrottledEngine:
    def __init__(self, owner: _Throttled, graph: str, engine: Engine) -> None:
        self._owner, self._graph, self._engine = owner, graph, engine

    def run(self, inputs: Arrays) -> Outputs:
        start_ns = time.perf_counter_ns()
        outputs = self._engine.run(inputs)
        own_ns = time.perf_counter_ns() - start_ns
        until_ns = start_ns + own_ns * self._owner.factor
        while time.perf_counter_ns() < until_ns:
            pass
        self._owner.took_ms[self._graph].append((time.perf_counter_ns() - start_ns) / 1e6)
        return outputs

    def close(self) -> None:
        self._engine.close()


def _deadlines(folder: Path) -> list[Bar]:
    """Returns the calls that end late on engines that throttle beside another process."""
    bundle = Bundle.open(folder / "exits.skipc")
    case, engines, manifest = (
        bundle.golden_inputs()[0],
        bundle.engine_set("cpu"),
        bundle.manifest,
    )
    at = [entry.name for entry in manifest.configurations].index("route")
    point = points_here(bundle, engines, 1)[at]
    backend = _Throttled(open_backend(bundle, engines, 1))
    family = family_of(bundle, engines)
    family = replace(family, routes={"route": family.routes["route"]})
    records = []
    with AdaptiveEngine(
        [point], manifest.inputs, backend, warm_up=case, family=family
    ) as engine:
        quiet_ms = statistics.median(timed_ms(partial(engine, case)) for _ in range(40))
        engine.budget = Budget(latency_ms=0.9 * quiet_ms, hard=True)
        backend.took_ms.clear()
        with neighbours(HALF_PERIOD_S):
            began_s = time.perf_counter()
            while (passed := (time.perf_counter() - began_s) / _SECONDS) < 1:
                backend.factor = next(f for until, f in _THROTTLED if passed < until)
                engine(case)
                assert engine.last is not None
                records.append(engine.last)
    p99_ms = {graph: float(np.quantile(ms, 0.99)) for graph, ms in backend.took_ms.items()}
    graphs = [stage.graph for stage in manifest.configuration("route").route]
    late = [
        record
        for record in records
        if record.latency_ms > 0.9 * quiet_ms + p99_ms[graphs[record.stage]]
    ]
    counts = np.bincount([record.stage for record in records], minlength=len(graphs))
    stages = " ".join(map(str, counts.tolist()))
    over = sum(not record.within_budget for record in records) / len(records)
    note = (
        f"{len(late)} of {len(records)}, by last stage: {stages}; later than the deadline"
        f" alone {over:.4f}"
    )
    what = (
        "calls that end later than a hard deadline and the running stage's 99th percentile,"
        " throttled, with a neighbour on each core"
    )
    return [Bar(NAME, what, len(late) / len(records), _LATE, note=note)]

"""A network's bars: its build, and ours against plain sessions, an ``If`` graph, PyTorch.

Memory is the proportional set size (PSS) that loading a family added. It, and loading, are
measured in fresh processes, as in an application: every configuration is loaded and stays
loaded. (Loading again what was freed before is faster for plain sessions: they get memory that
the process already holds.)
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from skipc.compiler.axes.units import find_units
from skipc.compiler.graph.index import GraphIndex
from skipc.runtime import AdaptiveEngine, Bundle
from skipc.runtime.backends import open_backend
from skipc.tools.bench.harness import Bar, by_turns_ms, in_fresh_process, ratio, timed_ms
from skipc.tools.bench.networks import RESNET50, build, prepare
from skipc.tools.trtbench.loading import added_bytes, pss_bytes
from skipc.tools.trtbench.plain import plain_session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skipc.compiler.axes.units import Unit
    from skipc.runtime.backends import Arrays
    from skipc.tools.bench.networks import Network

_ROUNDS, _FEW = 30, 10
_FLAGS = "skip"
"""The further input of a graph with ``If`` nodes: per unit whether it is skipped."""
_PROCESSES = 4


def building(network: Network, folder: Path, rounds: int = 3) -> list[Bar]:
    """Builds one and six configurations, alternating; returns the build's bars."""
    prepare(network, folder)
    spent = [
        (build(network, folder, "one"), build(network, folder, "six")) for _ in range(rounds)
    ]
    slower = ratio((six.wall_s, one.wall_s) for one, six in spent)
    larger = max(six.peak_bytes / one.peak_bytes for one, six in spent)
    last = spent[-1][1]
    note = f"six: {last.wall_s:.0f} s, {last.peak_bytes / 1e6:.0f} MB"
    bundles = [Bundle.open(folder / f"{front}.skipc") for front in ("six", "one")]
    six, _ = bundles
    store_bytes = six.file(six.manifest.weights_file).stat().st_size
    store = store_bytes / six.manifest.graphs[0].weights_bytes
    packed, alone = (
        next(f.size_bytes for f in engines.files if f.path == engines.packed_file)
        for engines in (bundle.engine_set("cpu") for bundle in bundles)
    )
    error = max(graph.verification.relative_error for graph in six.manifest.graphs)
    name, off = network.name, "largest error against PyTorch, over the output's range"
    return [
        Bar(name, "weights.bin, over the full configuration's weights", store, 1.01),
        Bar(name, "packed store, over the full configuration's", packed / alone, 1.01),
        Bar(name, "time to build six, over building one", slower, 2.0, note=note),
        Bar(name, "peak memory of building six, over one", larger, 1.5, note=note),
        Bar(name, off, error, 1e-4),
    ]


def memory(network: Network, folder: Path) -> list[Bar]:
    """Returns the memory of all configurations, over the full one's alone."""
    six, one = folder / "six.skipc", folder / "one.skipc"
    IfSession(six)  # writes the graph, outside of what is measured
    ours, alone, plain, branching = (
        statistics.median(in_fresh_process(added_by, how, bundle) for _ in range(3))
        for how, bundle in (("ours", six), ("ours", one), ("plain", six), ("if", six))
    )
    limit, name = 1.10 if network is RESNET50 else 1.15, network.name
    return [
        Bar(name, "memory of all six, over the full configuration alone", ours / alone, limit,
            note=f"{ours / 1e6:.0f} over {alone / 1e6:.0f} MB"),
        Bar(name, "… six plain sessions", plain / alone, None, note=f"{plain / 1e6:.0f} MB"),
        Bar(name, "… one `If` graph", branching / alone, None,
            note=f"{branching / 1e6:.0f} MB"),
    ]  # fmt: skip


def added_by(how: str, path: str) -> int:
    """Returns the bytes that loading and running a family one way adds to this process."""
    import onnxruntime  # noqa: F401  # the library itself is not the family's memory

    bundle = Bundle.open(Path(path))
    case, entries = bundle.golden_inputs()[0], bundle.manifest.configurations
    before = pss_bytes()
    if how == "plain":
        sessions = [
            plain_session(bundle.path / graph.file) for graph in bundle.manifest.graphs
        ]
        for run in sessions:
            run(case)
    elif how == "if":
        branching = IfSession(bundle.path)
        for entry in entries:
            branching.run(entry.taken("skip"), case)
    else:
        engine = AdaptiveEngine.open(bundle.path, threads=1)
        for entry in entries:
            engine.pin(entry.name)
            engine(case)
    added = added_bytes(before, pss_bytes())
    if added is None:
        raise RuntimeError("this system does not tell the memory of a process")
    return added


def loading(network: Network, folder: Path) -> list[Bar]:
    """Returns what loading one more takes: all but the first configuration of the family."""
    pairs: list[tuple[float, float]] = []
    for number in range(_PROCESSES):
        # The one that goes second finds warmer caches: they take turns.
        order = "ours" if number % 2 else "plain"
        pairs += in_fresh_process(load_both, folder / "six.skipc", order)[1:]
    ours_ms, plain_ms = map(statistics.median, zip(*pairs, strict=True))
    what = "loading one more configuration, over a plain session"
    limit, note = 0.15 if network is RESNET50 else 0.5, f"{ours_ms:.1f} over {plain_ms:.0f} ms"
    return [Bar(network.name, what, ratio(pairs), limit, note=note)]


def load_both(path: str, first: str) -> list[tuple[float, float]]:
    """Returns what loading each graph takes, in ms: ours, and a plain session.

    Args:
        path: The bundle.
        first: ``ours`` where ours is loaded first.
    """
    bundle, found = Bundle.open(Path(path)), []
    backend = open_backend(bundle, bundle.engine_set("cpu"), 1)
    held: list[object] = []
    for graph in bundle.manifest.graphs:

        def ours(name: str = graph.name) -> None:
            held.append(backend.load(name))

        def plain(file: str = graph.file) -> None:
            held.append(plain_session(bundle.path / file))

        if first == "ours":
            found.append((timed_ms(ours), timed_ms(plain)))
        else:
            found.append((timed_ms(plain), timed_ms(ours))[::-1])
    return found


def latency(network: Network, folder: Path) -> list[Bar]:
    """Returns the latency of each configuration, and of the first call after a switch."""
    bundle = Bundle.open(folder / "six.skipc")
    case, branching = bundle.golden_inputs()[0], IfSession(bundle.path)
    over_plain, if_over_ours, ours_ms = {}, {}, {}
    with AdaptiveEngine.open(bundle.path, threads=1) as engine:
        ours = partial(engine, case)
        for entry in bundle.manifest.configurations:
            engine.pin(entry.name)
            plain = plain_session(bundle.path / bundle.manifest.graphs_of(entry)[0].file)
            branch = partial(branching.run, entry.taken("skip"), case)
            pairs = by_turns_ms(ours, partial(plain, case), _ROUNDS)
            over_plain[entry.name] = ratio(pairs)
            ours_ms[entry.name] = statistics.median(ms for ms, _ in pairs)
            if_over_ours[entry.name] = ratio(by_turns_ms(branch, ours, _FEW))
        rounds = [_switched(engine, case) for _ in range(_FEW)]
    switches = {name: statistics.median(each[name] for each in rounds) for name in ours_ms}
    slowest, switched = (max(each, key=each.__getitem__) for each in (over_plain, switches))
    listed = " ".join(f"{ms:.1f}" for ms in ours_ms.values())
    full_ms = next(iter(ours_ms.values()))
    eager_ms, compiled_ms = _torch_ms(network, folder / "ckpt.pt", case)
    name = network.name
    return [
        Bar(name, "median latency, over a plain session, worst configuration",
            over_plain[slowest], 1.02, note=f"{slowest}; ours: {listed} ms"),
        Bar(name, "… one graph with `If` nodes, over ours, worst configuration",
            max(if_over_ours.values()), None),
        Bar(name, "… PyTorch eager, over ours, full configuration", eager_ms / full_ms, None),
        Bar(name, "… PyTorch compiled, over ours, full configuration",
            compiled_ms / full_ms, None),
        Bar(name, "first call after a switch, over the steady median",
            switches[switched], 1.10, note=f"worst: {switched}"),
    ]  # fmt: skip


def _switched(engine: AdaptiveEngine, case: Arrays) -> dict[str, float]:
    """Returns each configuration's first call after a switch, over those that follow it."""
    found = {}
    for name in engine.configurations:
        engine.pin(name)
        first_ms, *others_ms = (timed_ms(partial(engine, case)) for _ in range(4))
        found[name] = first_ms / statistics.median(others_ms)
    return found


def _torch_ms(network: Network, checkpoint: Path, case: Arrays) -> tuple[float, float]:
    """Returns the median of a call of PyTorch on one thread: eager, and compiled."""
    import torch

    module = network.made()
    module.load_state_dict(torch.load(checkpoint, weights_only=True))
    inputs = {name: torch.tensor(array) for name, array in case.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        eager, compiled = (partial(each, **inputs) for each in (module, torch.compile(module)))
        eager(), compiled()
        pairs = by_turns_ms(eager, compiled, _FEW)
    torch.set_num_threads(before)
    eager_ms, compiled_ms = map(statistics.median, zip(*pairs, strict=True))
    return eager_ms, compiled_ms


class IfSession:
    """One session that runs every configuration of a bundle whose first one holds all others.

    Args:
        bundle: The bundle; ``.if.onnx`` is written beside it the first time.
    """

    def __init__(self, bundle: Path) -> None:
        opened = Bundle.open(bundle)
        manifest = opened.manifest
        skipped = {name for entry in manifest.configurations for name in entry.taken("skip")}
        model = ir.load(opened.file(manifest.graphs[0].file))
        units = tuple(unit for unit in find_units(model).units if unit.name in skipped)
        self._units = [unit.name for unit in units]
        path = bundle.with_suffix(".if.onnx")
        if not path.exists():
            _branch(model, units)
            ir.save(model, path, external_data=f"{path.name}.data")
        self._run = plain_session(path)

    def run(self, skip: Iterable[str], case: Arrays) -> dict[str, Any]:
        """Returns the outputs with the units of these names skipped."""
        flags = np.array([name in set(skip) for name in self._units], np.bool_)
        return self._run({**case, _FLAGS: flags})


def _branch(model: ir.Model, units: tuple[Unit, ...]) -> None:
    graph = model.graph
    flags = ir.val(_FLAGS, dtype=ir.DataType.BOOL, shape=ir.Shape([len(units)]))
    graph.inputs.append(flags)
    for number, unit in enumerate(units):
        index = GraphIndex(graph)
        join = next(n for n in index.nodes if n.outputs[0].name == unit.join)
        branch = index.only_for(unit.cuts)
        shortcut = join.inputs[unit.shortcut]
        assert shortcut is not None
        anchor = ir.node("Constant", [], {"value": ir.tensor(np.array(number, np.int64))})
        flag = ir.node("Gather", [flags, anchor.outputs[0]], {"axis": 0})
        kept = ir.node("Identity", [shortcut])
        kept.outputs[0].name = f"{unit.join}.kept"
        kept.outputs[0].shape, kept.outputs[0].type = shortcut.shape, shortcut.type
        then = ir.Graph([], [kept.outputs[0]], nodes=[kept], name=f"{unit.join}.then")
        chosen = ir.node("If", [flag.outputs[0]], {"then_branch": then})
        for node in (anchor, flag):
            graph.insert_before(join, node)
        joined = join.outputs[0]
        name = joined.name
        joined.replace_all_uses_with(chosen.outputs[0], replace_graph_outputs=True)
        for node in (*branch, join):
            graph.remove(node)
        joined.name = f"{name}.joined"
        otherwise = ir.Graph([], [joined], nodes=[*branch, join], name=f"{name}.else")
        chosen.attributes.add(ir.AttrGraph("else_branch", otherwise))
        chosen.outputs[0].name = name
        chosen.outputs[0].shape, chosen.outputs[0].type = joined.shape, joined.type
        graph.insert_after(flag, chosen)
    common.RemoveUnusedNodesPass()(model)

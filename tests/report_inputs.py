"""Bundles and results for `skipc report`: any number of configurations, units and names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from skipc.compiler.bundle.files import write_json
from skipc.runtime.backends.phases import Wait, Way
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.device import Conditions
from skipc.runtime.bundle.manifest import (
    FileEntry,
    GraphEntry,
    Manifest,
    OptionEntry,
    Provenance,
    Recipe,
    StoredTensor,
    Verification,
)
from skipc.runtime.bundle.records import written
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.tools.report.subnets import MODULE_KEY
from skipc.tools.trtbench.latency import Latency, Times
from skipc.tools.trtbench.loop import Stop
from skipc.tools.trtbench.report import (
    DeviceShare,
    Energy,
    Measured,
    Memory,
    MeterInfo,
    PhaseSummary,
    PlainCalls,
    Regime,
    Report,
    Share,
    Switching,
)
from tests.bundles import plain_entry, skip_network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TENSOR_BYTES = 4096
NASTY = (
    *("</script><script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a'b\"c&amp;d"),
    *("%{x} <b>bold</b> $x$", "two\nlines \x1b[31m", "\ud800", "#ffffff", "x" * 300),
)


def write_family(
    path: Path,
    skips: Mapping[str, Sequence[str]],
    units: Sequence[str],
    *,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    not_skipped: Sequence[str] = (),
    named: bool = True,
    model: str = "toy",
) -> Bundle:
    """Writes a bundle whose graphs hold, for each unit kept, a node with a tensor of its own.

    Args:
        path: The bundle's folder.
        skips: By configuration, the units that it skips.
        units: All units, in network order.
        metrics: By configuration; by default an accuracy that falls with what is skipped.
        not_skipped: Units whose node stays in every graph, whatever the manifest says.
        named: Whether the nodes carry their module's path.
        model: What the manifest says of the model.
    """
    (path / "golden").mkdir(parents=True)
    (path / "weights.bin").write_bytes(bytes(TENSOR_BYTES * (len(units) + 1)))
    (path / "golden/inputs.npz").write_bytes(b"inputs")
    ends = (TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),)
    graphs, entries = [], []
    for index, (name, skip) in enumerate(skips.items()):
        kept = [unit for unit in units if unit not in skip or unit in not_skipped]
        graph = _graph(kept, [units.index(unit) + 1 for unit in kept], named)
        (path / f"{index}.onnx").write_bytes(graph.SerializeToString())
        (path / f"golden/{index}.npz").write_bytes(b"outputs")
        own: Mapping[str, float] = {"accuracy": 0.99 - 0.01 * len(skip) / len(units)}
        entries.append(
            plain_entry(
                name,
                [unit for unit in units if unit in skip],
                f"golden/{index}.npz",
                own if metrics is None else metrics[name],
                f"graph{index}",
            )
        )
        graphs.append(
            GraphEntry(
                name=f"graph{index}",
                network="",
                file=f"{index}.onnx",
                inputs=ends[0],
                outputs=ends[1],
                macs=1000 * (len(units) - len(skip)) + 500,
                parameters=len(kept),
                weights_bytes=TENSOR_BYTES * (len(kept) + 1),
                own_bytes=0,
                verification=Verification("pytorch", 2, 1e-6, 1e-7 * index, 1e-4, {"y": 1.0}),
            )
        )
    manifest = Manifest(
        name=path.stem,
        provenance=Provenance("2026-01-01T00:00:00Z", "fp32", {"skipc": "0"}),
        recipe=Recipe("cpu"),
        inputs=ends[0],
        outputs=ends[1],
        dimensions=(),
        networks=(skip_network((OptionEntry(unit, 10, 1000) for unit in units), model),),
        graphs=tuple(graphs),
        configurations=tuple(entries),
        weights_file="weights.bin",
        weights=tuple(
            StoredTensor(f"{index:064x}", TENSOR_BYTES * index, TENSOR_BYTES)
            for index in range(len(units) + 1)
        ),
        golden_inputs="golden/inputs.npz",
        files=tuple(
            FileEntry(
                file.relative_to(path).as_posix(),
                file.stat().st_size,
                hashlib.sha256(file.read_bytes()).hexdigest(),
            )
            for file in sorted(path.rglob("*"))
            if file.is_file()
        ),
    )
    (path / "manifest.json").write_text(json.dumps(written(manifest)), encoding="utf-8")
    return Bundle.open(path)


def report_of(
    bundle: Bundle, *, threads: int = 1, meter: bool = False, slower: float = 1.0
) -> Report:
    """Returns results for every configuration of a bundle: what computes less is faster."""
    entries = bundle.manifest.configurations
    names = [entry.name for entry in entries]
    macs = {entry.name: bundle.manifest.macs(entry) for entry in entries}
    medians = {name: slower * macs[name] / max(macs.values()) for name in names}
    regime = Regime(
        created_utc="2026-01-02T00:00:00+00:00",
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        backend="onnxruntime-cpu",
        target="cpu",
        threads=threads,
        device="a CPU",
        power_mode="",
        versions={"skipc": "0.1.0"},
        inputs={"x": "1x4 float32"},
        cases=2,
        stop=Stop(200.0, 1.0, 10),
        average_runs=10,
        warm_up_rounds=10,
        meter=MeterInfo("model:5", "nothing measured", True) if meter else None,
        before=Conditions(41.0, 2000.0, None),
        after=Conditions(None, None, None),
        way=None,
        streams=1,
    )
    switching = Switching(
        20,
        medians,
        {a: {b: 1.1 * medians[b] for b in names if b != a} for a in names},
    )
    latencies = {name: _latency(median_ms) for name, median_ms in medians.items()}
    reference = latencies[names[0]]
    return Report(
        regime,
        names[0],
        tuple(
            Measured(
                name=name,
                graphs=tuple(graph.name for graph in bundle.manifest.graphs_of(entry)),
                accuracy=entry.metrics.get("accuracy"),
                memory=Memory(
                    Share(0, bundle.manifest.graphs_of(entry)[0].weights_bytes),
                    None,
                    DeviceShare(0, 0, 0),
                ),
                load_ms=1.5,
                load_parts=None,
                first_call_ms=2.0,
                latency=latencies[name],
                over_reference=None if name == names[0] else latencies[name].over(reference),
                energy=Energy.of((5 * medians[name], 5.2 * medians[name])) if meter else None,
            )
            for name, entry in zip(names, entries, strict=True)
        ),
        switching if len(names) > 1 else None,
        "",
    )


def with_plain(report: Report) -> Report:
    """Returns results that hold plain sessions, too: a quarter slower."""
    return replace(report, configurations=tuple(map(_with_plain, report.configurations)))


def _with_plain(entry: Measured) -> Measured:
    ours = entry.latency
    latency = None if ours is None else _latency(1.25 * ours.median_ms, wobble=7)
    over = None if ours is None or latency is None else latency.over(ours)
    return replace(entry, plain=PlainCalls(4.5, 3.0, 1e-7, latency, over))


def with_phases(report: Report, *, transfers: bool = True) -> Report:
    """Returns results as of a GPU: calls taken apart, memory on host and device."""
    return replace(
        report,
        regime=replace(report.regime, way=Way(True, transfers, Wait.DRIVER)),
        configurations=tuple(
            replace(
                entry,
                phases=_phases(entry.latency.median_ms, transfers),
                memory=Memory(
                    entry.memory.disk,
                    Share(2_000_000, 30_000_000),
                    DeviceShare(40_000_000, 8_000_000, 52_000_000),
                ),
            )
            for entry in report.configurations
            if entry.latency is not None
        ),
    )


def _phases(median_ms: float, transfers: bool) -> PhaseSummary:
    shares = (1.0, 0.05, 0.125, 0.75, 0.0625)
    latency, enqueue, h2d, compute, d2h = (
        Times(0.9 * ms, ms, ms, 2 * ms, {}) for ms in (share * median_ms for share in shares)
    )
    moved = (h2d, d2h) if transfers else (None, None)
    return PhaseSummary(300, True, latency, enqueue, moved[0], compute, moved[1])


def write_results(path: Path, report: Report) -> Path:
    """Writes results as ``trtbench --json`` does."""
    write_json(path, written(report))
    return path


def _latency(median_ms: float, wobble: int = 5) -> Latency:
    steps = [1 + 0.001 * (i % wobble) for i in range(30)]
    return Latency(
        runs=300,
        throughput_per_s=1000 / median_ms,
        total_ms=300 * median_ms,
        min_ms=0.9 * median_ms,
        max_ms=9.0 * median_ms,
        mean_ms=1.05 * median_ms,
        median_ms=median_ms,
        lowest_average_ms=median_ms,
        highest_average_ms=1.1 * median_ms,
        percentiles_ms={"90": 1.1 * median_ms, "99": 1.4 * median_ms},
        coefficient_of_variation=0.01,
        batch_medians_ms=tuple(median_ms * step for step in steps),
    )


def _graph(kept: Sequence[str], places: Sequence[int], named: bool) -> onnx.ModelProto:
    nodes, tensors, value = [], [_tensor("stem", 0)], "x"
    for index, (unit, place) in enumerate(zip(kept, places, strict=True)):
        node = helper.make_node("Add", [value, f"w{place}"], [f"v{index}"])
        if named:
            entry = node.metadata_props.add()
            entry.key, entry.value = MODULE_KEY, _module(unit)
        nodes.append(node)
        tensors.append(_tensor(f"w{place}", place))
        value = f"v{index}"
    nodes.append(helper.make_node("Add", [value, "stem"], ["y"]))
    shape = [1, 4]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        tensors,
    )
    return helper.make_model(graph)


def _module(unit: str) -> str:
    # ONNX holds UTF-8, JSON may hold half a character.
    text = unit.encode("utf-8", "replace").decode()
    return f"{text.partition('#')[0]}.branch"


def _tensor(name: str, place: int) -> TensorProto:
    tensor = TensorProto(
        name=name, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL
    )
    tensor.dims.extend([1024])
    told = {"location": "weights.bin", "offset": place * TENSOR_BYTES, "length": TENSOR_BYTES}
    for key, value in told.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor

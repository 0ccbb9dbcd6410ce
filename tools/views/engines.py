"""What ``skipc show`` and ``skipc finish`` print of a target: engines, tables, an estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.targets.latency import unstable
from skipc.profiles import ProfileError, load_profile
from skipc.runtime.backends.tensorrt.library import BACKENDS as TENSORRT
from skipc.runtime.bundle.device import this_device
from skipc.runtime.bundle.measured import all_tables
from skipc.tools.console import facts, plural, size_text, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from skipc.compiler.graph.roofline import Roofline
    from skipc.profiles import Board
    from skipc.runtime import Bundle
    from skipc.runtime.bundle.device import Device
    from skipc.runtime.bundle.engines import EngineEntry, EngineSet
    from skipc.tools.console import Rows


def print_engines(engines: EngineSet, out: Console) -> None:
    """Prints one target's engines: latency on the host that built them, and sizes."""
    out.print(f"\ntarget {engines.target}", style="bold")
    made = [("backend", engines.backend), ("host", _host(engines.host))]
    on_device = engines.backend in TENSORRT
    out.print(facts(*made, *(_on_device(engines) if on_device else _packed(engines))))
    out.print()
    counts = sorted({row.threads for entry in engines.engines for row in entry.latency})
    if on_device:  # disk, host and device hold different things
        names = [">p50/p99 ms\n" for _ in counts]
        names += [">disk\nown", ">disk\nshared", ">device\nown", ">workspace\nshared"]
    else:
        names = [f">p50/p99 ms\n{plural(count, 'thread')}" for count in counts]
        names += [">\nweights", ">\nown"]
    rows = table("\ngraph", *names)
    plans = {file.path: file.size_bytes for file in engines.files}
    for entry in engines.engines:
        sizes: tuple[int | None, ...] = (entry.weights_bytes, entry.own_bytes)
        if on_device:
            held = (entry.device_bytes, entry.workspace_bytes)
            known = held if _is_measured(engines) else (None, None)
            sizes = (plans[entry.file], entry.weights_bytes, *known)
        told = ("-" if size is None else size_text(size) for size in sizes)
        rows.add_row(entry.graph, *_times(entry, counts), *told)
    out.print(rows)
    if any(entry.by_size for entry in engines.engines):
        out.print()
        out.print(_by_size(engines))
    found = unstable(engines.engines)
    if found:
        name, row = max(found.items(), key=lambda each: each[1].p99_ms / each[1].p50_ms)
        out.print(
            f"\nUnstable latency of {plural(len(found), 'graph')}: {name} took"
            f" {row.p50_ms:.3g} ms, and one call of a hundred {row.p99_ms:.3g} ms or more."
            " Something else ran beside it. Stop it and measure again: `skipc finish` here, or"
            " `trtbench BUNDLE --update` on the device."
        )


def _by_size(engines: EngineSet) -> Rows:
    """Returns the medians at the sizes that were measured beside the typical ones."""
    measured = [row for entry in engines.engines for row in entry.by_size]
    threads = min(row.threads for row in measured)
    names = "x".join(measured[0].sizes)
    texts = dict.fromkeys("x".join(map(str, row.sizes.values())) for row in measured)
    rows = table(
        f"p50 ms, {plural(threads, 'thread')}\nat {names}", *(f">\n{t}" for t in texts)
    )
    for entry in engines.engines:
        told = {
            "x".join(map(str, row.sizes.values())): f"{row.p50_ms:.2f}"
            for row in entry.by_size
            if row.threads == threads
        }
        rows.add_row(entry.graph, *(told.get(text, "-") for text in texts))
    return rows


def _packed(engines: EngineSet) -> list[tuple[str, str]]:
    packed = [file for file in engines.files if file.path == engines.packed_file]
    told = [("weights", f"{size_text(f.size_bytes)} packed in {f.path}") for f in packed]
    if engines.switches is not None:
        count = plural(len(engines.switches.units), "unit")
        told.append(("engine", f"one for all, which switches {count}"))
    return told + ([("chosen", engines.chosen)] if engines.chosen else [])


def _on_device(engines: EngineSet) -> list[tuple[str, str]]:
    weights = "in each plan: they could not be left out without a GPU"
    if any(entry.weights_bytes for entry in engines.engines):
        weights = "one file on disk and in host memory (shared by all)"
    device = (
        "not known: no GPU was here to check or measure the engines on. On the device run"
        " `skipc check`"
    )
    if _is_measured(engines):
        workspace_bytes = max(entry.workspace_bytes for entry in engines.engines)
        device = (
            "a copy of the weights per loaded engine; one workspace of"
            f" {size_text(workspace_bytes)} for all"
        )
    return [("weights", weights), ("device", device)]


def _is_measured(engines: EngineSet) -> bool:
    return any(entry.latency for entry in engines.engines)


def _times(entry: EngineEntry, counts: list[int]) -> list[str]:
    told = {row.threads: f"{row.p50_ms:.2f} / {row.p99_ms:.2f}" for row in entry.latency}
    return [told.get(count, "-") for count in counts]


def _host(host: Mapping[str, str]) -> str:
    """Returns the host key on one line; what has many words is counted."""
    parts = []
    for key, value in host.items():
        words = value.split()
        label = key.replace("_", " ").replace("cpu", "CPU")
        many = len(words) > 4 and key == "cpu_features"
        parts.append(f"{len(words)} {label}" if many else f"{label} {value}")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Estimates:
    """The least latency of every graph on one board, at the peak rate of a precision."""

    board: Board
    arithmetic: str
    rooflines: dict[str, Roofline]


def estimates_of(bundle: Bundle) -> Estimates | None:
    """Returns estimates for the target that ``bundle`` was built for.

    None where its profile has no numbers, it has engines already (they are measured), a
    graph is damaged, or onnx_ir is not installed, which reads the graphs.
    """
    try:
        import onnx_ir as ir
    except ImportError:
        return None
    from skipc.compiler.errors import TargetError
    from skipc.compiler.graph.roofline import estimate
    from skipc.compiler.targets import target_of

    manifest = bundle.manifest
    try:
        profile = load_profile(target_of(bundle, None))
    except ProfileError:
        return None  # a bundle of another version, or altered: `finish` will say so
    if not profile.boards or profile.name in bundle.targets():
        return None
    board, batch = profile.boards[0], manifest.batch.typical if manifest.batch else 1
    arithmetic = manifest.provenance.precision
    if arithmetic == "fp32" and "tf32" in board.peak_tops:
        arithmetic = "tf32"  # what TensorRT computes float32 products in
    try:
        rooflines = {
            graph.name: estimate(ir.load(bundle.graph_file(graph)), batch, board, arithmetic)
            for graph in manifest.graphs
        }
    except TargetError:
        return None  # the profile lacks a number
    except Exception:
        return None  # a damaged graph, which `skipc check` names; the parser has many errors
    return Estimates(board, arithmetic, rooflines)


def print_estimates(found: Estimates, target: str, out: Console) -> None:
    """Prints the estimates, marked as such."""
    out.print(f"\nestimate for {target} ({found.board.name})", style="bold")
    out.print(
        f"  The least time that arithmetic ({found.arithmetic}) and memory traffic take at the"
        " board's peak; nothing was measured. `skipc finish` on the device measures.\n",
        soft_wrap=True,
    )
    rows = table("graph", ">at least", ">compute", ">memory", ">traffic", "limit")
    for name, roofline in found.rooflines.items():
        rows.add_row(
            name,
            f"{roofline.latency_ms:.3g} ms",
            f"{roofline.compute_ms:.3g} ms",
            f"{roofline.memory_ms:.3g} ms",
            size_text(roofline.bytes),
            roofline.limit,
        )
    out.print(rows)


def print_measured(bundle: Bundle, out: Console) -> None:
    """Prints a line for each table: for what it holds, and the range of what it says."""
    found = all_tables(bundle)
    if not found:
        return
    engines = {name: bundle.engine_set(name).files_sha256() for name in bundle.targets()}
    here = this_device()
    out.print("\nmeasured on devices", style="bold")
    rows = table("target", ">threads", "day", ">p50 ms", ">mJ", "device")
    for one in found:
        key = one.key
        rows.add_row(
            key.target,
            str(key.threads),
            one.created_utc[:10],
            _range([row.p50_ms for row in one.rows]),
            _range([row.energy_mj for row in one.rows if row.energy_mj is not None]),
            _device(key.device, here)
            if engines.get(key.target) == key.engines_sha256
            else "not used: of engines that were replaced since",
        )
    out.print(rows)


def _device(device: Device, here: Device) -> str:
    if device == here:
        return "this one, as it is now"
    mode = device.power_mode or "mode not told"
    return f"this one, {mode}" if device.name == here.name else f"{device.name}; {mode}"


def _range(values: list[float]) -> str:
    if not values:
        return "-"
    low, high = min(values), max(values)
    return f"{low:.3g}" if low == high else f"{low:.3g}-{high:.3g}"

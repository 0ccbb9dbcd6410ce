"""What ``skipc show`` and ``skipc finish`` print of one target's engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime.backends.tensorrt.library import BACKENDS as TENSORRT
from skipc.tools.console import plural, size_text, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from skipc.runtime.bundle.engines import EngineEntry, EngineSet


def print_engines(engines: EngineSet, out: Console) -> None:
    """Prints one target's engines: latency on the host that built them, and sizes."""
    out.print(f"\ntarget {engines.target}", style="bold")
    out.print(f"  backend  {engines.backend}")
    out.print(f"  host     {_host(engines.host)}")
    if engines.backend in TENSORRT:
        _print_on_device(engines, out)
    else:
        _print_packed(engines, out)


def _print_packed(engines: EngineSet, out: Console) -> None:
    packed = [file for file in engines.files if file.path == engines.packed_file]
    if packed:
        out.print(f"  weights  {size_text(packed[0].size_bytes)} packed in {packed[0].path}")
    out.print()
    counts = _counts(engines)
    names = [f">p50/p99 ms\n{plural(count, 'thread')}" for count in counts]
    rows = table("\ngraph", *names, ">\nweights", ">\nown")
    for entry in engines.engines:
        sizes = (entry.weights_bytes, entry.own_bytes)
        rows.add_row(entry.graph, *_times(entry, counts), *map(size_text, sizes))
    out.print(rows)


def _print_on_device(engines: EngineSet, out: Console) -> None:
    """Prints engines of a GPU, where disk, host and device hold different things."""
    plans = {file.path: file.size_bytes for file in engines.files}
    stripped = any(entry.weights_bytes for entry in engines.engines)
    measured = any(entry.latency for entry in engines.engines)
    workspace_bytes = max(entry.workspace_bytes for entry in engines.engines)
    if stripped:
        out.print("  weights  one file on disk and in host memory (shared by all)")
    else:
        out.print("  weights  in each plan: they could not be left out without a GPU")
    if measured:
        out.print(f"  device   a copy of the weights per loaded engine; one workspace of"
                  f" {size_text(workspace_bytes)} for all", soft_wrap=True)  # fmt: skip
    else:
        out.print("  device   not known: no GPU was here to check or measure the engines on."
                  " On the device run `skipc check`", soft_wrap=True)  # fmt: skip
    out.print()
    counts = _counts(engines)
    names = [">p50/p99 ms\n" for _ in counts]
    rows = table(
        "\ngraph", *names, ">disk\nown", ">disk\nshared", ">device\nown",
        ">workspace\nshared",
    )  # fmt: skip
    for entry in engines.engines:
        rows.add_row(
            entry.graph,
            *_times(entry, counts),
            size_text(plans[entry.file]),
            size_text(entry.weights_bytes),
            size_text(entry.device_bytes) if measured else "-",
            size_text(entry.workspace_bytes) if measured else "-",
        )
    out.print(rows)


def _counts(engines: EngineSet) -> list[int]:
    return sorted({row.threads for entry in engines.engines for row in entry.latency})


def _times(entry: EngineEntry, counts: list[int]) -> list[str]:
    by_threads = {row.threads: row for row in entry.latency}
    return [
        f"{by_threads[count].p50_ms:.2f} / {by_threads[count].p99_ms:.2f}"
        if count in by_threads
        else "-"
        for count in counts
    ]


def _host(host: Mapping[str, str]) -> str:
    """Returns the host key on one line; what has many words is counted."""
    parts = []
    for key, value in host.items():
        words = value.split()
        label = key.replace("_", " ").replace("cpu", "CPU")
        many = len(words) > 4 and key == "cpu_features"
        parts.append(f"{len(words)} {label}" if many else f"{label} {value}")
    return ", ".join(parts)

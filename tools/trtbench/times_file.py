"""``--exportTimes``: every call's times, in the form that ``trtexec`` writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.tools.trtbench.loop import Calls


def times_paths(path: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Returns each configuration's file: ``times.fast.json`` for ``times.json`` and ``fast``.

    A single configuration gets ``path`` itself. What a file name cannot hold is escaped.
    """
    if len(names) == 1:
        return {names[0]: path}
    return {
        name: path.with_name(f"{path.stem}.{quote(name, safe='')}{path.suffix}")
        for name in names
    }


def encoded_times(calls: Calls) -> bytes:
    """Returns the file's content: a list with one object for each call, times in ms.

    A call on a CPU is computation from its start to its end: nothing is enqueued or moved, so
    those intervals are empty and ``h2dMs`` and ``d2hMs`` are 0.
    """
    entries = []
    rows = zip(calls.starts_ns.tolist(), calls.ends_ns.tolist(), strict=True)
    for start_ns, end_ns in rows:
        start_ms, end_ms = start_ns / 1e6, end_ns / 1e6
        took_ms = (end_ns - start_ns) / 1e6
        entries.append(
            {
                "startEnqMs": start_ms,
                "endEnqMs": start_ms,
                "startH2dMs": start_ms,
                "endH2dMs": start_ms,
                "startComputeMs": start_ms,
                "endComputeMs": end_ms,
                "startD2hMs": end_ms,
                "endD2hMs": end_ms,
                "h2dMs": 0.0,
                "computeMs": took_ms,
                "d2hMs": 0.0,
                "latencyMs": took_ms,
            }
        )
    return (json.dumps(entries, indent=1) + "\n").encode()

"""``--exportTimes``: every call's times, in the form that ``trtexec`` writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.tools.trtbench.running.loop import Calls
    from skipc.tools.trtbench.running.phases import PhasedCalls


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


def encoded_phases(calls: PhasedCalls) -> bytes:
    """Returns the file's content for calls that were taken apart.

    Enqueueing is on the host's clock. The device's phases are put on it by taking the first
    event of a call, recorded on an idle stream, as passed when the call began.
    """
    entries = []
    rows = zip(
        *(calls.starts_ns.tolist(), calls.enqueue_starts_ns.tolist()),
        *(calls.enqueue_ends_ns.tolist(), calls.h2d_ms.tolist()),
        *(calls.compute_ms.tolist(), calls.d2h_ms.tolist()),
        strict=True,
    )
    for start_ns, enqueue_start_ns, enqueue_end_ns, h2d_ms, compute_ms, d2h_ms in rows:
        start_ms = start_ns / 1e6
        computing_ms = start_ms + h2d_ms
        computed_ms = computing_ms + compute_ms
        entries.append(
            {
                "startEnqMs": enqueue_start_ns / 1e6,
                "endEnqMs": enqueue_end_ns / 1e6,
                "startH2dMs": start_ms,
                "endH2dMs": computing_ms,
                "startComputeMs": computing_ms,
                "endComputeMs": computed_ms,
                "startD2hMs": computed_ms,
                "endD2hMs": computed_ms + d2h_ms,
                "h2dMs": h2d_ms,
                "computeMs": compute_ms,
                "d2hMs": d2h_ms,
                "latencyMs": h2d_ms + compute_ms + d2h_ms,
            }
        )
    return (json.dumps(entries, indent=1) + "\n").encode()

"""A reader of ``--exportTimes``, written for the format that ``trtexec`` writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def read_as_trtexec_writes(path: Path) -> list[dict[str, float]]:
    """Reads a file of --exportTimes, as a reader written for trtexec's format does."""
    keys = [
        *("startEnqMs", "endEnqMs", "startH2dMs", "endH2dMs", "startComputeMs"),
        *(
            "endComputeMs",
            "startD2hMs",
            "endD2hMs",
            "h2dMs",
            "computeMs",
            "d2hMs",
            "latencyMs",
        ),
    ]
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        assert list(entry) == keys
        assert all(type(value) is float for value in entry.values())
        for part in ("h2d", "compute", "d2h"):
            name = part[0].upper() + part[1:]
            took_ms = entry[f"end{name}Ms"] - entry[f"start{name}Ms"]
            assert entry[f"{part}Ms"] == pytest.approx(took_ms, abs=1e-6)
        assert entry["latencyMs"] == entry["h2dMs"] + entry["computeMs"] + entry["d2hMs"]
        # No order to endD2hMs: a busy host still enqueues when a double's device is through.
        assert entry["startEnqMs"] <= entry["endEnqMs"]
    starts = [entry["startComputeMs"] for entry in entries]
    assert starts == sorted(starts)
    return entries

"""``trtbench --infStreams``: several callers at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from skipc.tools.trtbench.report import read_report
from tests.command_line import trtbench
from tests.tools.trtbench.test_command import QUICK, read_as_trtexec_writes
from tests.tools.trtbench.test_plain import told_late

if TYPE_CHECKING:
    from pathlib import Path


def test_a_family_is_measured_by_two_callers(work: Path) -> None:
    ended = trtbench(
        *(work / "ckpt.skipc", *QUICK, "--infStreams=2", "--baseline=plain"),
        *("--json", work / "found.json", "--exportTimes", work / "times.json"),
    )
    assert ended.code == 0, ended.err
    assert "2 calls at a time, begun together" in ended.out
    assert "Warning: 2 calls run at the same time and share the cores" in ended.out
    found = json.loads((work / "found.json").read_text(encoding="utf-8"))
    assert found["regime"]["streams"] == 2
    for entry in found["configurations"]:
        latency = entry["latency"]
        assert latency["runs"] == 24
        assert latency["throughput_per_s"] == pytest.approx(24_000 / latency["total_ms"])
        times = read_as_trtexec_writes(work / f"times.{entry['name']}.json")
        turns_ms = [
            max(t["endD2hMs"] for t in turn) - min(t["startEnqMs"] for t in turn)
            for turn in zip(times[::2], times[1::2], strict=True)
        ]
        assert sum(turns_ms) == pytest.approx(latency["total_ms"])
        assert entry["plain"]["latency"]["runs"] == 24
    report = read_report(work / "found.json")
    assert report.regime.streams == 2
    assert trtbench(work / "ckpt.skipc", *QUICK, "--json", work / "one.json").code == 0
    compared = trtbench("--compare", work / "one.json", work / "found.json")
    assert "calls at a time: 1, then 2" in compared.out


MISTAKES = {
    "none": (("--infStreams=0",), "0 is not in the range"),
    "many": (("--infStreams=1000",), "1000 is not in the range"),
    "meter": (("--infStreams=2", "--meter=model:5"), "energy is measured of one call"),
    "loading": (("--infStreams=2", "--timeDeserialize"), "it ends after the first calls"),
    "update": (("--infStreams=2", "--update"), "what a call takes alone, not one of 2"),
    "null": (("--infStreams=2", "--target=null"), "the backend 'null' runs one call at"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(work: Path, case: str) -> None:
    words, expected = MISTAKES[case]
    assert expected in told_late(trtbench(work / "ckpt.skipc", *words))

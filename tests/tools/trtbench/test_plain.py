"""``trtbench --baseline plain``: plain sessions in the same loop."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from skipc.tools.trtbench.report import read_report
from tests.bundles import edit_json, list_anew
from tests.command_line import all_files, told, trtbench

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

QUICK = ("--warmUp", 1, "--duration", 0, "--iterations", 12, "--threads", 1)


def found(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def told_late(ended: Any) -> str:
    """Returns what was said of a mistake that only loading could show."""
    assert ended.code == 2, ended
    assert ended.out == ""
    assert "Traceback" not in ended.err
    return str(ended.err.rpartition("Error: ")[2])


def test_plain_sessions_take_turns_with_the_engines(work: Path) -> None:
    before = all_files(work / "ckpt.skipc")
    ended = trtbench(
        *(work / "ckpt.skipc", *QUICK, "--baseline", "plain", "--json", work / "found.json"),
        *("--exportTimes", work / "times.json"),
        columns=80,
    )
    assert ended.code == 0, ended.err
    assert max(map(len, ended.out.partition("\nwritten")[0].splitlines())) <= 80
    flat = " ".join(ended.out.split())
    assert "plain sessions ms ours 95 %" in flat
    assert "plain sessions ms ms by" in flat
    for entry in found(work / "found.json")["configurations"]:
        plain = entry["plain"]
        assert plain["latency"]["runs"] == 12
        assert plain["relative_error"] < 1e-5
        assert plain["load_ms"] > 0
        over = plain["over_ours"]
        assert over["low"] <= over["ratio"] <= over["high"]
    # Nothing of it goes into the bundle, or into the file of our own times.
    assert all_files(work / "ckpt.skipc") == before
    assert len(found(work / "times.fast.json")) == 12
    assert list(read_report(work / "found.json").plain) == ["full", "fast"]
    without = trtbench(work / "ckpt.skipc", *QUICK, "--json", work / "without.json")
    assert without.code == 0, without.err
    compared = trtbench("--compare", work / "without.json", work / "found.json")
    assert "baselines in the loop: none, then plain" in compared.out


def test_a_bundle_laid_out_with_hard_links_is_measured(work: Path) -> None:
    """As ``cp -al``, ``rsync --link-dest`` and disks that store equal files lay it out."""
    shutil.copytree(work / "ckpt.skipc", work / "linked.skipc", copy_function=os.link)
    words = ("--baseline", "plain", "--json", work / "found.json")
    ended = trtbench(work / "linked.skipc", *QUICK, *words)
    assert ended.code == 0, ended.err
    assert list(read_report(work / "found.json").plain) == ["full", "fast"]
    assert trtbench(work / "linked.skipc", *QUICK, "--update").code == 0
    assert not (work / "ckpt.skipc/measured").exists()


def test_a_graph_that_cannot_be_run_is_told_and_the_engines_are_measured(work: Path) -> None:
    (work / "ckpt.skipc/fast.onnx").write_bytes(b"no graph")
    list_anew(work / "ckpt.skipc", "fast.onnx")
    ended = trtbench(
        work / "ckpt.skipc", *QUICK, "--baseline", "plain", "--json", work / "found.json"
    )
    assert ended.code == 0, ended.err
    assert "The baseline plain was not run:" in ended.out
    report = read_report(work / "found.json")
    assert "fast.onnx: not an ONNX graph" in report.plain_not_run
    assert (report.plain, list(report.timed)) == ({}, ["full", "fast"])


def test_other_answers_are_not_compared(work: Path) -> None:
    bundle = work / "ckpt.skipc"
    shutil.copy(bundle / "full.onnx", bundle / "fast.onnx")
    list_anew(bundle, "fast.onnx")
    message = told_late(trtbench(bundle, *QUICK, "--baseline=plain"))
    assert "baseline 'plain', configuration 'fast': its outputs differ" in message
    assert "more than the tolerance of 0.0002. That is twice" in message


def test_loading_of_plain_sessions_alone(work: Path) -> None:
    ended = trtbench(
        *(work / "ckpt.skipc", "--timeDeserialize", "--baseline", "plain", "--threads", 1),
        *("--json", work / "found.json"),
    )
    assert ended.code == 0, ended.err
    assert "over" not in ended.out
    for entry in found(work / "found.json")["configurations"]:
        assert entry["plain"]["load_ms"] > 0
        assert entry["plain"]["latency"] is None


MISTAKES = {
    "name": (("--baseline", "if"), "'if' is not 'plain'"),
    "null": (("--baseline", "plain", "--target", "null"), "the backend 'null' does not"),
    "update": (("--baseline", "plain", "--update"), "--update: with --baseline plain calls"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(work: Path, case: str) -> None:
    words, expected = MISTAKES[case]
    assert expected in told_late(trtbench(work / "ckpt.skipc", *words))


BROKEN = {
    "latency": (lambda plain: plain.update(latency=None), "measured in the same rounds"),
    "error": (lambda plain: plain.update(relative_error=-1), "a number of at least 0"),
    "load": (lambda plain: plain.update(load_ms=0), "'load_ms' must be a number above zero"),
    "key": (lambda plain: plain.update(laod_ms=1), "unknown key 'laod_ms'"),
}


def test_the_document_is_read_strictly(work: Path) -> None:
    path = work / "found.json"
    ended = trtbench(work / "ckpt.skipc", *QUICK, "--baseline", "plain", "--json", path)
    assert ended.code == 0, ended.err
    for name, (change, expected) in BROKEN.items():
        broken = work / f"{name}.json"
        shutil.copy(path, broken)
        edit_json(broken, lambda d, change=change: change(d["configurations"][0]["plain"]))
        assert expected in told(trtbench("--compare", path, broken)), name

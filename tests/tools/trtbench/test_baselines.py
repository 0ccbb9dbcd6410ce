"""``trtbench --baseline``: others run the same family in the same loop."""

from __future__ import annotations

import json
import platform
import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from skipc.tools.trtbench.results.document import read_report
from tests.bundles import edit_json
from tests.command_line import all_files, skipc, told, trtbench
from tests.doubles.gpu import fake_gpu

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

QUICK = ("--warmUp", 1, "--duration", 0, "--iterations", 12, "--threads", 1)


def found(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_all_baselines_take_turns_with_the_engines(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Captured and run as ever, but without the C++ compiler, which takes its time.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    before, threads = all_files(work / "ckpt.skipc"), torch.get_num_threads()
    ended = trtbench(
        *(work / "ckpt.skipc", *QUICK, "--baseline", "all", "--checkpoint", work / "ckpt.pt"),
        *("--configurations", "fast", "--json", work / "found.json"),
        *("--exportTimes", work / "times.json"),
        columns=80,
    )
    assert ended.code == 0, ended.err
    assert max(map(len, ended.out.partition("\nwritten")[0].splitlines())) <= 80
    flat = " ".join(ended.out.split())
    assert "baseline configuration ms ours 95 %" in flat
    assert "baseline configuration ms ms by" in flat
    baselines = found(work / "found.json")["baselines"]
    assert [each["name"] for each in baselines] == ["plain", "if", "eager", "compile"]
    for each in baselines:
        assert each["not_run"] == ""
        (calls,) = each["configurations"]
        assert calls["latency"]["runs"] == 12
        assert calls["relative_error"] < 1e-5
        assert calls["load_ms"] > 0
        over = calls["over_ours"]
        assert over["low"] <= over["ratio"] <= over["high"]
    # Nothing of it goes into the bundle, or into the file of our own times.
    assert all_files(work / "ckpt.skipc") == before
    assert len(found(work / "times.json")) == 12
    assert torch.get_num_threads() == threads
    again = read_report(work / "found.json")
    assert again.regime.versions["torch"] == torch.__version__
    assert [each.name for each in again.baselines] == ["plain", "if", "eager", "compile"]
    without = trtbench(work / "ckpt.skipc", *QUICK, "--json", work / "without.json")
    assert without.code == 0, without.err
    compared = trtbench("--compare", work / "without.json", work / "found.json")
    assert "baselines in the loop: none, then plain, if, eager, compile" in compared.out


def test_a_baseline_that_cannot_run_is_told_and_the_others_are_measured(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    ended = trtbench(
        *(work / "ckpt.skipc", *QUICK, "--baseline", "eager,compile"),
        *("--checkpoint", work / "ckpt.pt", "--json", work / "found.json"),
    )
    assert ended.code == 0, ended.err
    assert "The baseline compile was not run: torch.compile fails" in ended.out
    eager, compiled = found(work / "found.json")["baselines"]
    assert [each["configuration"] for each in eager["configurations"]] == ["full", "fast"]
    assert [each["load_ms"] is None for each in eager["configurations"]] == [False, True]
    assert compiled["configurations"] == []
    assert compiled["not_run"]
    assert read_report(work / "found.json").baselines[1].not_run == compiled["not_run"]


def test_loading_of_baselines_alone(work: Path) -> None:
    ended = trtbench(
        *(work / "ckpt.skipc", "--timeDeserialize", "--baseline", "if,plain", "--threads", 1),
        *("--json", work / "found.json"),
    )
    assert ended.code == 0, ended.err
    assert "over" not in ended.out
    branching, plain = found(work / "found.json")["baselines"]
    assert [each["load_ms"] is None for each in branching["configurations"]] == [False, True]
    assert [each["load_ms"] is None for each in plain["configurations"]] == [False, False]
    assert plain["configurations"][0]["latency"] is None
    assert read_report(work / "found.json").baselines[0].name == "if"


def test_an_if_graph_cannot_hold_norms_of_each_configuration(work: Path) -> None:
    bundle = work / "ckpt.skipc"
    edit_json(bundle / "manifest.json", lambda d: d["provenance"].update(norm="scalar"))
    shutil.rmtree(bundle / "engines")
    assert skipc("finish", bundle, "--target", "cpu").code == 0
    ended = trtbench(bundle, *QUICK, "--baseline", "if")
    assert ended.code == 0, ended.err
    assert "The baseline if was not run: norms are 'scalar'" in ended.out
    asked = (bundle, "--baseline=eager", "--checkpoint", work / "ckpt.pt")
    assert "Give the front that the bundle was built with" in told_late(trtbench(*asked))
    message = told_late(trtbench(*asked, "--front", work / "front.json"))
    assert "its norms are 'shared', those of" in message


def test_an_if_graph_needs_a_configuration_that_holds_all_others(work: Path) -> None:
    bundle = work / "ckpt.skipc"

    def skip_another(document: Any) -> None:
        document["configurations"][0]["skip"] = ["stages.0.0"]

    edit_json(bundle / "manifest.json", skip_another)
    shutil.rmtree(bundle / "engines")
    assert skipc("finish", bundle, "--target", "cpu").code == 0
    ended = trtbench(bundle, *QUICK, "--baseline", "if")
    assert "not run: no configuration of the bundle holds all others" in ended.out
    # The network in PyTorch then skips something else than the graph does.
    asked = (bundle, *QUICK, "--baseline=eager", "--checkpoint", work / "ckpt.pt")
    message = told_late(trtbench(*asked))
    assert "baseline 'eager', configuration 'full': its outputs differ" in message
    assert "more than 0.0002, twice the tolerance" in message


def told_late(ended: Any) -> str:
    """Returns what was said of a mistake that only loading could show."""
    assert ended.code == 2, ended
    assert ended.out == ""
    assert "Traceback" not in ended.err
    return str(ended.err.rpartition("Error: ")[2])


def test_pytorch_does_not_run_an_onnx_graph(work: Path) -> None:
    bundle = work / "again.skipc"
    graph = work / "ckpt.skipc/full.onnx"
    front = ("--front", work / "front.json", "--target", "cpu", "--out", bundle)
    edit_json(work / "front.json", lambda d: d["configurations"].pop())
    assert skipc("build", graph, *front).code == 0
    message = told_late(trtbench(bundle, "--baseline", "plain,eager", "--checkpoint", graph))
    assert "full.onnx: an ONNX graph, which PyTorch does not run. Leave eager" in message


def test_another_checkpoint_is_refused(work: Path) -> None:
    other = torch.load(work / "ckpt.pt")
    torch.save(other, work / "other.pt")
    asked = ("ckpt.skipc", "--baseline=eager", "--checkpoint")
    message = told_late(trtbench(work / asked[0], *asked[1:], work / "other.pt"))
    assert "another checkpoint than the bundle's: its hash begins with" in message
    message = told_late(trtbench(work / asked[0], *asked[1:], work / "none.pt"))
    assert "there is no such file" in message
    front = ("--front", work / "front.json")
    message = told_late(trtbench(work / asked[0], *asked[1:], work / "ckpt.pt", *front))
    assert "Leave --front out" in message


MISTAKES = {
    "name": (("--baseline", "plan"), "no baseline 'plan'. Did you mean 'plain'?"),
    "no checkpoint": (("--baseline", "eager"), "give what BUNDLE was built from with"),
    "no need": (("--checkpoint", "ckpt.pt"), "nothing needs it but --baseline eager"),
    "model": (("--baseline", "if", "--model", "x:y"), "--model: only with --checkpoint"),
    "null": (("--baseline", "plain", "--target", "null"), "the backend 'null' does not"),
    "update": (("--baseline", "plain", "--update"), "--update: with --baseline plain calls"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(work: Path, case: str) -> None:
    words, expected = MISTAKES[case]
    assert expected in told_late(trtbench(work / "ckpt.skipc", *words))


BROKEN = {
    "twice": (lambda d: d["baselines"].append(d["baselines"][0]), "'plain' is given twice"),
    "name": (lambda d: d["baselines"][0].update(name="plian"), "Did you mean 'plain'?"),
    "missing": (lambda d: d.pop("baselines"), "the key 'baselines' is missing"),
    "others": (
        lambda d: d["baselines"][0]["configurations"].pop(),
        "expected ['full', 'fast']",
    ),
    "latency": (
        lambda d: d["baselines"][0]["configurations"][0].update(latency=None),
        "does not hold the rounds of 'full'",
    ),
    "error": (
        lambda d: d["baselines"][0]["configurations"][0].update(relative_error=-1),
        "'relative_error' must be 0 or more",
    ),
    "load": (
        lambda d: d["baselines"][0]["configurations"][0].update(load_ms=0),
        "'load_ms' must be a number above zero",
    ),
    "key": (lambda d: d["baselines"][0].update(nmae="x"), "unknown key 'nmae'"),
}


def test_the_document_is_read_strictly(work: Path) -> None:
    path = work / "found.json"
    ended = trtbench(work / "ckpt.skipc", *QUICK, "--baseline", "plain", "--json", path)
    assert ended.code == 0, ended.err
    for name, (change, expected) in BROKEN.items():
        broken = work / f"{name}.json"
        shutil.copy(path, broken)
        edit_json(broken, change)
        assert expected in told(trtbench("--compare", path, broken)), name


ON_A_GPU = {
    "--baseline=plain": "they all run on the CPU, and the backend 'tensorrt' does not",
    "--dumpProfile": "Run trtexec itself on the plan under engines/",
    "--infStreams=2": "the backend 'tensorrt' runs one call at a time",
}


def test_what_a_gpu_cannot_have_is_told(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "net.skipc"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with fake_gpu(monkeypatch):
        front = ("--front", made / "front.json", "--target", "jetson-orin")
        assert skipc("build", made / "ckpt.pt", *front, "--out", bundle).code == 0
        for words, expected in ON_A_GPU.items():
            assert expected in told_late(trtbench(bundle, words))

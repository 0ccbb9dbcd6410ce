"""``trtbench`` on doubles of TensorRT and CUDA: nothing is said of a GPU's times."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING, Any

import pytest

from skipc.tools.trtbench.report import read_report
from tests.command_line import skipc, trtbench
from tests.doubles.gpu import FakeGpu, fake_gpu
from tests.tools.trtbench.test_plain import told_late
from tests.tools.trtbench.times_of_trtexec import read_as_trtexec_writes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = ("--warmUp", 0, "--duration", 0, "--iterations", 3)


@pytest.fixture(scope="module")
def gpu() -> Iterator[FakeGpu]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "aarch64")
        with fake_gpu(patch) as made:
            yield made
            made.check()


@pytest.fixture(scope="module")
def bundle(gpu: FakeGpu, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "net.skipc"
    front = ("--front", made / "front.json")
    built = skipc("build", made / "ckpt.pt", *front, "--out", path, "--target", "jetson-orin")
    assert built.code == 0, built.err
    return path


def measured(bundle: Path, folder: Path, *flags: object) -> tuple[str, dict[str, Any]]:
    """Returns what is printed, and the document, after reading it strictly."""
    path = folder / "found.json"
    ended = trtbench(bundle, *QUICK, *flags, "--json", path, columns=80)
    assert ended.code == 0, ended.err
    read_report(path)
    return " ".join(ended.out.split()), json.loads(path.read_text(encoding="utf-8"))


def test_phases_are_told_apart(bundle: Path, tmp_path: Path) -> None:
    printed, found = measured(bundle, tmp_path, "--exportTimes", tmp_path / "times.json")
    assert "transfers included; one captured CUDA graph of copies and engine" in printed
    assert "computation launched as a CUDA graph of its own" in printed
    assert found["regime"]["way"] == {"graph": True, "transfers": True, "wait": "driver"}
    assert "tensorrt" in found["regime"]["versions"]
    for entry in found["configurations"]:
        phases = entry["phases"]
        assert phases["runs"] == 3
        assert phases["graph"] is True
        # The double's device takes 0.25 ms for each operation.
        for phase, ms in {"latency": 0.75, "h2d": 0.25, "compute": 0.25, "d2h": 0.25}.items():
            times = phases[phase]
            assert {times[name] for name in ("min_ms", "median_ms", "max_ms")} == {ms}
            assert times["percentiles_ms"] == {"90": ms, "95": ms, "99": ms}
        assert phases["enqueue"]["min_ms"] > 0
        for title in ("by events, ms", "enqueue, ms", "H2D, ms", "compute, ms", "D2H, ms"):
            assert f"{title} min mean median 90 % 95 % 99 % max" in printed
        times = read_as_trtexec_writes(tmp_path / f"times.{entry['name']}.json")
        assert [one["latencyMs"] for one in times] == [0.75] * 3
    assert "copying in or out takes as long as computing, or longer: full, fast" in printed


WAYS = {
    "graph": (("--noCudaGraph",), "enqueued without a CUDA graph"),
    "spin": (("--useSpinWait", "--useCudaGraph"), "the host waits without pause (spin)"),
    "block": (("--noSpinWait", "--includeDataTransfers"), "the host waits asleep"),
    "transfers": (("--noDataTransfers",), "no transfers, all arrays stay on the GPU"),
}


@pytest.mark.parametrize("case", WAYS)
def test_calls_are_made_as_asked(
    bundle: Path, gpu: FakeGpu, tmp_path: Path, case: str
) -> None:
    flags, expected = WAYS[case]
    gpu.device.history.clear()
    printed, found = measured(bundle, tmp_path, *flags)
    assert expected in printed
    way = found["regime"]["way"]
    assert way == {
        "graph": case != "graph",
        "transfers": case != "transfers",
        "wait": case if case in ("spin", "block") else "driver",
    }
    history = set(gpu.device.history)
    assert ("wait spinning" in history) == (case == "spin")
    assert ("wait blocking" in history) == (case == "block")
    # One operation: a graph of the computation alone. Loading tries one of three, too.
    assert ("launch 1" in history) == (case != "graph")
    phases = found["configurations"][0]["phases"]
    assert phases["graph"] == (case != "graph")
    assert (phases["h2d"] is None) == (case == "transfers")
    assert ("H2D, ms" in printed) == (case != "transfers")


def test_refitting_is_told_apart_from_reading(bundle: Path, tmp_path: Path) -> None:
    printed, found = measured(bundle, tmp_path, "--timeRefit", "--timeDeserialize")
    assert "deserialise refit" in printed
    assert "phases" not in printed
    for entry in found["configurations"]:
        parts = entry["load_parts"]
        assert 0 < parts["deserialize_ms"] + parts["refit_ms"] < entry["load_ms"]
        assert entry["phases"] is None


def test_memory_on_the_device_is_told(bundle: Path, tmp_path: Path) -> None:
    _, found = measured(bundle, tmp_path, "--timeDeserialize")
    listed = json.loads(
        (bundle / "engines/jetson-orin/engines.json").read_text(encoding="utf-8")
    )["engines"]
    for entry, engine in zip(found["configurations"], listed, strict=True):
        device = entry["memory"]["device"]
        assert device["own_bytes"] == engine["device_bytes"] > 0
        assert device["shared_bytes"] == engine["workspace_bytes"] > 0
        assert device["taken_bytes"] > 0


def test_a_graph_that_cannot_be_captured_is_warned_of(
    bundle: Path, gpu: FakeGpu, tmp_path: Path
) -> None:
    gpu.device.drop_captured = True
    try:
        printed, _ = measured(bundle, tmp_path)
    finally:
        gpu.device.drop_captured = False
    assert "phases measured without a CUDA graph: full, fast." in printed


MISTAKES = {
    "--baseline=plain": "plain sessions run on the CPU, and the backend 'tensorrt' does not",
    "--dumpProfile": "Run trtexec itself on the plan under engines/",
    "--infStreams=2": "the backend 'tensorrt' runs one call at a time",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_what_a_gpu_cannot_have_is_told(bundle: Path, words: str) -> None:
    assert MISTAKES[words] in told_late(trtbench(bundle, words))

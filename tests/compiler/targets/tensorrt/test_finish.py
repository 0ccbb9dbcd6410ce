"""Building on a machine with a GPU: the whole of ``finish`` on doubles."""

from __future__ import annotations

import _thread
import shutil
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from skipc.compiler.errors import NumericsError, TargetError
from skipc.compiler.targets import builder_for, finish, unavailable_reason, unmeasurable_reason
from skipc.compiler.targets.options import TargetOptions
from skipc.profiles import load_profile
from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import IntegrityError
from skipc.tools.views.engines import print_engines
from tests.doubles.gpu import FakeGpu, fake_gpu
from tests.onnx_bundles import conv_family, image_cases, write_onnx_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALL = ["skip0", "skip1", "skip2"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    with fake_gpu(monkeypatch) as made:
        yield made
        made.check()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_onnx_bundle(tmp_path / "conv.skipc", conv_family(blocks=2), image_cases())
    return tmp_path / "conv.skipc"


def test_engines_are_stripped_checked_and_measured(path: Path, gpu: FakeGpu) -> None:
    steps: list[str] = []
    engines = finish(path, "tensorrt", steps.append)
    assert engines.host == {
        "architecture": engines.host["architecture"],
        "tensorrt": "10.3.0",
        "gpu": "Fake GPU",
        "compute_capability": "8.7",
    }
    weights = Bundle.open(path).file("weights.bin").stat().st_size
    for entry in engines.engines:
        plan = Bundle.open(path).engine_dir("tensorrt") / entry.file
        assert b"stripped" in plan.read_bytes()
        assert plan.stat().st_size < weights
        assert entry.workspace_bytes > 1000
        assert entry.device_bytes > 0
        assert [row.threads for row in entry.latency] == [1]
    assert steps[:2] == ["checking the portable files", "building skip0 (1 of 3)"]
    assert gpu.tensorrt.built == ALL
    Bundle.open(path).verify_hashes()


def test_the_second_build_takes_over_what_did_not_change(path: Path, gpu: FakeGpu) -> None:
    first = finish(path, "tensorrt")
    steps: list[str] = []
    second = finish(path, "tensorrt", steps.append)
    assert gpu.tensorrt.built == ALL
    assert [e.file for e in second.engines] == [e.file for e in first.engines]
    assert steps[1] == "keeping skip0 (1 of 3)"
    finish(path, "tensorrt", options=TargetOptions(optimization_level=5))
    assert gpu.tensorrt.built == ALL * 2
    gpu.tensorrt.__version__ = "10.7.0"
    finish(path, "tensorrt")
    assert gpu.tensorrt.built == ALL * 3


def test_the_family_shares_one_timing_cache(path: Path, gpu: FakeGpu) -> None:
    finish(path, "tensorrt")
    assert gpu.tensorrt.cached == [False, True, True]
    folder = Bundle.open(path).engine_dir("tensorrt")
    assert (folder / "timing.cache").read_bytes() == b"timed " * 3
    finish(path, "tensorrt", options=TargetOptions(optimization_level=0))
    assert gpu.tensorrt.cached[3:] == [True, True, True]


def test_a_timing_cache_of_another_machine_is_left(path: Path, gpu: FakeGpu) -> None:
    finish(path, "tensorrt")
    cache = Bundle.open(path).engine_dir("tensorrt") / "timing.cache"
    cache.write_bytes(b"other")
    gpu.tensorrt.__version__ = "10.7.0"
    finish(path, "tensorrt")
    assert gpu.tensorrt.cached[3:] == [False, True, True]


def test_an_interrupted_build_goes_on_where_it_was(path: Path, gpu: FakeGpu) -> None:
    gpu.tensorrt.broken.add("skip2")
    with pytest.raises(
        TargetError, match=r"'skip2': tensorrt 10\.3\.0 cannot build its engine"
    ):
        finish(path, "tensorrt")
    assert not (path / "engines/tensorrt").exists()
    gpu.tensorrt.broken.clear()
    finish(path, "tensorrt")
    assert gpu.tensorrt.built == ALL
    assert [p.name for p in (path / "engines").iterdir()] == ["tensorrt"]


def test_an_engine_that_computes_wrong_numbers_is_not_kept(path: Path, gpu: FakeGpu) -> None:
    gpu.tensorrt.spoiled.add("skip1")
    with pytest.raises(NumericsError, match=r"'skip1': on this GPU \(Fake GPU\) its outputs"):
        finish(path, "tensorrt")
    waiting = sorted(p.name.split(".")[0] for p in (path / "engines/.tensorrt.kept").iterdir())
    assert waiting == ["skip0", "timing"]
    assert Bundle.open(path).targets() == ()


def test_a_kept_engine_that_fails_now_is_built_once_more(path: Path, gpu: FakeGpu) -> None:
    finish(path, "tensorrt")
    build = gpu.tensorrt.Builder.build_serialized_network

    def mended(self: object, network: object, config: object) -> object:
        gpu.tensorrt.spoiled.clear()
        return build(self, network, config)  # type: ignore[arg-type]

    gpu.tensorrt.Builder.build_serialized_network = mended  # type: ignore[method-assign]
    gpu.tensorrt.spoiled.add("skip1")
    steps: list[str] = []
    finish(path, "tensorrt", steps.append)
    assert gpu.tensorrt.built == [*ALL, "skip1"]
    assert any(step.startswith("building skip1 again: configuration") for step in steps)


def test_damaged_weights_are_noticed_before_anything_is_built(
    path: Path, gpu: FakeGpu
) -> None:
    data = bytearray((path / "weights.bin").read_bytes())
    data[7] ^= 1
    (path / "weights.bin").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"weights\.bin: wrong hash"):
        finish(path, "tensorrt")
    assert gpu.tensorrt.built == []


def test_ctrl_c_stops_the_builder_and_leaves_nothing_half(path: Path, gpu: FakeGpu) -> None:
    cancelled = threading.Event()
    builder = gpu.tensorrt.Builder
    # A process that runs in the background ignores Ctrl-C.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    class Slow(builder):  # type: ignore[misc, valid-type]
        def build_serialized_network(self, network: object, config: object) -> object:
            monitor = config.progress_monitor  # type: ignore[attr-defined]
            monitor.phase_start("Building engine", None, 10)
            _thread.interrupt_main()
            while monitor.step_complete("Building engine", 0):
                threading.Event().wait(0.001)
            cancelled.set()
            return None

    gpu.tensorrt.Builder = Slow
    try:
        with pytest.raises(KeyboardInterrupt):
            finish(path, "tensorrt")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert cancelled.is_set()
    assert [p.name for p in (path / "engines").iterdir()] == []


def test_options_reach_the_builder_and_the_recipe_is_followed(
    path: Path, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    builder = gpu.tensorrt.Builder

    class Watching(builder):  # type: ignore[misc, valid-type]
        def build_serialized_network(self, network: object, config: object) -> object:
            seen.append((dict(config.pool), config.builder_optimization_level))  # type: ignore[attr-defined]
            return super().build_serialized_network(network, config)

    gpu.tensorrt.Builder = Watching
    finish(path, "tensorrt", options=TargetOptions(1 << 20, 5))
    pool = gpu.tensorrt.MemoryPoolType.WORKSPACE
    assert seen == [({pool: 1 << 20}, 5)] * 3


def test_a_graph_that_reads_another_file_is_refused(path: Path, gpu: FakeGpu) -> None:
    graph = path / "skip1.onnx"
    data = graph.read_bytes()
    graph.write_bytes(data.replace(b"weights.bin", b"elsewhere.b"))
    with pytest.raises(IntegrityError, match=r"skip1\.onnx"):
        finish(path, "tensorrt")


def test_a_plan_copied_from_elsewhere_is_checked_by_its_hash(path: Path, gpu: FakeGpu) -> None:
    finish(path, "tensorrt")
    plan = next((path / "engines/tensorrt").glob("skip1.*.plan"))
    plan.write_bytes(b"x" * plan.stat().st_size)
    finish(path, "tensorrt")
    assert gpu.tensorrt.built == [*ALL, "skip1"]


def test_where_it_can_be_built_is_told(gpu: FakeGpu) -> None:
    assert unavailable_reason(load_profile("tensorrt")) is None
    orin = load_profile("jetson-orin")
    assert "on aarch64; this is x86_64" in (unavailable_reason(orin, "x86_64") or "")
    assert unavailable_reason(orin, "aarch64") is None
    assert unmeasurable_reason(orin, "aarch64") is None
    gpu.cudart.capability = (7, 2)
    assert unavailable_reason(orin, "aarch64") == (
        "target 'jetson-orin' is for GPUs of compute capability 8.7; this one (Fake GPU) has"
        " 7.2."
    )


def test_select_measures_graphs_as_engines(path: Path, gpu: FakeGpu, tmp_path: Path) -> None:
    bundle = Bundle.open(path)
    graphs = {name: bundle.file(f"{name}.onnx") for name in ALL}
    profile = load_profile("tensorrt")
    inputs = {**bundle.golden_inputs()[1], "unused": bundle.golden_inputs()[0]["images"]}
    found = builder_for(profile).measure_graphs(profile, graphs, inputs, 1, lambda line: None)
    assert found.keys() == set(ALL)
    assert min(found.values()) > 0


def test_what_is_shared_where_is_shown(
    path: Path, gpu: FakeGpu, capsys: pytest.CaptureFixture[str]
) -> None:
    from skipc.tools.console import console

    print_engines(finish(path, "tensorrt"), console())
    text = capsys.readouterr().out
    assert "one file on disk and in host memory (shared by all)" in text
    assert "a copy of the weights per loaded engine; one workspace of" in text
    header = next(line for line in text.splitlines() if line.startswith("graph"))
    assert header.split() == ["graph", "own", "shared", "own", "shared"]


def test_copy_of_a_bundle_keeps_its_engines(path: Path, gpu: FakeGpu, tmp_path: Path) -> None:
    finish(path, "tensorrt")
    copy = tmp_path / "copy.skipc"
    shutil.copytree(path, copy)
    finish(copy, "tensorrt")
    assert gpu.tensorrt.built == ALL

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from skipc.compiler.errors import NumericsError, TargetError
from skipc.compiler.targets import finish
from skipc.compiler.targets.golden import check_same_bits
from skipc.runtime.backends import open_backend
from skipc.runtime.backends.host import default_threads
from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import FormatError, IntegrityError
from tests.bundles import list_anew, make_cascade
from tests.onnx_bundles import (
    conv_family,
    image_cases,
    token_cases,
    token_family,
    write_onnx_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

ROOT = Path(__file__).parents[3]


@pytest.fixture
def conv(tmp_path: Path) -> Path:
    path = tmp_path / "conv.skipc"
    write_onnx_bundle(path, conv_family(), image_cases())
    return path


def _plain(
    graph: Path, case: Mapping[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.generic]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(graph), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(case)), strict=True))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("family", ["conv", "tokens", "tiny"])
def test_engines_give_the_same_bits_as_plain_sessions(tmp_path: Path, family: str) -> None:
    path = tmp_path / "net.skipc"
    if family == "conv":
        write_onnx_bundle(path, conv_family(), image_cases())
    elif family == "tokens":
        write_onnx_bundle(path, token_family(), token_cases())
    else:
        write_onnx_bundle(path, token_family(layers=1, width=1), token_cases())
    finish(path, "cpu")
    bundle = Bundle.open(path)
    backend = open_backend(bundle, bundle.engine_set(), 1)
    for graph in bundle.manifest.graphs:
        engine = backend.load(graph.name)
        for case in bundle.golden_inputs():
            expected = _plain(path / graph.file, case)
            found = engine.run(case)
            assert list(found) == list(expected)
            for name, array in expected.items():
                assert found[name].dtype == array.dtype
                np.testing.assert_array_equal(found[name], array)
        engine.close()


def test_engine_set_describes_what_is_on_disk(conv: Path) -> None:
    lines: list[str] = []
    written = finish(conv, "cpu", lines.append)
    bundle = Bundle.open(conv)
    engines = bundle.engine_set("cpu")
    assert engines == written
    assert (engines.target, engines.backend) == ("cpu", "onnxruntime-cpu")
    assert engines.host["onnxruntime"] == onnxruntime.__version__
    assert [e.graph for e in engines.engines] == ["skip0", "skip1", "skip2", "skip3"]
    assert _names(conv / "engines/cpu") == sorted(
        ["engines.json", *(file.path for file in engines.files)]
    )
    bundle.verify_hashes()
    for entry in engines.engines:
        assert [latency.threads for latency in entry.latency] == sorted({1, default_threads()})
        assert all(0 < t.p50_ms <= t.p95_ms <= t.p99_ms for t in entry.latency)
    assert lines[:2] == ["checking the portable files", "packing skip0 (1 of 4)"]
    assert "measuring latency, 1 thread" in lines


def test_the_store_of_a_family_is_hardly_larger_than_that_of_one(tmp_path: Path) -> None:
    family = conv_family(blocks=4, channels=32)
    sizes_bytes = {}
    for name, graphs in {"one": {"skip0": family["skip0"]}, "all": family}.items():
        path = tmp_path / f"{name}.skipc"
        write_onnx_bundle(path, graphs, image_cases())
        engines = finish(path, "cpu")
        sizes_bytes[name] = (path / "engines/cpu/packed.bin").stat().st_size
    assert sizes_bytes["all"] <= 1.01 * sizes_bytes["one"]
    full, last = engines.engines[0], engines.engines[-1]
    assert full.own_bytes > 0  # the first block, which only the full configuration runs
    assert last.own_bytes == 0
    assert full.weights_bytes > last.weights_bytes > 0


def test_finish_writes_no_store_when_all_tensors_are_small(tmp_path: Path) -> None:
    path = tmp_path / "tiny.skipc"
    write_onnx_bundle(path, token_family(layers=1, width=1), token_cases())
    assert finish(path, "cpu").packed_file == ""
    assert _names(path / "engines/cpu") == ["engines.json", "skip0.onnx", "skip1.onnx"]


def test_finish_replaces_engines_that_were_there(conv: Path) -> None:
    finish(conv, "cpu")
    (conv / "engines/cpu/left-over").touch()
    document = json.loads((conv / "engines/cpu/engines.json").read_text())
    document["host"]["onnxruntime"] = "1.0.0"
    (conv / "engines/cpu/engines.json").write_text(json.dumps(document))
    finish(conv, "cpu")
    assert Bundle.open(conv).engine_set().host["onnxruntime"] == onnxruntime.__version__
    assert _names(conv / "engines") == ["cpu"]
    assert "left-over" not in _names(conv / "engines/cpu")


@pytest.mark.parametrize("stop_at", ["packing skip2", "measuring latency, 1"])
def test_an_interrupted_build_leaves_nothing_behind(conv: Path, stop_at: str) -> None:
    def interrupt(line: str) -> None:
        if line.startswith(stop_at):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish(conv, "cpu", interrupt)
    assert _names(conv / "engines") == []
    assert Bundle.open(conv).targets() == ()


def test_a_failed_build_keeps_the_old_engines_and_names_the_error(conv: Path) -> None:
    before = finish(conv, "cpu")
    with np.load(conv / "golden/skip1.npz") as arrays:
        wrong = {name: array + 1 for name, array in arrays.items()}
    np.savez(conv / "golden/skip1.npz", **wrong)
    with pytest.raises(NumericsError, match=r"'skip1': on this CPU .* tolerance of 0\.0001"):
        finish(conv, "cpu")
    assert Bundle.open(conv).engine_set() == before
    assert _names(conv / "engines") == ["cpu"]


def test_finish_names_the_graph_that_onnxruntime_refuses(conv: Path) -> None:
    graph = conv / "skip2.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"GlobalAverage", b"GlobalAvarage"))
    list_anew(conv, "skip2.onnx")
    with pytest.raises(
        TargetError, match=r"skip2\.onnx: ONNX Runtime .* cannot load or run it"
    ):
        finish(conv, "cpu")


def test_finish_refuses_a_graph_that_is_none(conv: Path) -> None:
    graph = conv / "skip2.onnx"
    graph.write_bytes(b"\xff" * graph.stat().st_size)
    list_anew(conv, "skip2.onnx")
    with pytest.raises(IntegrityError, match=r"skip2\.onnx: not an ONNX graph"):
        finish(conv, "cpu")


def test_finish_refuses_a_graph_that_reads_another_file(conv: Path) -> None:
    graph = conv / "skip2.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"weights.bin", b"../../a.bin"))
    list_anew(conv, "skip2.onnx")
    with pytest.raises(
        IntegrityError, match=r"skip2\.onnx: takes tensors from '\.\./\.\./a\.bin'"
    ):
        finish(conv, "cpu")


def test_finish_refuses_a_graph_that_answers_something_else(conv: Path) -> None:
    graph = conv / "skip2.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"logits", b"digits"))
    list_anew(conv, "skip2.onnx")
    with pytest.raises(IntegrityError, match=r"the outputs are 'digits', expected 'logits'"):
        finish(conv, "cpu")


def test_finish_refuses_a_graph_that_was_altered(conv: Path) -> None:
    graph = conv / "skip2.onnx"
    graph.write_bytes(graph.read_bytes().replace(b"GlobalAverage", b"GlobalAvarage"))
    with pytest.raises(IntegrityError, match=r"skip2\.onnx: wrong hash"):
        finish(conv, "cpu")


def test_finish_says_so_when_the_folder_cannot_be_written(conv: Path) -> None:
    (conv / "engines").write_text("in the way")
    with pytest.raises(TargetError, match="engines/cpu cannot be written"):
        finish(conv, "cpu")


@pytest.mark.parametrize("package", ["onnxruntime", "onnx"])
def test_finish_names_the_extra_when_a_package_is_missing(
    conv: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TargetError, match=rf"'cpu'.*'{package}'.*pip install '\.\[finish\]'"):
        finish(conv, "cpu")


def test_finish_needs_neither_torch_nor_onnx_ir(conv: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = sys.modules['onnx_ir'] = None;"
        "from skipc.compiler.targets import finish; finish(sys.argv[1], 'cpu')"
    )
    subprocess.run([sys.executable, "-c", script, str(conv)], check=True, cwd=ROOT)
    assert Bundle.open(conv).targets() == ("cpu",)


def test_check_same_bits_tells_the_smallest_change() -> None:
    before = [{"logits": np.ones(3, np.float32)}, {"logits": np.ones(3, np.float32)}]
    after = [{"logits": array["logits"].copy()} for array in before]
    check_same_bits("fast", before, after)
    after[1]["logits"][2] = np.nextafter(np.float32(1), np.float32(2))
    with pytest.raises(
        NumericsError, match=r"'fast': output 'logits' of golden input 1 .*1.19e-07"
    ):
        check_same_bits("fast", before, after)


def test_check_same_bits_takes_equal_nan_for_equal() -> None:
    case = {"logits": np.array([np.nan, 1], np.float32)}
    check_same_bits("fast", [case], [{"logits": case["logits"].copy()}])


def test_finish_refuses_a_route_that_it_cannot_check(conv: Path) -> None:
    make_cascade(conv / "manifest.json", "skip1", ["skip3", "skip0"], "logits")
    with pytest.raises(FormatError, match=r"the array '0/0\.logits' is missing"):
        finish(conv, "cpu")
    assert not (conv / "engines" / "cpu").exists()

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from skipc.compiler.targets import finish
from skipc.runtime import AdaptiveEngine
from skipc.runtime.backends import open_backend
from skipc.runtime.backends.host import default_threads
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.folder import file_sha256
from skipc.runtime.errors import (
    BackendUnavailableError,
    ChoiceError,
    ClosedError,
    EngineError,
    StaleEngineError,
)
from tests.onnx_bundles import (
    conv_family,
    image_cases,
    token_cases,
    token_family,
    write_onnx_bundle,
)

ROOT = Path(__file__).parents[3]
IMAGES = np.ones((1, 3, 8, 8), np.float32)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "conv.skipc"
    write_onnx_bundle(path, conv_family(blocks=2), image_cases())
    finish(path, "cpu")
    return path


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(built, tmp_path / "conv.skipc"))


def _open(path: Path, threads: int | None = 1) -> OnnxRuntimeCpu:
    opened = Bundle.open(path)
    backend = open_backend(opened, opened.engine_set("cpu"), threads)
    assert isinstance(backend, OnnxRuntimeCpu)
    return backend


def _edit_engines(path: Path, **changes: Any) -> None:
    file = path / "engines/cpu/engines.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, **changes}))


def _replace(path: Path, name: str, data: bytes) -> None:
    """Replaces a file of the engines and everything that engines.json says about it."""
    file = path / "engines/cpu" / name
    file.write_bytes(data)
    entries = json.loads((path / "engines/cpu/engines.json").read_text())["files"]
    for entry in entries:
        if entry["path"] == name:
            entry.update(size_bytes=len(data), sha256=file_sha256(file))
    _edit_engines(path, files=entries)


def test_open_says_what_differs_when_the_engines_are_for_another_host(bundle: Path) -> None:
    host = Bundle.open(bundle).engine_set("cpu").host
    _edit_engines(bundle, host={**host, "onnxruntime": "1.0.0"})
    command = re.escape(f"`skipc finish {bundle} --target cpu`")
    with pytest.raises(StaleEngineError, match=rf"onnxruntime was 1\.0\.0, here.*{command}"):
        _open(bundle)


def test_open_names_the_extra_when_onnxruntime_is_missing(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install '\.\[cpu\]'"):
        _open(built)


def test_open_refuses_zero_threads(built: Path) -> None:
    with pytest.raises(ChoiceError, match="threads=0: expected a whole number from 1"):
        _open(built, threads=0)


def test_open_takes_one_thread_per_core_when_none_are_asked_for(built: Path) -> None:
    assert _open(built, threads=None).threads == default_threads()


def test_engines_with_different_thread_counts_agree(built: Path) -> None:
    outputs = []
    for threads in (1, 2):
        backend = _open(built, threads)
        outputs.append(backend.load("skip0").run({"images": IMAGES})["logits"])
        assert ("one pool of 2 per engine" in backend.sharing().threads) == (threads == 2)
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)


def test_sharing_tells_of_the_store_and_the_arena(built: Path) -> None:
    sharing = _open(built).sharing()
    assert sharing.weights == "one mapped file, packed.bin"
    assert sharing.arena == "one arena for all engines of this process"
    assert sharing.threads == "none: an engine runs on the thread that calls it"


def test_what_onnxruntime_refuses_is_the_engines_failure_and_names_the_graph(
    built: Path,
) -> None:
    engine = _open(built).load("skip1")
    with pytest.raises(EngineError, match=r"'skip1': ONNX Runtime failed: .*images"):
        engine.run({"images": IMAGES[:, :2]})
    with pytest.raises(EngineError, match="'skip1': ONNX Runtime failed"):
        engine.run({"images": IMAGES.astype(np.float64)})


@pytest.mark.parametrize("error", [TimeoutError("mine"), RuntimeError("mine")])
def test_what_a_signals_handler_raises_in_onnxruntimes_code_is_the_applications(
    built: Path, error: Exception
) -> None:
    engine = _open(built).load("skip1")

    def handler() -> None:
        raise error

    class Session:
        """Runs and is interrupted within, as Python lets a handler run there."""

        session = engine._held.session

        def run(self, *given: object) -> object:
            self.session.run(*given)
            handler()

    engine._held.session = Session()
    with pytest.raises(type(error), match="mine") as raised:
        engine.run({"images": IMAGES})
    assert raised.value is error


def test_run_raises_closed_error_after_close(built: Path) -> None:
    engine = _open(built).load("skip0")
    engine.close()
    engine.close()
    with pytest.raises(ClosedError, match="'skip0': the engine is closed"):
        engine.run({"images": IMAGES})


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x3a\x05abc"])
def test_load_names_the_configuration_when_the_graph_is_damaged(
    bundle: Path, data: bytes
) -> None:
    _replace(bundle, "skip1.onnx", data)
    with pytest.raises(EngineError, match=r"'skip1': .*skip1\.onnx.*skipc finish"):
        _open(bundle).load("skip1")


@pytest.mark.parametrize("location", ["../../weights.bin", "/etc/passwd", "other.bin", ""])
def test_load_refuses_a_graph_that_reads_another_file(bundle: Path, location: str) -> None:
    model = onnx.load(bundle / "engines/cpu/skip0.onnx", load_external_data=False)
    entry = next(t for t in model.graph.initializer if t.external_data).external_data[0]
    assert entry.key == "location"
    entry.value = location
    _replace(bundle, "skip0.onnx", model.SerializeToString())
    with pytest.raises(EngineError, match=rf"'skip0'.*takes tensors from {location!r}"):
        _open(bundle).load("skip0")


def _engine_that_answers(name: str, made: str, kind: int) -> bytes:
    """Returns a graph whose one output is ``made`` of the images."""
    how = {"to": kind} if made == "Cast" else {}
    nodes = [helper.make_node(made, ["images"], [name], **how)]
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    if made == "SequenceConstruct":
        output = helper.make_value_info(name, helper.make_sequence_type_proto(value))
    else:
        output = helper.make_tensor_value_info(name, kind, None)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])
    graph = helper.make_graph(nodes, "g", [images], [output])
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("name", "made", "kind", "said"),
    [
        ("zzz", "Identity", TensorProto.FLOAT, "the outputs are 'zzz', expected 'logits'"),
        ("logits", "Identity", TensorProto.FLOAT, r"'logits' is float32 \dx3x8x8, expected"),
        ("logits", "Cast", TensorProto.INT64, r"'logits' is int64 \dx3x8x8, expected"),
        ("logits", "Cast", TensorProto.STRING, r"'logits' is object \dx3x8x8, expected"),
        ("logits", "SequenceConstruct", TensorProto.FLOAT, "'logits' is a list, expected"),
    ],
)
def test_open_refuses_an_engine_with_other_outputs(
    bundle: Path, name: str, made: str, kind: int, said: str
) -> None:
    _replace(bundle, "skip1.onnx", _engine_that_answers(name, made, kind))
    with pytest.raises(
        EngineError, match=rf"graph 'skip1': its engine is another's: .*{said}"
    ):
        AdaptiveEngine.open(bundle, threads=1)


def test_a_graph_is_onnx_whatever_its_file_is_called(bundle: Path) -> None:
    # ONNX Runtime reads a file of this name in a format of its own.
    folder = bundle / "engines/cpu"
    (folder / "skip0.onnx").rename(folder / "skip0.ort")
    text = (folder / "engines.json").read_text()
    (folder / "engines.json").write_text(text.replace("skip0.onnx", "skip0.ort"))
    assert _open(bundle).load("skip0").run({"images": IMAGES})["logits"].size


def test_load_refuses_a_store_that_is_too_short(bundle: Path) -> None:
    _replace(bundle, "packed.bin", b"\0" * 64)
    with pytest.raises(EngineError, match="'skip0': ONNX Runtime cannot load"):
        _open(bundle).load("skip0")


def test_adaptive_engine_gives_each_configurations_golden_outputs(built: Path) -> None:
    bundle = Bundle.open(built)
    with AdaptiveEngine.open(built, threads=1) as engine:
        for name in ("skip2", "skip0", "skip1", "skip0"):
            engine.pin(name)
            golden = zip(bundle.golden_inputs(), bundle.golden_outputs(name), strict=True)
            for inputs, expected in golden:
                found = engine(inputs["images"])
                np.testing.assert_allclose(found, expected["logits"], rtol=1e-4, atol=1e-5)
            assert engine.last is not None
            assert engine.last.configuration == name
        assert engine.stats().sharing.weights == "one mapped file, packed.bin"


def test_adaptive_engine_serves_several_integer_inputs(tmp_path: Path) -> None:
    path = tmp_path / "tokens.skipc"
    bundle = write_onnx_bundle(path, token_family(), token_cases())
    finish(path, "cpu")
    with AdaptiveEngine.open(path) as engine:
        engine.pin("skip1")
        golden = zip(bundle.golden_inputs(), bundle.golden_outputs("skip1"), strict=True)
        for inputs, expected in golden:
            found = engine(inputs)
            assert found["best"].dtype == np.int64
            np.testing.assert_array_equal(found["best"], expected["best"])
            np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-4, atol=1e-5)


PREAMBLE = """
import sys
import numpy as np, onnxruntime
from skipc.runtime import AdaptiveEngine
from skipc.runtime.backends import open_backend
from skipc.runtime.bundle import Bundle

path = sys.argv[1]
images = {"images": np.ones((1, 3, 8, 8), np.float32)}

def arena(max_bytes=0):
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0,
        onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(
        memory, onnxruntime.OrtArenaCfg({"max_mem": max_bytes}))

def ours(threads=2):
    bundle = Bundle.open(path)
    backend = open_backend(bundle, bundle.engine_set("cpu"), threads)
    return backend, backend.load("skip0")

def theirs(**options):
    settings = onnxruntime.SessionOptions()
    settings.use_per_session_threads = options.pop("own_pool", True)
    for key, value in options.items():
        settings.add_session_config_entry("session." + key, value)
    return onnxruntime.InferenceSession(
        path + "/skip0.onnx", settings, providers=["CPUExecutionProvider"], enable_fallback=0)
"""


def _in_new_process(path: Path, script: str) -> str:
    """Runs a program that uses ONNX Runtime beside skipc; what it prints, all streams."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + script, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_applications_sessions_work_as_before_after_ours(built: Path) -> None:
    script = """
before = theirs().run(None, images)[0]
backend, engine = ours()
after = [theirs(), theirs(use_env_allocators="1")]
for session in after:
    assert np.array_equal(session.run(None, images)[0], before)
assert np.allclose(engine.run(images)["logits"], before, atol=1e-5)
"""
    assert _in_new_process(built, script) == ""


def test_the_applications_own_arena_is_used_and_kept(built: Path) -> None:
    script = """
arena()
backend, engine = ours()
assert engine.run(images)["logits"].shape == (1, 10)
print(backend.sharing().arena)
"""
    assert _in_new_process(built, script) == (
        "the arena that the application registered with ONNX Runtime\n"
    )


def test_the_applications_own_arena_is_not_replaced(built: Path) -> None:
    # Had ours replaced it, the run would find all the memory it wants.
    script = """
arena(max_bytes=100_000)
backend, engine = ours()
try:
    engine.run({"images": np.ones((64, 3, 8, 8), np.float32)})
except Exception as error:
    print(type(error).__name__, "Available memory" in str(error))
"""
    assert _in_new_process(built, script) == "EngineError True\n"


def test_the_applications_global_pool_is_used_when_it_has_one(built: Path) -> None:
    script = """
onnxruntime.set_global_thread_pool_sizes(2, 1)
backend, engine = ours(threads=1)
assert np.allclose(engine.run(images)["logits"], theirs(own_pool=False).run(None, images)[0],
                   atol=1e-5)
print(backend.sharing().threads)
"""
    assert _in_new_process(built, script) == (
        "the pool that the application gave ONNX Runtime;"
        " its size counts, not the 1 asked for\n"
    )


def test_two_backends_of_one_process_share_the_arena(built: Path) -> None:
    script = """
first, one = ours(threads=1)
second, two = ours(threads=2)
assert np.allclose(one.run(images)["logits"], two.run(images)["logits"], atol=1e-5)
print(first.sharing().arena == second.sharing().arena, second.sharing().arena)
"""
    assert _in_new_process(built, script) == "True one arena for all engines of this process\n"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_child_that_is_forked_beside_an_engine_ends(built: Path, threads: int) -> None:
    script = f"""
import os, time
engine = AdaptiveEngine.open(sys.argv[1], threads={threads})
engine(images)
child = os.fork()
if child == 0:
    sys.exit(3)
for _ in range(2000):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        break
    time.sleep(0.01)
print(os.waitstatus_to_exitcode(status) if ended else "hangs", flush=True)
os._exit(0)
"""
    assert _in_new_process(built, script) == "3\n"


def test_memory_does_not_grow_with_the_variety_of_shapes(built: Path) -> None:
    session = _open(built).load("skip0")._held.session
    assert not session.get_session_options().enable_mem_pattern


def test_a_packed_session_takes_over_from_a_quick_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tokens.skipc"
    write_onnx_bundle(path, token_family(), token_cases())
    finish(path, "cpu")
    bundle = Bundle.open(path)
    case = bundle.golden_inputs()[1]
    expected = _open(path).load("skip0").run(case)["mean"]
    backend = open_backend(bundle, bundle.engine_set("cpu"), 1, quick=True)
    assert isinstance(backend, OnnxRuntimeCpu)
    assert backend.packing is not None
    engine = backend.load("skip0")
    np.testing.assert_allclose(engine.run(case)["mean"], expected, rtol=1e-5, atol=1e-6)
    backend.packing.wait()
    np.testing.assert_array_equal(engine.run(case)["mean"], expected)
    engine.close()
    with pytest.raises(ClosedError):
        engine.run(case)
    backend.close()


def test_a_session_that_cannot_be_packed_goes_on_as_it_is(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = Bundle.open(bundle)
    backend = open_backend(opened, opened.engine_set("cpu"), 1, quick=True)
    assert isinstance(backend, OnnxRuntimeCpu)
    assert backend.packing is not None
    engine = backend.load("skip0")
    engine.run({"images": IMAGES})
    backend.packing.wait()
    packed = engine.run({"images": IMAGES})["logits"]
    (bundle / "engines/cpu/skip1.onnx").write_bytes(b"no graph")
    backend.packing.want("skip1", engine._held)  # type: ignore[attr-defined]
    backend.packing.wait()
    np.testing.assert_array_equal(engine.run({"images": IMAGES})["logits"], packed)
    assert "graph 'skip1' stays unpacked" in caplog.text
    backend.close()


@pytest.mark.parametrize(("target", "quick"), [("null", True), ("cpu", "yes")])
def test_a_quick_start_is_refused_where_it_means_nothing(
    built: Path, target: str, quick: Any
) -> None:
    with pytest.raises(ChoiceError, match="quick="):
        AdaptiveEngine.open(built, target=target, quick=quick)

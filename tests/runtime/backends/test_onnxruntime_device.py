"""ONNX Runtime on a device: one copy of the weights, and no silent fall-back. On the CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from contextlib import closing
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from skipc.compiler.targets import finish
from skipc.runtime.backends import open_backend
from skipc.runtime.backends.onnxruntime import devices
from skipc.runtime.backends.onnxruntime.device import OnnxRuntimeDevice
from skipc.runtime.backends.onnxruntime.devices import CUDA, cpu_device
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.onnx_graph import ExternalTensor, external_tensors
from skipc.runtime.bundle.route import Stage, Test, only_handed_over
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.errors import (
    BackendUnavailableError,
    ChoiceError,
    ClosedError,
    EngineError,
    InputError,
    StaleEngineError,
)
from tests.doubles.gpu import fake_gpu
from tests.onnx_bundles import conv_family, image_cases, write_onnx_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.backends.onnxruntime.devices import Device

IMAGES = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("device") / "conv.skipc"
    write_onnx_bundle(path, conv_family(blocks=2, channels=32), image_cases())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "cuda_device", cpu_device)
        finish(path, "cuda")
    return Bundle.open(path)


def opened(bundle: Bundle, device: Device) -> OnnxRuntimeDevice:
    engines, folder = bundle.engine_set("cuda"), bundle.engine_dir("cuda")
    files = {entry.graph: folder / entry.file for entry in engines.engines}
    return OnnxRuntimeDevice(device, files, engines.packed_file, bundle.manifest)


def test_all_sessions_read_one_copy_of_the_weights(bundle: Bundle) -> None:
    with closing(opened(bundle, cpu_device())) as backend:
        engines = [backend.load(graph.name) for graph in bundle.manifest.graphs]
        before = [engine.run({"images": IMAGES})["logits"] for engine in engines]
        placed = backend._weights._placed
        assert placed is not None
        assert placed.size_bytes == (bundle.engine_dir("cuda") / "packed.bin").stat().st_size
        ctypes.memset(placed.address, 0, placed.size_bytes)
        after = [engine.run({"images": IMAGES})["logits"] for engine in engines]
    assert len(before) == 3
    assert all(np.ptp(logits) > 0 for logits in before)
    assert all(np.ptp(logits) == 0 for logits in after)


@pytest.mark.parametrize(
    ("step_bytes", "verdict"),
    [(0, "so they are shared"), (64 << 20, "has copied them: they are not shared")],
)
def test_what_is_shared_is_what_was_measured(
    bundle: Bundle, step_bytes: int, verdict: str
) -> None:
    used = count(0, step_bytes) if step_bytes else iter([0] * 9)
    with closing(
        opened(bundle, replace(cpu_device(), used_bytes=lambda: next(used)))
    ) as backend:
        backend.load("skip0")
        backend.load("skip1")
        said = backend.sharing().weights
    assert f"loading 2 engines took {2 * step_bytes} bytes besides (measured), " in said
    assert verdict in said


def test_a_provider_that_did_not_start_is_refused(bundle: Bundle) -> None:
    fallen = replace(cpu_device(), provider=CUDA)
    with (
        closing(opened(bundle, fallen)) as backend,
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(
            EngineError, match="fell back to CPUExecutionProvider, which is refused"
        ),
    ):
        backend.load("skip0")


def test_the_package_for_cpus_is_told_from_the_one_for_gpus() -> None:
    with pytest.raises(
        BackendUnavailableError, match="the package for CPUs, which has the same name"
    ) as told:
        devices.cuda_device()
    assert "pip uninstall onnxruntime onnxruntime-gpu" in str(told.value)


def test_a_gpu_whose_provider_does_not_start_is_no_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "cuda_library", lambda: onnxruntime)
    with (
        fake_gpu(monkeypatch) as gpu,
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(BackendUnavailableError, match=r"Fake .* fell back to CPU") as told,
    ):
        devices.cuda_device()
    gpu.check()  # nothing is left of it
    assert "libonnxruntime_providers_cuda.so: cannot open shared object" in str(told.value)


def test_the_library_that_is_missing_is_named(tmp_path: Path) -> None:
    for name, needs in (("libgone.so.13", []), ("libprovider.so", ["-l:libgone.so.13"])):
        command = [
            "cc",
            "-shared",
            "-o",
            tmp_path / name,
            "-x",
            "c",
            "/dev/null",
            "-x",
            "none",
        ]
        subprocess.run(
            [*command, f"-L{tmp_path}", "-Wl,--no-as-needed", f"-Wl,-soname,{name}", *needs],
            check=True,
        )
    (tmp_path / "libgone.so.13").unlink()
    assert "libgone.so.13: cannot open" in devices.missing_library(tmp_path / "libprovider.so")
    assert devices.missing_library(tmp_path / "none.so").startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"threads": 2}, "threads=2: engines of target 'cuda' run on the GPU. Leave it out"),
        ({"device_bytes": 1 << 20}, "over one copy of the weights"),
        ({"quick": True}, "quick=True: engines of target 'cuda' are loaded as they are run"),
    ],
)
def test_what_a_gpu_has_not_is_refused(
    bundle: Bundle, asked: dict[str, int], said: str
) -> None:
    with pytest.raises(ChoiceError, match=said):
        open_backend(bundle, bundle.engine_set("cuda"), **asked)


def test_engines_of_another_gpu_are_stale(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(cpu_device(), host={**cpu_device().host, "gpu": "NVIDIA L4"})
    monkeypatch.setattr(devices, "cuda_device", lambda: other)
    with pytest.raises(StaleEngineError, match="gpu was none, here it is NVIDIA L4"):
        open_backend(bundle, bundle.engine_set("cuda"))


def test_a_graph_that_takes_tensors_from_elsewhere_is_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "altered.skipc"
    shutil.copytree(bundle.path, path)
    file = path / "engines/cuda/skip0.onnx"
    file.write_bytes(file.read_bytes().replace(b"packed.bin", b"../pac.bin"))
    with (
        closing(opened(Bundle.open(path), cpu_device())) as backend,
        pytest.raises(EngineError, match=r"takes tensors from '\.\./pac\.bin'"),
    ):
        backend.load("skip0")


def test_a_store_that_is_too_short_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "short.skipc"
    shutil.copytree(bundle.path, path)
    store = path / "engines/cuda/packed.bin"
    with closing(opened(Bundle.open(path), cpu_device())) as backend:
        store.write_bytes(store.read_bytes()[:4096])  # after its size was looked at
        with pytest.raises(EngineError, match=r"does not lie within packed\.bin"):
            backend.load("skip0")


def test_wrong_inputs_and_closed_engines_are_told(bundle: Bundle) -> None:
    class OnTheGpu:
        shape = (1, 3, 8, 8)
        __cuda_array_interface__ = None

    with closing(opened(bundle, cpu_device())) as backend:
        engine = backend.load("skip0")
        with pytest.raises(InputError, match="'images' lies on the GPU"):
            engine.run({"images": OnTheGpu()})
        with pytest.raises(EngineError, match="ONNX Runtime failed"):
            engine.run({"images": np.zeros((1, 4, 8, 8), np.float32)})
        engine.close()
        with pytest.raises(ClosedError, match="'skip0': the engine is closed"):
            engine.run({"images": IMAGES})


def test_only_what_no_answer_and_no_test_reads_stays() -> None:
    outputs = [TensorSpec("logits", "float32", (1, 10))]
    early = (
        Stage("a", test=Test("logits", {"margin": 1.0})),
        Stage("b", feeds={"x": "0.hidden", "before": "0.logits"}),
    )
    assert only_handed_over([early], outputs) == {"a": frozenset({"hidden"})}
    assert only_handed_over([(Stage("a"),)], outputs) == {}


@pytest.mark.parametrize("packed", [False, True])
def test_external_tensors_have_their_type_and_shape(tmp_path: Path, packed: bool) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT16, dims=[300, 2])
    for key, value in (("location", "w.bin"), ("offset", "64"), ("length", "1200")):
        tensor.external_data.add(key=key, value=value)
    tensor.data_location = TensorProto.EXTERNAL
    graph = helper.make_graph([], "g", [], [], [tensor])
    data = helper.make_model(graph).SerializeToString()
    if packed:  # as other writers of Protocol Buffers may write numbers that repeat
        loose, tight = b"\x08\xac\x02\x08\x02", b"\x0a\x03\xac\x02\x02"
        assert data.count(loose) == 1
        data = data.replace(loose, tight)
    file = tmp_path / "g.onnx"
    file.write_bytes(data)
    assert external_tensors(file) == [
        ExternalTensor("w", "w.bin", 64, 1200, TensorProto.FLOAT16, (300, 2))
    ]

"""What every backend must do: the ``Backend`` and ``Engine`` protocols, tried out."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.compiler.targets import finish
from skipc.compiler.targets.options import TargetOptions
from skipc.runtime.backends import open_backend
from skipc.runtime.backends.onnxruntime import devices
from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import EngineError
from skipc.runtime.load.opening import null_backend
from tests.doubles.gpu import fake_gpu
from tests.onnx_bundles import conv_family, image_cases, write_onnx_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skipc.runtime.backends import Backend


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("contract") / "conv.skipc"
    write_onnx_bundle(path, conv_family(blocks=2), image_cases())
    finish(path, "cpu")
    with pytest.MonkeyPatch.context() as patch, fake_gpu(patch):
        finish(path, "tensorrt")
    return Bundle.open(path)


@pytest.fixture(scope="module")
def switched(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same, one engine for all graphs."""
    path = tmp_path_factory.mktemp("switched") / "conv.skipc"
    shutil.copytree(bundle.path, path)
    finish(path, "cpu", options=TargetOptions(engines="one"))
    return Bundle.open(path)


@pytest.fixture(scope="module")
def bound(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same, as the target ``cuda`` builds it, but on the CPU."""
    path = tmp_path_factory.mktemp("bound") / "conv.skipc"
    shutil.copytree(bundle.path, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "cuda_device", devices.cpu_device)
        finish(path, "cuda")
    return Bundle.open(path)


@pytest.fixture(params=["null", "onnxruntime-cpu", "one session", "a device", "tensorrt"])
def backend(
    request: pytest.FixtureRequest,
    bundle: Bundle,
    switched: Bundle,
    bound: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Backend]:
    if request.param == "null":
        opened: Backend = null_backend(bundle, None)
    elif request.param == "tensorrt":
        with fake_gpu(monkeypatch) as gpu:
            opened = open_backend(bundle, bundle.engine_set("tensorrt"))
            yield opened
            opened.close()
            gpu.check()
        return
    elif request.param == "a device":
        monkeypatch.setattr(devices, "cuda_device", devices.cpu_device)
        opened = open_backend(bound, bound.engine_set("cuda"))
        assert opened.name == "onnxruntime-cuda"
    elif request.param == "one session":
        opened = open_backend(switched, switched.engine_set("cpu"), 1)
    else:
        opened = open_backend(bundle, bundle.engine_set("cpu"), 1)
        assert opened.name == request.param
    yield opened
    opened.close()


def _images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(size=(batch, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_run_returns_the_manifests_outputs_for_any_batch(
    backend: Backend, bundle: Bundle, batch: int
) -> None:
    for entry in bundle.manifest.configurations:
        engine = backend.load(entry.name)
        outputs = engine.run({"images": _images(batch)})
        engine.close()
        assert {n: (a.dtype, a.shape) for n, a in outputs.items()} == {
            "logits": (np.dtype(np.float32), (batch, 10))
        }


def test_load_names_the_choices_when_the_graph_is_unknown(backend: Backend) -> None:
    with pytest.raises(EngineError, match=r"'skip9'.*Did you mean 'skip"):
        backend.load("skip9")


def test_outputs_belong_to_the_caller(backend: Backend) -> None:
    engine = backend.load("skip0")
    for batch in (2, 1, 1):  # one row is usual: from the second time on in fixed buffers
        first = engine.run({"images": _images(batch)})["logits"]
        kept = first.copy()
        engine.run({"images": _images(batch) + 1})
        np.testing.assert_array_equal(first, kept)
        first[:] = 7
        np.testing.assert_array_equal(engine.run({"images": _images(batch)})["logits"], kept)
    engine.close()


def test_run_takes_arrays_of_any_memory_layout_and_leaves_them_alone(backend: Backend) -> None:
    engine = backend.load("skip0")
    images = _images(2)
    expected = engine.run({"images": images})["logits"]
    strided = np.asfortranarray(images)
    frozen = images.copy()
    frozen.flags.writeable = False
    for array in (strided, frozen, np.repeat(images, 2, axis=0)[::2]):
        np.testing.assert_array_equal(engine.run({"images": array})["logits"], expected)
        np.testing.assert_array_equal(array, images)
    engine.close()


def test_run_may_be_called_from_several_threads(backend: Backend) -> None:
    names = ["skip0", "skip1", "skip2"]
    engines = {name: backend.load(name) for name in names}
    inputs = [{"images": _images(1 + i % 3)} for i in range(24)]

    def run(index: int) -> np.ndarray:
        return engines[names[index % 3]].run(inputs[index])["logits"]

    expected = [run(index) for index in range(24)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(24)))
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)
    for engine in engines.values():
        engine.close()


def test_closing_one_engine_leaves_the_others_usable(backend: Backend) -> None:
    first, second = backend.load("skip0"), backend.load("skip1")
    expected = second.run({"images": _images(1)})["logits"]
    first.close()
    np.testing.assert_array_equal(second.run({"images": _images(1)})["logits"], expected)
    again = backend.load("skip0")
    assert again.run({"images": _images(1)})["logits"].shape == (1, 10)
    again.close()
    second.close()


def test_sharing_is_said_in_words(backend: Backend) -> None:
    backend.load("skip0").close()
    sharing = backend.sharing()
    assert sharing.weights
    assert sharing.arena
    assert sharing.threads

"""Any order of calls, switches, evictions and failures; the device notes every misuse."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skipc.compiler.targets import finish
from skipc.runtime.backends import open_backend
from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import SkipcError
from skipc.runtime.load.opening import family_of
from tests.doubles.gpu import fake_gpu
from tests.onnx_bundles import conv_family, image_cases, write_onnx_bundle

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = ("skip0", "skip1", "skip2")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.sampled_from(NAMES), st.integers(1, 3)),
        st.tuples(st.just("prepare"), st.sampled_from(NAMES), st.just(0)),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("properties") / "conv.skipc"
    write_onnx_bundle(path, conv_family(blocks=2), image_cases())
    with pytest.MonkeyPatch.context() as patch, fake_gpu(patch):
        finish(path, "tensorrt")
    return Bundle.open(path)


@pytest.fixture(scope="module")
def expected(bundle: Bundle) -> dict[tuple[str, int], NDArray[np.float32]]:
    """What each configuration answers at each batch, on a device without limits."""
    with pytest.MonkeyPatch.context() as patch, fake_gpu(patch) as gpu:
        backend = open_backend(bundle, bundle.engine_set())
        held = family_of(bundle, bundle.engine_set()).residency(backend.load)
        found = {
            (name, batch): held.run(name, {"images": images(batch)})["logits"]
            for name in NAMES
            for batch in (1, 2, 3)
        }
        held.close()
        backend.close()
        gpu.check()
    return found


def images(batch: int) -> NDArray[np.float32]:
    return np.random.default_rng(batch).normal(size=(batch, 3, 8, 8)).astype(np.float32)


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=STEPS,
    fail_at=st.one_of(st.none(), st.integers(0, 160)),
    spare_bytes=st.integers(0, 120_000),
    limited=st.booleans(),
)
def test_any_order_with_a_failure_at_any_call(
    bundle: Bundle,
    expected: dict[tuple[str, int], NDArray[np.float32]],
    steps: list[tuple[str, str, int]],
    fail_at: int | None,
    spare_bytes: int,
    limited: bool,
) -> None:
    sizes = {entry.graph: entry.device_bytes for entry in bundle.engine_set().engines}
    limit = max(sizes.values()) + spare_bytes if limited else None
    with (
        pytest.MonkeyPatch.context() as patch,
        fake_gpu(patch, memory_bytes=max(sizes.values()) + 20_000 + spare_bytes) as gpu,
    ):
        gpu.device.fail_at = fail_at
        try:
            backend = open_backend(bundle, bundle.engine_set())
        except SkipcError:
            gpu.check()
            return
        held = family_of(bundle, bundle.engine_set(), limit).residency(backend.load)
        unnamed = []
        for kind, name, batch in steps:
            try:
                if kind == "prepare":
                    held.prepare(name)
                else:
                    found = held.run(name, {"images": images(batch)})["logits"]
                    np.testing.assert_allclose(found, expected[name, batch], rtol=1e-6)
            except SkipcError as failure:
                unnamed += [] if repr(name) in str(failure) else [str(failure)]
        gpu.device.fail_at = None
        for name in NAMES:  # whatever failed before, all of them run now
            found = held.run(name, {"images": images(1)})["logits"]
            np.testing.assert_allclose(found, expected[name, 1], rtol=1e-6)
        assert unnamed == []
        held.close()
        backend.close()
        del held, backend
        gc.collect()
        gpu.check()

"""Configurations that an open engine is given: settings of the engine that runs all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.compiler.targets import finish
from skipc.compiler.targets.options import TargetOptions
from skipc.runtime import AdaptiveEngine, Budget
from skipc.runtime.errors import ChoiceError, ClosedError
from skipc.runtime.load.switchable import unit_times_ms
from tests.onnx_bundles import token_cases, token_family, write_onnx_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("additions") / "tokens.skipc"
    write_onnx_bundle(path, token_family(), token_cases())
    finish(path, "cpu", options=TargetOptions(engines="one"))
    return path


@pytest.fixture
def engine(bundle: Path) -> Iterator[AdaptiveEngine]:
    with AdaptiveEngine.open(bundle, threads=1) as opened:
        yield opened


def test_an_added_configuration_skips_its_units_and_loads_nothing(
    engine: AdaptiveEngine,
) -> None:
    loads = engine.stats().residency.loads
    engine.add("night", skip=["a1", "a2"])
    engine.pin("night")
    case = token_cases()[0]
    found = engine(case)
    assert engine.stats().residency.loads == loads
    assert engine.configurations[-1] == "night"
    assert engine.last is not None
    assert engine.last.configuration == "night"
    # By other means: the embedding, masked, and the one layer that is left.
    family = token_family()["skip0"].graph
    tensors = {t.name: np.frombuffer(t.raw_data, np.float32) for t in family.initializer}
    width = tensors["b0"].size
    x = tensors["table"].reshape(-1, width)[case["tokens"]] * case["mask"][..., None]
    x = x + np.tanh(x @ tensors["w0"].reshape(width, width) + tensors["b0"])
    np.testing.assert_allclose(found["mean"], x.mean(1), rtol=1e-5, atol=1e-6)


def test_the_governor_chooses_it_by_a_latency_between_those_it_lies_between(
    engine: AdaptiveEngine,
) -> None:
    engine.add("other", skip=["a0", "a2"])
    known = {entry.configuration: entry for entry in engine.stats().configurations}
    added = known["other"]
    assert added.source == "fitted"
    assert 0 < added.p50_ms <= added.p95_ms
    assert added.rank == 1000 - 2  # the full graph's MACs without two units of one each
    engine.budget = Budget(latency_ms=1e-6)
    for _ in range(20):
        engine(token_cases()[0])
    assert sum(entry.calls for entry in engine.stats().configurations) == 20


@pytest.mark.parametrize(
    ("name", "skip", "said"),
    [
        ("night", ["a7"], r"'a7' is no unit that this engine can skip\. Did you mean 'a"),
        ("night", "a1", r"skip='a1': expected a list"),
        ("skip0", ["a1"], r"expected a name that is none of"),
        ("", ["a1"], r"expected a name that is none of"),
        ("night", ["a0"], r"would skip what 'skip1' does"),
        ("night", [], r"would skip what 'skip0' does"),
    ],
)
def test_what_cannot_be_added_is_refused(
    engine: AdaptiveEngine, name: str, skip: list[str], said: str
) -> None:
    with pytest.raises(ChoiceError, match=said):
        engine.add(name, skip=skip)
    assert len(engine.configurations) == 4


def test_engines_of_their_own_take_no_further_configuration(tmp_path: Path) -> None:
    path = tmp_path / "tokens.skipc"
    write_onnx_bundle(path, token_family(layers=1), token_cases())
    opened = AdaptiveEngine.open(path, target="null")
    with pytest.raises(ChoiceError, match=r"engine of its own.*--engines one"):
        opened.add("night", skip=["a0"])
    opened.close()
    with pytest.raises(ClosedError):
        opened.add("night", skip=["a0"])


def test_times_of_units_add_up_to_what_was_measured() -> None:
    rng = np.random.default_rng(0)
    macs = rng.integers(100, 1000, 10)
    unit_ms = macs * 0.01 * rng.uniform(0.8, 1.2, 10)
    masks = rng.integers(0, 2, (6, 10)).astype(float)
    times_ms = 3.0 + masks @ unit_ms
    fixed_ms, found_ms = unit_times_ms(masks, times_ms, macs)
    np.testing.assert_allclose(fixed_ms + masks @ found_ms, times_ms, rtol=1e-6)
    other = rng.integers(0, 2, 10)
    assert fixed_ms + other @ found_ms == pytest.approx(3.0 + other @ unit_ms, rel=0.15)


def test_one_measured_network_alone_says_what_all_take() -> None:
    fixed_ms, unit_ms = unit_times_ms(np.ones((1, 3)), np.array([6.0]), np.array([1, 2, 3]))
    assert fixed_ms + unit_ms.sum() == pytest.approx(6.0)

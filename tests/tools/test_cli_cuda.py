"""Target ``cuda`` by the command line, with the CPU in the place of the GPU."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.compiler.heads import write_heads
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.runtime import AdaptiveEngine
from skipc.runtime.backends import open_backend
from skipc.runtime.backends.onnxruntime import devices
from skipc.runtime.backends.onnxruntime.bound import Kept
from skipc.runtime.bundle import Bundle
from tests.command_line import skipc, told, trtbench
from tests.exits import heads_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FRONT = {
    "format": "skipc.front/2",
    "configurations": [
        {"name": "full"},
        {"name": "fast", "skip": ["stages.1.1", "stages.2.2"]},
        {"name": "half", "precision": "fp16"},
        {"name": "int8", "precision": "int8"},
        {
            "name": "early",
            "exits": ["stages.1.1", "end"],
            "tests": [{"threshold": 2.0}],  # which no sample passes
        },
    ],
}


@pytest.fixture(scope="module")
def path(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle with engines of the target ``cuda``."""
    folder = tmp_path_factory.mktemp("cuda")
    checkpoint = folder / "ckpt.pt"
    shutil.copy(made / "ckpt.pt", checkpoint)
    exported = read_checkpoint(checkpoint, ModelOptions()).exported()
    write_heads(checkpoint, heads_for(exported, ["stages.1.1"]))
    (folder / "front.json").write_text(json.dumps(FRONT), encoding="utf-8")
    ended = skipc(
        *("build", checkpoint, "--front", folder / "front.json"),
        *("--target", "cuda", "--calibrate", "digits"),
    )
    assert ended.code == 0, ended.err
    assert "No engines were built here: the target 'cuda' runs on onnxruntime-gpu" in ended.err
    bundle = folder / "ckpt.skipc"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "cuda_device", devices.cpu_device)
        ended = skipc("finish", bundle)
        assert ended.code == 0, ended.err
        yield bundle


def test_every_configuration_answers_as_the_reference(path: Path) -> None:
    bundle = Bundle.open(path)
    case = bundle.golden_inputs()[0]
    answers, wanted = {}, {}
    with AdaptiveEngine.open(path) as engine:
        for entry in bundle.manifest.configurations:
            engine.pin(entry.name)
            answers[entry.name] = [engine(case)["output"] for _ in range(3)]
            wanted[entry.name] = bundle.golden_outputs(entry.name, len(entry.route) - 1)[0]
    limits = {"half": 1e-2, "int8": 2e-2}
    for name, (first, *again) in answers.items():
        for each in again:  # and no call wrote over an earlier one's answer
            np.testing.assert_array_equal(each, first)
        error = np.abs(first - wanted[name]["output"]).max()
        assert error <= limits.get(name, 1e-5) * np.ptp(first), name
    np.testing.assert_allclose(answers["early"][0], answers["full"][0], rtol=1e-5)


def test_the_tools_take_the_target(path: Path, tmp_path: Path) -> None:
    assert skipc("check", path, "--target", "cuda").code == 0
    shown = skipc("show", path).out
    assert "onnxruntime-cuda" in shown
    inputs = tmp_path / "images.npy"
    np.save(inputs, Bundle.open(path).golden_inputs()[0]["images"])
    said = skipc("run", path, inputs)
    assert said.code == 0, said.err
    quick = ("--iterations", 2, "--duration", 0, "--warmUp", 0)
    timed = trtbench(path, "--target", "cuda", *quick)
    assert timed.code == 0, timed.err
    assert "transfers included" in timed.out
    said = told(trtbench(path, "--target", "cuda", "--baseline", "plain"))
    assert "the backend 'onnxruntime-cuda' does not" in said


def test_stages_hand_over_what_stays_where_it_is(path: Path) -> None:
    bundle = Bundle.open(path)
    case = {"images": bundle.golden_inputs()[0]["images"][:1]}
    route = bundle.manifest.configuration("early").route
    ((feed, _),) = route[1].feeds.items()
    with closing(open_backend(bundle, bundle.engine_set("cuda"))) as backend:
        first, second = (backend.load(stage.graph) for stage in route)

        def handed_over(images: np.ndarray) -> Kept:
            given = first.run({"images": images}).values()
            return next(value for value in given if isinstance(value, Kept))

        for _ in range(2):  # the second time in fixed buffers
            kept = handed_over(case["images"])
            expected = second.run({feed: kept})["output"]
            assert kept.value() is not None, "it was copied to the host"
        other = handed_over(case["images"] + 1)
        assert kept.value() is None, "what is still read was overwritten"
        np.testing.assert_array_equal(second.run({feed: kept})["output"], expected)
        assert np.abs(second.run({feed: other})["output"] - expected).max() > 0
        np.testing.assert_array_equal(other[0:1], np.asarray(other))

"""``skipc build`` in int8, from data to engines, and the mistakes."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.compiler.heads import write_heads
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from tests.command_line import mistake, skipc
from tests.exits import heads_for

if TYPE_CHECKING:
    from pathlib import Path

FRONT = {
    "format": "skipc.front/2",
    "configurations": [
        {"name": "full"},
        {"name": "full8", "precision": "int8"},
        {
            "name": "fast8",
            "skip": ["stages.1.1"],
            "precision": "int8",
            "float32": ["stages.0.0.branch.0.0"],
        },
        {
            "name": "early8",
            "precision": "int8",
            "exits": ["stages.0.0", "end"],
            "tests": [{"threshold": 2.0}],
        },
    ],
}


@pytest.fixture(scope="module")
def network(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and a head; not to be changed."""
    folder = tmp_path_factory.mktemp("int8")
    checkpoint = folder / "ckpt.pt"
    shutil.copy(made / "ckpt.pt", checkpoint)
    exported = read_checkpoint(checkpoint, ModelOptions()).exported()
    write_heads(checkpoint, heads_for(exported, ["stages.0.0"]))
    return folder


@pytest.fixture
def folder(network: Path, tmp_path: Path) -> Path:
    shutil.copytree(network, tmp_path, dirs_exist_ok=True)
    (tmp_path / "front.json").write_text(json.dumps(FRONT), encoding="utf-8")
    return tmp_path


def built(folder: Path, *options: str) -> tuple[object, ...]:
    return ("build", folder / "ckpt.pt", "--front", folder / "front.json", *options)


def test_a_family_with_float_and_int8_is_built_and_runs(folder: Path) -> None:
    options = ("--target", "cpu", "--calibrate", "digits", "--max-drop", "20")
    ended = skipc(*built(folder, *options))
    assert ended.code == 0, ended.err
    assert "int8" in ended.out
    assert re.search(r"full8: no layer stays float32: int8 loses \S+ points", ended.err)
    assert "fast8: " not in ended.err  # it says itself which stay
    assert re.search(r"fast8 .*stages.0.0.branch.0.0 .*int8", ended.out)
    bundle = Bundle.open(folder / "ckpt.skipc")
    manifest = bundle.manifest
    assert manifest.provenance.precision == "mixed"
    graphs = {name: manifest.graph(name) for name in ("full", "full8", "fast8")}
    assert graphs["full8"].macs == graphs["full"].macs > graphs["fast8"].macs
    # Kernels are shared; what is its own are scales of activations, and biases.
    assert graphs["fast8"].own_bytes < 0.1 * graphs["fast8"].weights_bytes
    assert graphs["full"].verification.tolerance == 1e-4
    assert 1e-4 < graphs["full8"].verification.relative_error < 0.1
    images = bundle.golden_inputs()[0]
    with AdaptiveEngine.open(bundle.path, threads=1) as engine:
        answers = {}
        for name in ("full", "full8", "early8"):
            engine.pin(name)
            answers[name] = engine(images)["output"]
    spread = float(np.ptp(answers["full"]))
    assert 0 < np.abs(answers["full8"] - answers["full"]).max() < 0.1 * spread
    # No sample passes its test: it goes to the end, whose bits are those of the whole.
    np.testing.assert_array_equal(answers["early8"], answers["full8"])
    assert skipc("check", bundle.path).code == 0


def test_signed_int8_without_engines(folder: Path) -> None:
    front = {"format": "skipc.front/2", "configurations": [{"name": "full"}]}
    (folder / "front.json").write_text(json.dumps(front), encoding="utf-8")
    options = ("--target", "jetson-orin", "--precision", "int8", "--calibrate", "digits")
    ended = skipc(*built(folder, *options))
    assert ended.code == 0, ended.err
    assert Bundle.open(folder / "ckpt.skipc").manifest.provenance.precision == "int8"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "int8 needs data to observe the ranges of activations on.*--calibrate DATA"),
        (("--calibrate", "nowhere"), "--calibrate nowhere: the folder nowhere does not exist"),
        (("--calibrate", "constant.npz"), "'images' is 0.5 everywhere, which is no range"),
        (("--calibrate", "nan.npz"), "'images' holds NaN or infinity"),
        (("--calibrate", "larger.npz"), r"--calibrate larger.npz.*9, 9"),
    ],
)
def test_data_that_tells_no_range_is_refused(
    folder: Path, options: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    labels = np.arange(64) % 10
    images = np.random.default_rng(0).random((64, 1, 8, 8), np.float32)
    np.savez("constant.npz", x=np.full_like(images, 0.5), y=labels)
    np.savez("larger.npz", x=np.zeros((64, 1, 9, 9), np.float32), y=labels)
    images[:, 0, 0, 0] = np.nan
    np.savez("nan.npz", x=images, y=labels)
    assert re.search(said, mistake(*built(folder, "--target", "cpu", *options)))
    assert not (folder / "ckpt.skipc").exists()


@pytest.mark.parametrize(
    ("changed", "options", "said"),
    [
        ({}, ("--precision", "int8", "--max-drop", "1"), "what int8 loses is measured on da"),
        ({}, ("--calibrate", "digits", "--max-drop", "1"), "nothing computes in int8. Pass"),
        ({"float32": ["head"]}, (), "'float32' names layers that int8 leaves alone, but it"),
        ({"float32": []}, (), "'float32' is .*expected a list of layers"),
        ({}, ("--precision", "int8-dynamic"), "most of the network's arithmetic is convolut"),
        (
            {"precision": "int8", "float32": ["hea"]},
            ("--calibrate", "digits"),
            "'float32' names no layer: 'hea'. Did you mean 'head'",
        ),
    ],
)
def test_what_int8_leaves_alone_is_checked(
    folder: Path, changed: dict[str, object], options: tuple[str, ...], said: str
) -> None:
    front = {"format": "skipc.front/2", "configurations": [{"name": "full", **changed}]}
    (folder / "front.json").write_text(json.dumps(front), encoding="utf-8")
    assert re.search(said, mistake(*built(folder, "--target", "cpu", *options)))
    assert not (folder / "ckpt.skipc").exists()


def test_data_without_int8_is_refused(folder: Path) -> None:
    front = {"format": "skipc.front/2", "configurations": [{"name": "full"}]}
    (folder / "front.json").write_text(json.dumps(front), encoding="utf-8")
    message = mistake(*built(folder, "--target", "cpu", "--calibrate", "digits"))
    assert message.startswith("--calibrate digits: nothing computes in int8")

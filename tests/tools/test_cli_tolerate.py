"""``skipc tolerate``: what it finds, and what it says of a mistake before the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.runtime.bundle import Bundle
from tests.bundles import write_bundle
from tests.command_line import mistake, skipc

if TYPE_CHECKING:
    from pathlib import Path

ASKED = ("--data", "digits", "--samples", 30)
PARTITIONS = """
format = "skipc.partitions/1"
[[partition]]
name = "low voltage"
rate = 1e-4
energy = 0.7
latency = 0.9
"""
ERRORS = """
format = "skipc.bit-errors/1"
effect = "stuck"
chip = 1
[weak]
along = "columns"
row_bytes = 64
share = 0.05
of_errors = 0.9
"""


def test_a_route_is_damaged_between_its_stages_too(with_exits: Path) -> None:
    path = with_exits / "ckpt.skipc"
    before = Bundle.open(path).manifest_sha256
    asked = (*ASKED, "--max-drop", 10, "--configuration", "early")
    found = skipc("tolerate", path, *asked, "--json").json()
    (coarse,) = found["coarse"]
    assert coarse["configuration"] == "early"
    assert 0 < coarse["certified"] <= coarse["rate"] <= 0.5
    assert coarse["uncorrected"] is None
    assert coarse["samples"] == 30
    assert set(coarse["reported"]) == {"intact", "mean", "worst"}
    tensors = {each["name"]: each for each in found["fine"]["tensors"]}
    handed = [each for name, each in tensors.items() if name.startswith("early: ")]
    assert handed
    assert all(each["users"] == ["early"] and each["size_bytes"] > 0 for each in handed)
    assert all(each["low"] < each["high"] for each in tensors.values())
    assert found["fine"]["saved"] == {}
    assert Bundle.open(path).manifest_sha256 == before


def test_partitions_of_one_memory(with_exits: Path, tmp_path: Path) -> None:
    (tmp_path / "partitions.toml").write_text(PARTITIONS)
    (tmp_path / "errors.toml").write_text(ERRORS)
    files = (
        "--partitions",
        tmp_path / "partitions.toml",
        "--errors",
        tmp_path / "errors.toml",
    )
    asked = (*ASKED, "--max-drop", 10, "--sure", 0.8, "--configuration", "short")
    ended = skipc("tolerate", with_exits / "ckpt.skipc", *asked, *files)
    assert ended.code == 0, ended.err
    for word in ("short", "low voltage", "70.0 %", "90.0 %", "Energy and time are of a model"):
        assert word in ended.out
    assert (
        "Certified, sure to 80 %: of samples like these, in this memory, at most 10 of 100"
        in ended.out
    )


def test_mistakes_are_told_before_the_work(made: Path, tmp_path: Path) -> None:
    path, missing = made / "ckpt.skipc", tmp_path / "none.toml"
    empty = tmp_path / "empty.toml"
    empty.write_text('format = "skipc.partitions/1"\npartition = []\n')
    for options, told in (
        (("--data", "digit"), "the folder digit does not exist"),
        (("--data", tmp_path / "no.npz"), "no.npz"),
        (("--max-drop", 0), "0"),
        (("--sure", 1), "1"),
        (("--configuration", "fats"), "Did you mean 'fast'?"),
        (("--errors", missing), "none.toml: cannot be read: No such file"),
        (("--partitions", missing), "none.toml: cannot be read: No such file"),
        (("--partitions", empty), "'partition' is empty, expected at least one entry"),
        (("--max-drop", 0.5), "216 samples for the bound cannot certify --max-drop 0.5"),
    ):
        words = ("--data", "digits", *options)[-4 if options[0] == "--data" else 0 :]
        assert told in mistake("tolerate", path, *words)
    assert "does not exist" in mistake("tolerate", tmp_path / "no.skipc", "--data", "digits")


def test_what_does_not_classify_is_refused(tmp_path: Path) -> None:
    from skipc.runtime.bundle.tensors import TensorSpec

    outputs = (TensorSpec("mask", "float32", (1, 2, 4, 4)),)
    write_bundle(tmp_path / "toy.skipc", outputs=outputs)
    told = mistake("tolerate", tmp_path / "toy.skipc", "--data", "digits")
    assert "What errors cost is told by one output of shape (N, classes)" in told


def test_samples_without_labels_are_refused(made: Path, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "halves.npz", x=np.zeros((40, 1, 8, 8), np.float32), y=np.arange(40) / 2
    )
    told = mistake("tolerate", made / "ckpt.skipc", "--data", tmp_path / "halves.npz")
    assert "targets must be whole numbers" in told


@pytest.mark.parametrize("text", ["0.6", "0", "half", "int4:0.1", "int8:", "nan"])
def test_a_rate_to_train_with_is_looked_at_first(text: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = mistake("train", "stochastic-depth", "--bit-errors", text, "--out", out)
    assert f"--bit-errors {text}" in told
    assert not out.exists()

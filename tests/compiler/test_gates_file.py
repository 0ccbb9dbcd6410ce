"""The file of gates: what was written is read. What any such file may not be, heads test."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from skipc.compiler.errors import GatesError
from skipc.compiler.gates import Gate, Gates, gates_path, gates_sketch, read_gates, write_gates

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)


def _floats(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return RNG.normal(size=shape).astype(np.float32)


GATES = Gates(
    (
        Gate("stages.1", _floats(3, 4), _floats(3), (0.25,), (0.5,)),
        Gate(
            *("stages.0", _floats(3, 2), _floats(3), (-1.0, 0.5), (1.0, 0.25)),
            np.array([1, 0, 1, 0]),
        ),
    ),
    _floats(3, 3),
    _floats(3),
    0.75,
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "ckpt.pt"
    path.write_bytes(b"weights")
    return path


def test_gates_are_read_as_they_were_written(checkpoint: Path) -> None:
    assert read_gates(checkpoint) is None
    assert gates_sketch(checkpoint) == ""
    path = write_gates(checkpoint, GATES, "sketch")
    assert path == gates_path(checkpoint) == checkpoint.with_name("ckpt.gates.safetensors")
    assert gates_sketch(checkpoint) == "sketch"
    found = read_gates(checkpoint)
    assert found is not None
    assert found.accuracy == GATES.accuracy
    np.testing.assert_array_equal(found.recurrent, GATES.recurrent)
    np.testing.assert_array_equal(found.score, GATES.score)
    for one, other in zip(found.gates, GATES.gates, strict=True):
        assert (one.name, one.thresholds) == (other.name, other.thresholds)
        assert one.rates == other.rates
        np.testing.assert_array_equal(one.parts, other.parts)
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_array_equal(one.bias, other.bias)


def test_gates_of_other_weights_are_refused(checkpoint: Path) -> None:
    write_gates(checkpoint, GATES)
    checkpoint.write_bytes(b"others")
    with pytest.raises(GatesError, match=r"trained on other weights .*`skipc gates`"):
        read_gates(checkpoint)


def test_a_file_without_a_gate_is_refused(checkpoint: Path) -> None:
    write_gates(checkpoint, replace(GATES, gates=()))
    with pytest.raises(GatesError, match="'gates' is empty"):
        read_gates(checkpoint)


@pytest.mark.parametrize(
    ("thresholds", "rates"), [((1.0, 0.5), (1.0, 0.5)), ((0.5, 1.0), (1.0,))]
)
def test_thresholds_that_fall_are_refused(
    checkpoint: Path, thresholds: tuple[float, ...], rates: tuple[float, ...]
) -> None:
    wrong = replace(GATES.gates[1], thresholds=thresholds, rates=rates)
    write_gates(checkpoint, replace(GATES, gates=(wrong,)))
    with pytest.raises(GatesError, match=r"'stages.0' has .*train the gates again"):
        read_gates(checkpoint)


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("cell/recurrent", _floats(3, 2), "has no cell that fits"),
        ("cell/score", None, "has no cell that fits"),
        ("stages.1/weight", _floats(2, 4), "'stages.1' has no weights that fit"),
        (
            "stages.0/bias",
            np.full(3, np.nan, np.float32),
            "'stages.0' has no weights that fit",
        ),
        ("stages.0/parts", None, "'stages.0' has 2 thresholds, but not as many parts"),
        ("stages.0/parts", np.array([0, 2, 2, 0]), "2 thresholds, but not as many parts"),
        ("stages.0/parts", np.array([[0, 1]]), "2 thresholds, but not as many parts"),
        ("stages.0/parts", _floats(4), "2 thresholds, but not as many parts"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    checkpoint: Path, name: str, array: np.ndarray | None, says: str
) -> None:
    path = write_gates(checkpoint, GATES)
    size = int.from_bytes(path.read_bytes()[:8], "little")
    known = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors | ({} if array is None else {name: array}), path, known)
    with pytest.raises(GatesError, match=says):
        read_gates(checkpoint)

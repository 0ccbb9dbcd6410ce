from __future__ import annotations

import pytest

from skipc.compiler.errors import CheckpointError
from skipc.compiler.read.inputs import (
    input_text,
    parse_input,
    parse_inputs,
)
from skipc.runtime.bundle.tensors import Dimension, TensorSpec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("1x3x224x224", TensorSpec("", "float32", (1, 3, 224, 224))),
        ("images=Nx3x8x8", TensorSpec("images", "float32", ("N", 3, 8, 8))),
        ("input_ids=1x128:int64", TensorSpec("input_ids", "int64", (1, 128))),
        ("7:bool", TensorSpec("", "bool", (7,))),
    ],
)
def test_input_gives_name_shape_and_dtype(text: str, spec: TensorSpec) -> None:
    assert parse_input(text) == spec
    assert parse_input(input_text(spec)) == spec


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "has no shape"),
        ("1x3x", "dimension 2 is ''"),
        ("1x-3", "dimension 1 is '-3'"),
        ("1x0x2", "dimension 1 is '0'"),
        ("1,3,224", "expected a whole number"),
        ("1x3.5", "dimension 1 is '3.5'"),
        ("1xNx2", "the batch and stands first"),
        ("B-x3", "dimension 0 is 'B-'"),
        ("=1x3", "name before '=' is empty"),
        ("1x3:float23", "Did you mean 'float32'"),
        ("1x3:", "unknown dtype ''"),
    ],
)
def test_input_is_refused_when_malformed(text: str, fragment: str) -> None:
    with pytest.raises(CheckpointError, match=fragment):
        parse_input(text)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("4", "not three whole numbers"),
        ("1:4", "not three whole numbers"),
        ("1:x:4", "e.g. 1:4:16"),
        ("0:1:2", "needs 1 <= MIN"),
        ("4:2:8", "found 4, 2, 8"),
    ],
)
def test_batch_is_refused_when_malformed(text: str, fragment: str) -> None:
    with pytest.raises(CheckpointError, match=fragment):
        parse_inputs([], text)


def test_inputs_go_with_their_batch() -> None:
    inputs, batch = parse_inputs(["a=Nx3", "b=Nx4:int64"], "1:4:16")
    assert [spec.shape for spec in inputs] == [("N", 3), ("N", 4)]
    assert batch == (Dimension("N", 1, 4, 16),)


def test_batch_stands_alone_when_the_checkpoint_gives_the_inputs() -> None:
    assert parse_inputs([], "1:2:3") == ((), (Dimension("N", 1, 2, 3),))


@pytest.mark.parametrize(
    ("texts", "batch", "fragment"),
    [
        (["99999x99999x99"], None, "Check its shape"),
        (["Nx3"], None, "Add --batch MIN:TYPICAL:MAX"),
        (["1x3"], "1:2:4", "Write 'N' as the first dimension"),
        (["a=1x3", "a=1x4"], None, "'a' is given twice"),
        (["a=1x3", "1x4"], None, "Name all of them"),
    ],
)
def test_inputs_are_refused_when_they_contradict(
    texts: list[str], batch: str | None, fragment: str
) -> None:
    with pytest.raises(CheckpointError, match=fragment):
        parse_inputs(texts, batch)

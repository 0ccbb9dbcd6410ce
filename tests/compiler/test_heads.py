"""The file of heads: what was written is read, whatever else is refused in a sentence."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from skipc.compiler.errors import HeadsError
from skipc.compiler.heads import Head, heads_path, read_heads, write_heads

SHA = "0" * 64


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "ckpt.pt"
    path.write_bytes(b"weights")
    return path


def head(name="layer1.0", classes=3, channels=4):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(classes, channels)).astype(np.float32)
    return Head(name, weight, rng.normal(size=classes).astype(np.float32), 0.75, 1.5)


def test_heads_are_read_as_they_were_written(checkpoint):
    wanted = (head("b"), head("a", channels=2))
    path = write_heads(checkpoint, wanted)
    assert path == heads_path(checkpoint) == checkpoint.with_name("ckpt.heads.safetensors")
    found = read_heads(checkpoint)
    assert [(h.name, h.accuracy, h.temperature) for h in found] == [
        ("b", 0.75, 1.5),
        ("a", 0.75, 1.5),
    ]
    for one, other in zip(found, wanted, strict=True):
        assert np.array_equal(one.weight, other.weight)
        assert np.array_equal(one.bias, other.bias)


def test_no_file_is_no_heads(checkpoint):
    assert read_heads(checkpoint) == ()


def test_heads_of_other_weights_are_refused(checkpoint):
    write_heads(checkpoint, (head(),))
    checkpoint.write_bytes(b"others")
    with pytest.raises(HeadsError, match=r"trained on other weights .*`skipc heads`"):
        read_heads(checkpoint)


def header(**changes):
    entry = {"name": "a", "accuracy": 0.5, "temperature": 1.0}
    document = {"format": "skipc.heads/1", "checkpoint_sha256": SHA, "heads": [entry]}
    return {"skipc.heads": json.dumps({**document, **changes})}


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (None, "has no 'skipc.heads': no heads of skipc"),
        ({"skipc.heads": "{"}, "ckpt.heads.safetensors"),
        ({"skipc.heads": "[]"}, "must be 'skipc.heads/1', found None"),
        (header(format="skipc.heads/9"), "skipc.heads/9"),
        (header(checkpoint_sha256="x"), "checkpoint_sha256"),
        (header(heads=[{"name": "a", "accuracy": 2.0, "temperature": 1.0}]), "accuracy"),
        (header(heads=[{"name": "a", "accuracy": 0.5, "temperature": 0.0}]), "temperature"),
        (header(heads=[{"name": "a", "accuracy": 0.5, "temperature": 1.0}] * 2), "'a'"),
        (header(more=1), "more"),
    ],
)
def test_a_header_that_is_none_is_refused(checkpoint, metadata, says):
    save_file({"a/weight": np.zeros((3, 4), np.float32)}, heads_path(checkpoint), metadata)
    with pytest.raises(HeadsError, match=says) as refused:
        read_heads(checkpoint)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * 100, struct.pack("<Q", 1 << 40) + b"{", struct.pack("<Q", 2) + b"{]"],
)
def test_a_damaged_file_is_refused(checkpoint, content):
    heads_path(checkpoint).write_bytes(content)
    with pytest.raises(HeadsError, match="damaged safetensors file"):
        read_heads(checkpoint)


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        (np.zeros((3, 4)), np.zeros(3, np.float32)),
        (np.zeros(4, np.float32), np.zeros(4, np.float32)),
        (np.zeros((3, 4), np.float32), np.zeros(4, np.float32)),
        (np.full((3, 4), np.nan, np.float32), np.zeros(3, np.float32)),
        (None, np.zeros(3, np.float32)),
    ],
)
def test_weights_that_do_not_fit_are_refused(checkpoint, weight, bias):
    path = write_heads(checkpoint, (head("a"),))
    known = json.loads(path.read_bytes()[8:].split(b"}}")[0] + b"}}")["__metadata__"]
    tensors = {"a/bias": bias} | ({} if weight is None else {"a/weight": weight})
    save_file(tensors, path, known)
    with pytest.raises(HeadsError, match="'a' has no weights that fit"):
        read_heads(checkpoint)

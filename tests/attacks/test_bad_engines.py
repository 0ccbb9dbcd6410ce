"""Engines that are damaged or hostile: each is refused with an error that names the file."""

from __future__ import annotations

import os

import pytest

from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import FormatError, IntegrityError, VersionError
from tests.bundles import ESCAPES, edit_json, write_bundle, write_engines
from tests.bundles import set_value as _set


@pytest.fixture
def path(tmp_path):
    return write_bundle(tmp_path / "toy.skipc")


@pytest.mark.parametrize("escape", ESCAPES)
def test_engine_set_refuses_a_path_that_leads_out(path, escape):
    folder = write_engines(path)
    edit_json(folder / "engines.json", _set("files", 0, "path", value=escape))
    with pytest.raises(IntegrityError, match="leads out of the bundle"):
        Bundle.open(path).engine_set("cpu")


def test_verify_hashes_refuses_an_altered_engine(path):
    folder = write_engines(path)
    (folder / "mid.engine").write_bytes(b"engine of MID")
    with pytest.raises(IntegrityError, match=r"mid\.engine: wrong hash"):
        Bundle.open(path).verify_hashes()


def test_verify_hashes_refuses_an_altered_list_of_engines(path):
    folder = write_engines(path)
    edit_json(folder / "engines.json", _set("engines", 0, "latency", 0, "p50_ms", value=0.5))
    bundle = Bundle.open(path)
    assert bundle.engine_set("cpu").engines[0].latency[0].p50_ms == 0.5
    with pytest.raises(IntegrityError, match=r"engines\.json: its content does not have the"):
        bundle.verify_hashes()


@pytest.mark.parametrize("target", ["../cpu", "", ".", ".cpu", "a/b", "a\\b", "C:"])
def test_engine_set_refuses_a_target_that_is_a_path(path, target):
    with pytest.raises(IntegrityError, match=r"not a target's name|leads out"):
        Bundle.open(path).engine_set(target)


def test_engine_set_refuses_a_folder_that_is_a_link_out(path):
    folder = write_engines(path)
    folder.rename(path.parent / "cpu")
    folder.symlink_to(path.parent / "cpu")
    with pytest.raises(IntegrityError, match="a symbolic link that leads out"):
        Bundle.open(path).engine_set("cpu")


def test_engine_set_refuses_engines_of_another_bundle(path):
    write_engines(path)
    edit_json(path / "manifest.json", _set("name", value="other"))
    with pytest.raises(
        IntegrityError, match=r"engines\.json: .* another manifest .*skipc finish"
    ):
        Bundle.open(path).engine_set("cpu")


def test_engine_set_refuses_a_truncated_engine(path):
    folder = write_engines(path)
    os.truncate(folder / "packed.bin", 1)
    with pytest.raises(IntegrityError, match=r"packed\.bin: truncated"):
        Bundle.open(path).engine_set("cpu")


def test_engine_set_refuses_an_unknown_version(path):
    folder = write_engines(path)
    edit_json(folder / "engines.json", _set("format", value="skipc.engines/9"))
    with pytest.raises(
        VersionError, match=r"engines\.json: written in format 'skipc.engines/9'"
    ):
        Bundle.open(path).engine_set("cpu")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda doc: doc["engines"].pop(),
            IntegrityError,
            "no engine for the graph 'fast'",
        ),
        (
            lambda doc: doc["engines"].append(doc["engines"][0]),
            FormatError,
            "'full' is given tw",
        ),
        (
            _set("engines", 0, "graph", value="x"),
            IntegrityError,
            "no engine for the graph 'full'",
        ),
        (
            lambda doc: doc["engines"].append({**doc["engines"][0], "graph": "x"}),
            FormatError,
            "an engine of 'x', which is no graph of the bundle",
        ),
        (_set("target", value="board"), FormatError, "'target' is 'board', but the folder"),
        (_set("packed_file", value="x"), FormatError, "'x' is used but not listed"),
        (
            lambda doc: [
                each.update({key: "sub/mid.engine"})
                for part, key in (("engines", "file"), ("files", "path"))
                for each in doc[part]
                if each[key] == "mid.engine"
            ],
            FormatError,
            "'sub/mid.engine' does not lie in the folder of 'packed.bin'",
        ),
        (_set("engines", 0, "latency", 0, "p50_ms", value=0), FormatError, "above zero"),
        (_set("engines", 0, "latency", 0, "p95_ms", value=-1), FormatError, "above zero"),
        (_set("bundle_sha256", value="x"), FormatError, "64 hexadecimal digits"),
    ],
)
def test_engine_set_refuses_a_contradiction(path, change, error, message):
    folder = write_engines(path)
    edit_json(folder / "engines.json", change)
    with pytest.raises(error, match=message) as caught:
        Bundle.open(path).engine_set("cpu")
    assert "engines.json" in str(caught.value)

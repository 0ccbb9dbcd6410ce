from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.manifest import Manifest
from skipc.runtime.bundle.records import read, written
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from skipc.runtime.errors import BundleError, FormatError, IntegrityError
from tests.bundles import edit_json, write_bundle, write_engines


def test_open_returns_manifest_and_its_hash(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    bundle = Bundle.open(path)
    assert [entry.name for entry in bundle.manifest.configurations] == ["full", "mid", "fast"]
    data = (path / "manifest.json").read_bytes()
    assert bundle.manifest_sha256 == hashlib.sha256(data).hexdigest()
    assert bundle.file("weights.bin") == path / "weights.bin"


def test_open_takes_a_path_as_text(tmp_path):
    write_bundle(tmp_path / "toy.skipc")
    assert Bundle.open(str(tmp_path / "toy.skipc")).manifest.name == "toy"


def test_manifest_survives_json(tmp_path):
    bundle = Bundle.open(write_bundle(tmp_path / "toy.skipc"))
    again = json.loads(json.dumps(written(bundle.manifest)))
    assert read(Manifest, again, "again") == bundle.manifest


def test_file_names_the_nearest_when_unknown(tmp_path):
    bundle = Bundle.open(write_bundle(tmp_path / "toy.skipc"))
    with pytest.raises(IntegrityError, match=r"Did you mean 'weights\.bin'"):
        bundle.file("weight.bin")


def test_file_refuses_what_changed_since_open(tmp_path):
    bundle = Bundle.open(write_bundle(tmp_path / "toy.skipc"))
    (bundle.path / "weights.bin").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"weights\.bin: truncated: 0 bytes"):
        bundle.file("weights.bin")


def test_targets_lists_finished_engines_only(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    assert Bundle.open(path).targets() == ()
    write_engines(path, "cpu")
    write_engines(path, "board")
    write_engines(path, ".cpu-half-written")
    (path / "engines/empty").mkdir()
    assert Bundle.open(path).targets() == ("board", "cpu")


def test_engine_set_needs_no_name_when_there_is_one_target(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    folder = write_engines(path, "cpu")
    bundle = Bundle.open(path)
    assert bundle.engine_set().target == "cpu"
    assert bundle.engine_dir("cpu") == folder


def test_engine_set_is_in_the_manifests_order(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    folder = write_engines(path)
    edit_json(folder / "engines.json", lambda doc: doc["engines"].reverse())
    entries = Bundle.open(path).engine_set("cpu").engines
    assert [entry.graph for entry in entries] == ["full", "mid", "fast"]


def test_engine_set_asks_for_a_name_when_there_are_several(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path, "cpu")
    write_engines(path, "board")
    with pytest.raises(BundleError, match=r"several targets.*'board' or 'cpu'"):
        Bundle.open(path).engine_set()


def test_engine_set_names_the_command_when_there_is_none(tmp_path):
    bundle = Bundle.open(write_bundle(tmp_path / "toy.skipc"))
    with pytest.raises(
        BundleError, match=r"no engines yet. Run `skipc finish .*toy\.skipc` on"
    ):
        bundle.engine_set()
    with pytest.raises(BundleError, match=r"for the target 'board'\. None is available"):
        bundle.engine_set("board")


def test_verify_hashes_reads_portable_files_and_engines(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    write_engines(path)
    seen = []
    Bundle.open(path).verify_hashes(seen.append)
    assert "weights.bin" in seen
    assert "golden/fast.npz" in seen
    assert "engines/cpu/packed.bin" in seen


def test_verify_hashes_works_without_progress(tmp_path):
    Bundle.open(write_bundle(tmp_path / "toy.skipc")).verify_hashes()


def test_golden_arrays_are_read_per_case(tmp_path):
    ids = TensorSpec("ids", "int64", ("N", 5))
    mask = TensorSpec("a/b", "bool", ("N", 5))
    path = write_bundle(
        tmp_path / "toy.skipc",
        inputs=(ids, mask),
        dimensions=(Dimension("N", 1, 2, 4),),
        cases=3,
    )
    bundle = Bundle.open(path)
    cases = bundle.golden_inputs()
    assert [sorted(case) for case in cases] == [["a/b", "ids"]] * 3
    assert cases[2]["ids"].shape == (2, 5)
    assert cases[2]["a/b"].dtype == np.bool_
    assert len(bundle.golden_outputs("mid")) == 3


def test_golden_outputs_names_the_nearest_when_unknown(tmp_path):
    bundle = Bundle.open(write_bundle(tmp_path / "toy.skipc"))
    with pytest.raises(BundleError, match=r"no configuration 'fats'\. Did you mean 'fast'"):
        bundle.golden_outputs("fats")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no golden case"),
        ({"0/image": np.zeros((1, 3, 4, 4), np.float32)}, "'0/images' is missing"),
        ({"1/images": np.zeros((1, 3, 4, 4), np.float32)}, "'0/images' is missing"),
        ({"0/images": np.zeros((1, 3, 4, 4))}, "is float64 1x3x4x4, expected float32"),
        (
            {"0/images": np.zeros((3, 4, 4), np.float32)},
            "is float32 3x4x4, expected float32 1x3x4x4",
        ),
    ],
)
def test_golden_inputs_refuses_what_does_not_fit(tmp_path, arrays, message):
    path = write_bundle(tmp_path / "toy.skipc")
    np.savez(path / "golden/inputs.npz", **arrays)
    size = (path / "golden/inputs.npz").stat().st_size

    def change(doc):
        entry = next(e for e in doc["files"] if e["path"] == "golden/inputs.npz")
        entry["size_bytes"] = size

    edit_json(path / "manifest.json", change)
    with pytest.raises(FormatError, match=message):
        Bundle.open(path).golden_inputs()

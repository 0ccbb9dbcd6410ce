"""Bundles that are damaged or hostile: each is refused with an error that names the file."""

from __future__ import annotations

import os
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime.bundle import Bundle, records
from skipc.runtime.bundle.device import Device
from skipc.runtime.bundle.measured import TableKey, all_tables, find_table
from skipc.runtime.bundle.npz import read_npz
from skipc.runtime.errors import BundleError, FormatError, IntegrityError, VersionError
from tests.bundles import edit_json, write_bundle, write_engines
from tests.sysfs_trees import unprivileged


@pytest.fixture
def path(tmp_path):
    return write_bundle(tmp_path / "toy.skipc")


def _manifest(path, change):
    edit_json(path / "manifest.json", change)


def _listed(doc, name):
    return next(entry for entry in doc["files"] if entry["path"] == name)


def _set(*keys, value):
    def change(doc):
        for key in keys[:-1]:
            doc = doc[key]
        doc[keys[-1]] = value

    return change


def test_open_refuses_what_is_not_a_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(BundleError, match="file is not a folder"):
        Bundle.open(file)
    with pytest.raises(BundleError, match="nowhere does not exist"):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"cannot be read \(|does not exist"):
        Bundle.open(tmp_path / ("long" * 100))


def test_open_refuses_a_folder_without_manifest(tmp_path):
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        Bundle.open(tmp_path)


def test_open_refuses_a_huge_manifest_unread(path):
    os.truncate(path / "manifest.json", 2**30)
    with pytest.raises(FormatError, match=r"manifest\.json: 1073741824 bytes, more than"):
        Bundle.open(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"format": "a", "format": "b"}', "'format' is given twice"),
        (b"[]", "'format' must be 'skipc.bundle/1', found None"),
        (b'{"format": "skipc.front/1"}', "found 'skipc.front/1'"),
        (b'{"format": "skipc.bundle/1"}', "'name' is missing"),
        (
            b'{"format": "skipc.bundle/1", "nmae": 1}',
            "unknown key 'nmae'. Did you mean 'name'",
        ),
    ],
)
def test_open_refuses_a_malformed_manifest(path, text, message):
    (path / "manifest.json").write_bytes(text)
    with pytest.raises(FormatError, match=message):
        Bundle.open(path)


def test_open_refuses_an_unknown_version(path):
    _manifest(path, _set("format", value="skipc.bundle/2"))
    with pytest.raises(
        VersionError, match=r"manifest\.json: written in format 'skipc.bundle/2'"
    ):
        Bundle.open(path)


ESCAPES = [
    "../outside.bin",
    "golden/../../outside.bin",
    "/etc/passwd",
    "C:/windows/system.ini",
    "c:outside.bin",
    "golden\\inputs.npz",
    "..\\outside.bin",
    "golden//inputs.npz",
    "golden/",
    "./weights.bin",
    "weights.bin\0.txt",
    "weights\n.bin",
    "\ud800",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_open_refuses_a_path_that_leads_out(path, escape):
    (path.parent / "outside.bin").write_bytes(b"secret")
    _manifest(path, lambda doc: doc["files"].append({**doc["files"][0], "path": escape}))
    with pytest.raises(
        IntegrityError, match=r"files\[\d+\]: 'path': .* leads out of the bundle"
    ):
        Bundle.open(path)


@pytest.mark.parametrize("escape", ESCAPES)
def test_engine_set_refuses_a_path_that_leads_out(path, escape):
    folder = write_engines(path)
    edit_json(folder / "engines.json", _set("files", 0, "path", value=escape))
    with pytest.raises(IntegrityError, match="leads out of the bundle"):
        Bundle.open(path).engine_set("cpu")


def test_open_refuses_a_link_to_a_file_outside(path):
    (path / "weights.bin").rename(path.parent / "weights.bin")
    (path / "weights.bin").symlink_to("../weights.bin")
    with pytest.raises(IntegrityError, match=r"weights\.bin: a symbolic link that leads out"):
        Bundle.open(path)


def test_open_refuses_a_link_to_a_folder_outside(path):
    (path / "golden").rename(path.parent / "golden")
    (path / "golden").symlink_to("../golden")
    with pytest.raises(
        IntegrityError, match=r"golden/\w+\.npz: a symbolic link that leads out"
    ):
        Bundle.open(path)


def test_open_refuses_a_manifest_that_is_a_link_out(path):
    (path / "manifest.json").rename(path.parent / "manifest.json")
    (path / "manifest.json").symlink_to("../manifest.json")
    with pytest.raises(IntegrityError, match=r"manifest\.json: a symbolic link"):
        Bundle.open(path)


def test_open_refuses_a_loop_of_links(path):
    (path / "weights.bin").unlink()
    (path / "weights.bin").symlink_to("weights.bin")
    with pytest.raises(IntegrityError, match=r"weights\.bin: (cannot be followed|missing)"):
        Bundle.open(path)


def test_open_follows_a_link_to_the_bundle_itself(path):
    (path.parent / "link").symlink_to(path)
    assert Bundle.open(path.parent / "link").manifest.name == "toy"


def test_open_refuses_a_missing_file(path):
    (path / "mid.onnx").unlink()
    with pytest.raises(IntegrityError, match=r"mid\.onnx: missing or unreadable"):
        Bundle.open(path)


def test_open_refuses_a_truncated_file(path):
    os.truncate(path / "weights.bin", 100)
    with pytest.raises(IntegrityError, match=r"weights\.bin: truncated: 100 bytes, but 12288"):
        Bundle.open(path)


def test_open_refuses_a_file_that_grew(path):
    os.truncate(path / "weights.bin", 20000)
    with pytest.raises(IntegrityError, match=r"weights\.bin: too long"):
        Bundle.open(path)


@pytest.mark.parametrize("name", ["weights.bin", "manifest.json"])
def test_open_refuses_a_pipe_without_waiting(path, name):
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(IntegrityError, match="not a regular file"):
        Bundle.open(path)


def test_read_document_refuses_a_pipe_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="pipe: not a regular file"):
        records.read_document(tmp_path / "pipe")


def test_open_refuses_a_folder_in_place_of_a_file(path):
    (path / "mid.onnx").unlink()
    (path / "mid.onnx").mkdir()
    with pytest.raises(IntegrityError, match=r"mid\.onnx: not a regular file"):
        Bundle.open(path)


def test_verify_hashes_refuses_an_altered_file(path):
    data = bytearray((path / "weights.bin").read_bytes())
    data[5] ^= 1
    (path / "weights.bin").write_bytes(data)
    bundle = Bundle.open(path)  # sizes fit
    with pytest.raises(IntegrityError, match=r"weights\.bin: wrong hash"):
        bundle.verify_hashes()


def test_verify_hashes_refuses_an_altered_engine(path):
    folder = write_engines(path)
    (folder / "mid.engine").write_bytes(b"engine of MID")
    with pytest.raises(IntegrityError, match=r"mid\.engine: wrong hash"):
        Bundle.open(path).verify_hashes()


def _duplicate_file(doc):
    doc["files"].append(doc["files"][0])


def _list_manifest(doc):
    doc["files"].append({**doc["files"][0], "path": "manifest.json"})


def _list_table(doc):
    doc["files"].append({**doc["files"][0], "path": "measured/0123456789abcdef.json"})


def _same_name(doc):
    doc["configurations"][1]["name"] = "full"


def _same_graph(doc):
    doc["configurations"][1]["graph"] = "full.onnx"


def _overlap(doc):
    doc["weights"][1]["offset_bytes"] = 200


def _beyond(doc):
    doc["weights"][2]["size_bytes"] = 10**6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_duplicate_file, "is listed twice in 'files'"),
        (_same_name, "the configuration name 'full' is given twice"),
        (_same_graph, "the graph file 'full.onnx' is given twice"),
        (_overlap, r"weights\[1\] starts at 200 bytes and overlaps"),
        (_beyond, "the weights end at 1008192 bytes, but 'weights.bin' has 12288"),
        (_set("configurations", value=[]), "holds no configuration"),
        (_set("inputs", value=[]), "'inputs' is empty"),
        (_set("configurations", 1, "skip", value=["x"]), "skips 'x', which is not a unit"),
        (_set("configurations", 1, "golden", value="x.npz"), "'x.npz' is used but not listed"),
        (_set("configurations", 1, "macs", value=-1), "'macs' must be a whole number of at"),
        (_set("configurations", 1, "macs", value=True), "'macs' must be a whole number"),
        (_set("configurations", 1, "macs", value=2**63), r"a whole number below 2\^63"),
        (_set("inputs", 0, "dtype", value="float23"), "Did you mean 'float32'"),
        (_set("inputs", 0, "shape", value=["N", 3]), "a shape names 'N', but 'batch' is null"),
        (_set("inputs", 0, "shape", value=[0, 3]), "must hold positive whole numbers"),
        (
            _set("batch", value={"minimum": 1, "typical": 2, "maximum": 4}),
            "no input has a dynamic dimension",
        ),
        (
            _set("batch", value={"minimum": 2, "typical": 1, "maximum": 4}),
            "needs minimum <= typical <= maximum",
        ),
        (_set("files", 0, "sha256", value="abc"), "'sha256' must be 64 hexadecimal digits"),
        (_list_manifest, "'manifest.json' may not be listed in 'files'"),
        (_list_table, "'measured/0123456789abcdef.json' may not be listed in 'files'"),
        (_set("configurations", 0, "metrics", value={"accuracy": 10**400}), "float can hold"),
        (_set("configurations", 0, "metrics", value={"accuracy": "1"}), "must be a number"),
    ],
)
def test_open_refuses_a_contradiction(path, change, message):
    _manifest(path, change)
    with pytest.raises(FormatError, match=message) as caught:
        Bundle.open(path)
    assert "manifest.json" in str(caught.value)


def test_open_refuses_two_dynamic_dimensions(path):
    def change(doc):
        doc["batch"] = {"minimum": 1, "typical": 1, "maximum": 4}
        doc["inputs"][0]["shape"] = ["N", "M"]

    _manifest(path, change)
    with pytest.raises(FormatError, match="only the batch may be dynamic"):
        Bundle.open(path)


@pytest.mark.parametrize(
    "change",
    [
        _set("name", value=["x" * 100_000] * 50),
        _set("format", value="x" * 100_000),
        _set("format", value="skipc.bundle/" + "9" * 100_000),
        _set("inputs", 0, "shape", value=[["x" * 100_000]]),
    ],
)
def test_error_stays_short_when_a_value_is_huge(path, change):
    _manifest(path, change)
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("target", ["../cpu", "", ".", ".cpu", "a/b", "a\\b", "C:"])
def test_engine_set_refuses_a_target_that_is_a_path(path, target):
    with pytest.raises(IntegrityError, match=r"not a target's name|leads out"):
        Bundle.open(path).engine_set(target)


def _find_any_table(bundle):
    return find_table(bundle, TableKey("0" * 64, "cpu", "0" * 64, Device("", ""), 1))


@pytest.mark.parametrize(
    ("name", "mode", "read"),
    [
        ("engines", 0o000, Bundle.targets),
        ("engines", 0o111, Bundle.targets),
        ("engines/cpu", 0o000, Bundle.targets),
        ("measured", 0o000, _find_any_table),
        ("measured", 0o111, all_tables),
    ],
)
def test_a_folder_that_may_not_be_read_is_named(name, mode, read):
    with unprivileged() as folder:
        path = write_bundle(folder / "toy.skipc")
        write_engines(path)
        (path / "measured").mkdir()
        bundle = Bundle.open(path)
        (path / name).chmod(mode)
        try:
            with pytest.raises(IntegrityError, match=f"{name}.*: cannot be read: Permission"):
                read(bundle)
        finally:
            (path / name).chmod(0o755)


def test_engine_set_refuses_a_folder_that_is_a_link_out(path):
    folder = write_engines(path)
    folder.rename(path.parent / "cpu")
    folder.symlink_to(path.parent / "cpu")
    with pytest.raises(IntegrityError, match="a symbolic link that leads out"):
        Bundle.open(path).engine_set("cpu")


def test_engine_set_refuses_engines_of_another_bundle(path):
    write_engines(path)
    _manifest(path, _set("name", value="other"))
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
            "no engine for configuration 'fast'",
        ),
        (
            lambda doc: doc["engines"].append(doc["engines"][0]),
            FormatError,
            "'full' is given tw",
        ),
        (_set("target", value="board"), FormatError, "'target' is 'board', but the folder"),
        (_set("packed_file", value="x"), FormatError, "'x' is used but not listed"),
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


def test_npz_refuses_a_pickle(tmp_path):
    file = tmp_path / "bad.npz"
    np.savez(file, a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(FormatError, match=r"bad\.npz: 'a': holds Python objects"):
        read_npz(file)


def test_npz_refuses_a_compressed_bomb(tmp_path):
    file = tmp_path / "bad.npz"
    np.savez_compressed(file, a=np.zeros(10**6))
    with pytest.raises(FormatError, match="'a' is compressed"):
        read_npz(file)


def test_npz_refuses_a_header_that_claims_more_than_follows(tmp_path):
    file = tmp_path / "bad.npz"
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", npy + b"\0" * 8)
    with pytest.raises(FormatError, match=r"'a': the header says .* but 8 bytes follow"):
        read_npz(file)


def test_npz_refuses_two_arrays_of_one_name(tmp_path):
    file = tmp_path / "bad.npz"
    np.savez(file, a=np.zeros(1))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("a.npy", archive.read("a.npy"))
    with pytest.raises(FormatError, match="'a' is given twice"):
        read_npz(file)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"x" * 1000])
def test_npz_refuses_what_is_no_archive(tmp_path, data):
    file = tmp_path / "bad.npz"
    file.write_bytes(data)
    with pytest.raises(FormatError, match=r"bad\.npz: not an \.npz file"):
        read_npz(file)


def test_npz_refuses_an_entry_that_is_no_array(tmp_path):
    file = tmp_path / "bad.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", b"cos\nsystem\n")
    with pytest.raises(FormatError, match=r"bad\.npz: not an \.npz file"):
        read_npz(file)


def test_npz_reads_column_major_and_empty_arrays(tmp_path):
    file = tmp_path / "good.npz"
    columns = np.asfortranarray(np.arange(6).reshape(2, 3))
    np.savez(file, a=columns, b=np.zeros((0, 3), np.float32), c=np.float32(7))
    arrays = read_npz(file)
    assert np.array_equal(arrays["a"], columns)
    assert arrays["b"].shape == (0, 3)
    assert arrays["c"] == 7


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=3))
def test_npz_raises_nothing_but_its_error_when_bytes_change(tmp_path_factory, changes):
    file = tmp_path_factory.getbasetemp() / "fuzzed.npz"
    np.savez(file, a=np.arange(4, dtype=np.float32))
    data = bytearray(file.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    file.write_bytes(data)
    with suppress(FormatError):
        read_npz(file)


@given(st.text(max_size=60))
def test_npz_raises_nothing_but_its_error_on_any_header(tmp_path_factory, header):
    file = tmp_path_factory.getbasetemp() / "header.npz"
    text = header.encode("utf-8", "surrogatepass")
    with zipfile.ZipFile(file, "w") as archive:
        magic = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
        archive.writestr("a.npy", magic + text + b"\0" * 8)
    with suppress(FormatError):
        read_npz(file)

"""Bundles that are damaged or hostile: each is refused with an error that names the file."""

from __future__ import annotations

import os

import pytest

from skipc.runtime.bundle import Bundle, records
from skipc.runtime.bundle.device import Device
from skipc.runtime.bundle.measured import TableKey, all_tables, find_table
from skipc.runtime.errors import (
    BundleError,
    FormatError,
    IntegrityError,
    VersionError,
    printable,
)
from tests.bundles import ESCAPES, edit_json, write_bundle, write_engines
from tests.bundles import set_value as _set
from tests.sysfs_trees import unprivileged


@pytest.fixture
def path(tmp_path):
    return write_bundle(tmp_path / "toy.skipc")


def _manifest(path, change):
    edit_json(path / "manifest.json", change)


def _listed(doc, name):
    return next(entry for entry in doc["files"] if entry["path"] == name)


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
        (b"[]", "'format' must be 'skipc.bundle/3', found None"),
        (b'{"format": "skipc.front/1"}', "found 'skipc.front/1'"),
        (
            b'{"format": "skipc.bundle/3"}',
            "'name' is missing. If an earlier skipc wrote it, build the bundle again",
        ),
        (
            b'{"format": "skipc.bundle/3", "nmae": 1}',
            "unknown key 'nmae'. Did you mean 'name'",
        ),
    ],
)
def test_open_refuses_a_malformed_manifest(path, text, message):
    (path / "manifest.json").write_bytes(text)
    with pytest.raises(FormatError, match=message):
        Bundle.open(path)


@pytest.mark.parametrize("version", [1, 2, 4])
def test_open_refuses_another_version_and_says_to_build_again(path, version):
    _manifest(path, _set("format", value=f"skipc.bundle/{version}"))
    message = f"written in format 'skipc.bundle/{version}', .* build the bundle again with `sk"
    with pytest.raises(VersionError, match=rf"manifest\.json: {message}"):
        Bundle.open(path)


@pytest.mark.parametrize("escape", ESCAPES)
def test_open_refuses_a_path_that_leads_out(path, escape):
    (path.parent / "outside.bin").write_bytes(b"secret")
    _manifest(path, lambda doc: doc["files"].append({**doc["files"][0], "path": escape}))
    with pytest.raises(
        IntegrityError, match=r"files\[\d+\]: 'path': .* leads out of the bundle"
    ):
        Bundle.open(path)


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


def test_a_graph_lies_beside_the_store_that_it_names(path):
    # Named by the graph, the store would be another file, which nobody lists.
    (path / "golden/mid.onnx").write_bytes((path / "mid.onnx").read_bytes())

    def move(doc):
        doc["graphs"][1]["file"] = "golden/mid.onnx"
        _listed(doc, "mid.onnx")["path"] = "golden/mid.onnx"

    _manifest(path, move)
    with pytest.raises(FormatError, match=r"'golden/mid\.onnx' does not lie in the folder of"):
        Bundle.open(path)


def _duplicate_file(doc):
    doc["files"].append(doc["files"][0])


def _list_manifest(doc):
    doc["files"].append({**doc["files"][0], "path": "manifest.json"})


def _list_table(doc):
    doc["files"].append({**doc["files"][0], "path": "measured/0123456789abcdef.json"})


def _same_name(doc):
    doc["configurations"][1]["name"] = "full"


def _same_graph(doc):
    doc["graphs"][1]["file"] = "full.onnx"


def _overlap(doc):
    doc["weights"][1]["offset_bytes"] = 200


def _beyond(doc):
    doc["weights"][2]["size_bytes"] = 10**6


def _twice_chosen(doc):
    choices = doc["configurations"][1]["parts"][0]["choices"]
    choices.append(choices[0])


_MID = ("configurations", 1)
_CHOICE = (*_MID, "parts", 0, "choices", 0)
_STAGE = (*_MID, "route", 0)
_FREE = {"name": "T", "minimum": 2, "typical": 2, "maximum": 4}
_TEST = {"output": "logits", "scores": {"margin": 1.0}, "threshold": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_duplicate_file, r"files: the path '.*' is given twice"),
        (_same_name, "configurations: the name 'full' is given twice"),
        (_same_graph, "graph 'mid': is 'full' once more: both are the same piece of"),
        (_overlap, r"weights\[1\] starts at 200 bytes and overlaps"),
        (_beyond, "the weights end at 1008192 bytes, but 'weights.bin' has 12288"),
        (_set("configurations", value=[]), "'configurations' is empty"),
        (_set("graphs", value=[]), "'graphs' is empty"),
        (_set("networks", value=[]), "'networks' is empty"),
        (_set("graphs", 1, "inputs", value=[]), r"graphs\[1\]: 'inputs' is empty"),
        (_set("graphs", 1, "name", value="full"), "graphs: the name 'full' is given twice"),
        (_set("graphs", 1, "name", value="a/b"), "'a/b': a file cannot be named so"),
        (_set("graphs", 1, "network", value="x"), "graph 'mid': 'x' is no network of this"),
        (
            _set("graphs", 1, "verification", "ranges", value={"logit": 1.0}),
            r"graph 'mid': 'ranges' has \['logit'\], expected its outputs: \['logits'\]",
        ),
        (
            _set("graphs", 1, "verification", "ranges", "logits", value=0.0),
            "'logits' must be a number above zero, found 0",
        ),
        (
            _set("graphs", 1, "outputs", 0, "shape", value=["N", 3]),
            "names 'N', which is no dim",
        ),
        (
            _set("graphs", 1, "outputs", 0, "shape", value=[1, 3]),
            "that is float32 1x3, expect",
        ),
        (_set("inputs", value=[]), "'inputs' is empty"),
        (_set(*_MID, "parts", value=[]), "'parts' is empty"),
        (_set(*_CHOICE, "taken", value=["x"]), "'x' is no option of the axis 'skip' of this"),
        (_set(*_CHOICE, "taken", value=["block.0"] * 2), "names 'block.0' twice"),
        (_set(*_CHOICE, "axis", value="ski"), "'ski' is no axis .*Did you mean 'skip'"),
        (_set(*_MID, "parts", 0, "network", value="x"), r"parts\[0\]: 'x' is no network of"),
        (_twice_chosen, r"parts\[0\]: choices: the axis 'skip' is given twice"),
        (
            _set("networks", 0, "axes", 0, "options", 1, "name", value="block.0"),
            "is given twi",
        ),
        (_set(*_MID, "golden", value="x.npz"), "'x.npz' is used but not listed"),
        (
            _set(*_MID, "stops", value=[]),
            "'mid': 'stops' has 0 entries, expected one for each",
        ),
        (_set(*_MID, "stops", value=[0.5]), "'stops' sums up to 0.5, expected 1"),
        (_set(*_MID, "stops", value=[-1]), r"'stops\[0\]' must be a number of at least 0"),
        (_set(*_MID, "route", value=[]), "'route' is empty"),
        (_set(*_STAGE, "graph", value="mi"), "stage 0 runs the graph 'mi', .* mean 'mid'"),
        (_set(*_STAGE, "graph", value="full"), "graph 'mid': no configuration runs it"),
        (_set(*_STAGE, "feeds", value={"image": "images"}), "stage 0: .* no input 'image'"),
        (_set(*_STAGE, "feeds", value={"images": "0.logits"}), "stage 0 does not always run"),
        (_set(*_STAGE, "feeds", value={"images": "image"}), "is not an input of the family"),
        (_set(*_STAGE, "settings", value={"images": [1.0]}), "expected 48: it is float32 1x3"),
        (_set(*_STAGE, "settings", value={"images": ["a"]}), r"'images\[0\]' must be"),
        (
            _set(*_STAGE, "answers", value={"logits": "x"}),
            "'x', which is not an output of the",
        ),
        (_set(*_STAGE, "test", value=_TEST), "stage 0 goes on to stage 1, expected a later"),
        (_set("graphs", 1, "macs", value=-1), "'macs' must be a whole number of at"),
        (_set("graphs", 1, "macs", value=True), "'macs' must be a whole number"),
        (_set("graphs", 1, "macs", value=2**63), r"a whole number below 2\^63"),
        (_set("inputs", 0, "dtype", value="float23"), "Did you mean 'float32'"),
        (
            _set("inputs", 0, "shape", value=["N", 3]),
            "a shape names 'N', which is no dimension",
        ),
        (
            _set("graphs", 1, "outputs", 0, "shape", value=["2**9"]),
            "'2\\*\\*9', which is no dim",
        ),
        (
            _set("inputs", 0, "shape", value=[0, 3]),
            r"'shape\[0\]' must be a whole number of at l",
        ),
        (
            _set("dimensions", value=[{**_FREE, "name": "N"}]),
            "no input has the dimension 'N'",
        ),
        (_set("dimensions", value=[_FREE, _FREE]), "the name 'T' is given twice"),
        (_set("dimensions", value=[{**_FREE, "name": "a b"}]), "the name 'a b' is no word"),
        (_set("dimensions", value=[{**_FREE, "typical": 1}]), "needs minimum <= typical <= m"),
        (_set("dimensions", value=[{**_FREE, "step": 4}]), "needs multiples of step"),
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


def test_open_refuses_a_dimension_without_sizes(path):
    def change(doc):
        doc["dimensions"] = [_FREE]
        doc["inputs"][0]["shape"] = ["T", "M"]

    _manifest(path, change)
    with pytest.raises(FormatError, match="a shape names 'M', which is no dimension"):
        Bundle.open(path)


@pytest.mark.parametrize(
    "change",
    [
        _set("name", value=["x" * 100_000] * 50),
        _set("format", value="x" * 100_000),
        _set("format", value="skipc.bundle/" + "9" * 100_000),
        _set("inputs", 0, "shape", value=[["x" * 100_000]]),
        _set("inputs", 0, "shape", value=[1] * 100_000),
        _set("graphs", 1, "name", value="x/" * 50_000 + "x"),
        _set(*_MID, "golden", value="x" * 100_000),
    ],
)
def test_error_stays_short_when_a_value_is_huge(path, change):
    _manifest(path, change)
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert len(str(caught.value)) < 2500


def test_error_cannot_steer_a_terminal(path):
    _manifest(path, _set("graphs", 1, "network", value="\x1b]0;title\x07\rx\u202e"))
    with pytest.raises(FormatError) as caught:
        Bundle.open(path)
    assert str(caught.value).isprintable()
    assert printable("a\x1b[2J\nb\tc") == "a\\x1b[2J\nb\\tc"


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

"""`skipc report`: the command, its default output, and what it says of mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skipc.runtime.bundle import Bundle
from skipc.tools.console import size_text
from tests.command_line import all_files, mistake, skipc, skipc_without
from tests.report_inputs import report_of, write_family, write_results

if TYPE_CHECKING:
    from pathlib import Path

UNITS = ("a.0", "a.1")
SKIPS = {"full": (), "fast": ("a.1",)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a bundle and results of it and of another one."""
    monkeypatch.chdir(tmp_path)
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS)
    write_results(tmp_path / "toy.json", report_of(bundle))
    other = write_family(tmp_path / "other.skipc", {"full": ()}, UNITS)
    write_results(tmp_path / "other.json", report_of(other))
    return tmp_path


def test_the_page_is_named_after_the_bundle(folder: Path) -> None:
    ended = skipc("report", folder / "toy.skipc", "toy.json")
    assert (ended.code, ended.out, ended.err) == (0, "Written: toy.report.html\n", "")
    page = (folder / "toy.report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "cpu, 1 thread" in page


def test_the_same_input_gives_the_same_page(folder: Path) -> None:
    for name in ("one.html", "two.html"):
        assert skipc("report", "toy.skipc", "toy.json", "-o", name).code == 0
    assert (folder / "one.html").read_bytes() == (folder / "two.html").read_bytes()


def test_a_page_that_is_there_is_replaced_whole(folder: Path) -> None:
    (folder / "p.html").write_text("old")
    assert skipc("report", "toy.skipc", "--out", "p.html").code == 0
    assert (folder / "p.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert not [name for name in all_files(folder) if name.endswith(".tmp")]


def test_a_real_bundle_with_its_engines(made: Path, tmp_path: Path) -> None:
    assert skipc("report", made / "ckpt.skipc", "-o", tmp_path / "p.html").code == 0
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    bundle = Bundle.open(made / "ckpt.skipc")
    assert bundle.manifest_sha256 in page
    assert "Engines of cpu" in page
    # The headline counts all that is on disk: packed engines, too.
    graphs = {graph.file for graph in bundle.manifest.graphs}
    counted = {*graphs, bundle.manifest.weights_file}
    listed = [file for file in bundle.manifest.files if file.path in counted]
    total = sum(file.size_bytes for file in (*listed, *bundle.engine_set("cpu").files))
    assert f'engines</dt><dd class="value">{size_text(total)}</dd>' in page


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("toy.skipc", "-o", "p.pdf"), "--out p.pdf: write to a .html file."),
        (("toy.skipc", "-o", "no/p.html"), "the folder no does not exist"),
        (("toy.skipc", "-o", "other.json/p.html"), "other.json is a file, not a folder"),
        (("toy.skipc", "-o", "d.html"), "d.html: this is a folder"),
        (("toy.skipc", "-o", "toy.skipc/p.html"), "this is inside the bundle"),
        (("toy.skipc", "r.html", "-o", "r.html"), "this would replace a result"),
        (("toy.skipc", "absent.json"), "absent.json: cannot be read: No such file"),
        (("toy.skipc", "other.json"), "another bundle: 'other'"),
        (("toy.skipc", "toy.skipc/manifest.json"), "must be 'skipc.trtbench/2'"),
        (("absent.skipc",), "absent.skipc does not exist"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], told: str, folder: Path) -> None:
    (folder / "d.html").mkdir()
    before = all_files(folder)
    assert told in mistake("report", *arguments)
    assert all_files(folder) == before


@pytest.mark.parametrize("package", ["plotly", "onnx"])
def test_a_missing_package_names_its_extra(package: str, folder: Path) -> None:
    ended = skipc_without(package, "report", "toy.skipc")
    assert ended.code == 2
    assert f"{package!r} is needed here and is not installed" in ended.err
    assert "pip install '.[report]'" in ended.err


def test_torch_is_not_needed(folder: Path) -> None:
    ended = skipc_without("torch,onnxruntime,onnx_ir,matplotlib", "report", "toy.skipc")
    assert (ended.code, ended.err) == (0, "")

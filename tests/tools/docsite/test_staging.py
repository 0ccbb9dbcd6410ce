"""Pages as they are staged: links made to fit, markers replaced, mistakes told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skipc.tools.docsite import DocsError
from skipc.tools.docsite.staging import fitted, page_text, stage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("docs", "runtime", "benchmarks/part"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "benchmarks/part/b.png").write_bytes(b"")
    (tmp_path / "docs/other.md").write_text("# Other\n")
    (tmp_path / "docs/a.png").write_bytes(b"")
    (tmp_path / "runtime/FORMAT.md").write_text("# Format\n\nSee [the reader](bundle.py).\n")
    (tmp_path / "runtime/bundle.py").write_text("x = 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[o](other.md#a-b)", "[o](other.md#a-b)"),
        ("[other.md](other.md)", "[Other](other.md)"),
        ("![o](a.png)", "![o](a.png)"),
        ("![o](../benchmarks/part/b.png)", "![o](benchmarks/part/b.png)"),
        ("[format](../runtime/FORMAT.md)", "[format](bundle-format.md)"),
        ("[bundle.py](../runtime/bundle.py)", "`runtime/bundle.py`"),
        ("[the reader](../runtime/bundle.py)", "the reader (`runtime/bundle.py`)"),
        ("[x](https://example.org/a)", "[x](https://example.org/a)"),
        ("[here](#here)", "[here](#here)"),
        ("`[o](gone.md)`", "`[o](gone.md)`"),
        ("```text\n[o](gone.md)\n```", "```text\n[o](gone.md)\n```"),
    ],
)
def test_links_fit_the_site(root: Path, text: str, expected: str) -> None:
    assert fitted(text, root / "docs/page.md", root) == expected


def test_a_page_does_not_lead_to_itself(root: Path) -> None:
    page = root / "docs/bundle-format.md"
    text = "[runtime/FORMAT.md](../runtime/FORMAT.md)"
    assert fitted(text, page, root) == "`runtime/FORMAT.md`"


@pytest.mark.parametrize("target", ["gone.md", "../../outside.md"])
def test_a_dead_link_is_told(root: Path, target: str) -> None:
    with pytest.raises(DocsError, match=rf"page\.md: the link to '{target}' leads nowhere"):
        fitted(f"[x]({target})", root / "docs/page.md", root)


def test_a_file_takes_a_markers_place(root: Path) -> None:
    page = root / "docs/page.md"
    page.write_text("# Page\n\n<!-- site: file runtime/FORMAT.md -->\n")
    assert page_text(root, page) == "# Page\n\n\nSee the reader (`runtime/bundle.py`).\n\n"
    page.write_text("<!-- site: file runtime/bundle.py -->\n")
    assert page_text(root, page) == "```py\nx = 1\n```\n"


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("modul skipc.runtime", r"no marker 'site: modul'. Did you mean 'module'"),
        ("module skipc.gone", r"skipc\.gone"),
        ("commands skip", r"no program 'skip'"),
        ("file gone.md", r"there is no such file"),
    ],
)
def test_a_mistaken_marker_is_told(root: Path, marker: str, message: str) -> None:
    page = root / "docs/page.md"
    page.write_text(f"<!-- site: {marker} -->\n")
    with pytest.raises(DocsError, match=message):
        page_text(root, page)


def test_staging_replaces_what_was_there(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.md").write_text("")
    stage(root, out)
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert found == ["a.png", "benchmarks/part/b.png", "other.md"]

"""The site builds without a warning, asks no network, and no link on it is dead."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[3]
LOADED = {"audio", "embed", "iframe", "img", "link", "script", "source", "video"}


class Page(HTMLParser):
    """What a page loads, where it leads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        for name in ("src", "href", "srcset", "data"):
            if name in found:
                loads = tag in LOADED and found.get("rel") != "canonical"
                (self.loaded if loads else self.links).append(found[name])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "skipc.tools.docsite", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_page_is_on_the_site(site: Path) -> None:
    names = {path.stem for path in ROOT.glob("docs/*.md")}
    assert {path.stem for path in site.glob("*.html")} == names | {"404"}


def test_nothing_is_loaded_from_the_network(site: Path, pages: dict[Path, Page]) -> None:
    loaded = [target for page in pages.values() for target in page.loaded]
    assert loaded
    assert [target for target in loaded if re.match(r"(\w+:)?//", target)] == []
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        found = re.findall(r"(?:url\(|@import)\s*['\"]?(?:\w+:)?//[^)\s]+", sheet.read_text())
        assert found == [], sheet


def test_no_link_is_dead(site: Path, pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        for target in page.links + page.loaded:
            # The page for what was not found names everything from the server's root.
            base = site if target.startswith("/") else path.parent
            file, _, anchor = unquote(target).partition("#")
            if re.match(r"\w+:", file):
                continue
            there = (base / file.lstrip("/")).resolve() if file else path
            there = there / "index.html" if there.is_dir() else there
            if not there.exists() or (
                anchor and there in pages and anchor not in pages[there].anchors
            ):
                dead.append(f"{path.name}: {target}")
    assert dead == []


def test_the_reference_has_every_public_name_and_command(pages: dict[Path, Page]) -> None:
    import skipc.runtime
    from skipc.tools.cli import cli

    by_name = {path.name: page for path, page in pages.items()}
    runtime = by_name["python-runtime.html"].anchors
    names = {anchor.rpartition(".")[2] for anchor in runtime if anchor.startswith("skipc.")}
    assert [name for name in skipc.runtime.__all__ if name not in names] == []
    commands = by_name["command-line.html"].anchors
    assert [n for n in cli.list_commands(None) if f"skipc-{n}" not in commands] == []

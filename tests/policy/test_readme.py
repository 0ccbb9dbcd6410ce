"""What the README is held to as the front door; tests/tools/docs runs its examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_embed_example_is_short() -> None:
    (example,) = _blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 13


def test_three_commands_lead_from_a_checkpoint_to_a_bundle() -> None:
    commands = re.findall(r"^\$ skipc (\w+)", "".join(_blocks("console")), re.MULTILINE)
    assert commands == ["init", "select", "build"]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_readme_leads_to_every_page_that_is_not_generated() -> None:
    # Their text is made when the site is built, or is a file that is linked itself.
    generated = {"changelog", "command-line", "index", "python-compiler", "python-runtime"}
    generated |= {"bundle-format", "results"}
    pages = {path.stem for path in ROOT.glob("docs/*.md")} - generated
    assert sorted(pages - set(re.findall(r"\(docs/([\w-]+)\.md\)", README))) == []


PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "runtime/FORMAT.md", "docs/*.md")


@pytest.mark.parametrize(
    "page",
    sorted(path.relative_to(ROOT) for name in PAGES for path in ROOT.glob(name)),
    ids=str,
)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\[([^\]]*)\]\(([^)\s#]+)[^)]*\)", text)
    wrong = [
        f"[{said}]({target})"
        for said, target in links
        if "://" not in target and not _fits(said, page.parent / target)
    ]
    assert wrong == []


def _fits(said: str, file: Path) -> bool:
    """Tells whether there is such a file, of the name that the link may be called by."""
    path = said.strip("`").replace("\\", "").rstrip("/")
    named = re.fullmatch(r"[\w./-]+\.(py|md|toml|json|yml)", path) is not None
    return file.exists() and (not named or file.resolve().as_posix().endswith(f"/{path}"))

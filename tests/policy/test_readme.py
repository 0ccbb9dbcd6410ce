"""What the README is held to as the front door; tests/tools/docs runs its examples."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_embed_example_is_short() -> None:
    (example,) = _blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 13


def test_the_commands_lead_from_training_to_a_bundle() -> None:
    commands = re.findall(r"^\$ skipc (\w+)", "".join(_blocks("console")), re.MULTILINE)
    assert commands == ["train", "select", "build"]


def test_the_readme_leads_to_every_page_that_is_not_generated() -> None:
    # Their text is made when the site is built, or is a file that is linked itself.
    generated = {"changelog", "command-line", "index", "python-compiler", "python-runtime"}
    generated |= {"bundle-format", "results"}
    pages = {path.stem for path in ROOT.glob("docs/*.md")} - generated
    assert sorted(pages - set(re.findall(r"\(docs/([\w-]+)\.md\)", README))) == []

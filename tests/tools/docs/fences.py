"""The fenced blocks of a page, found strictly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Fence:
    """A fenced block.

    Attributes:
        where: Page and line.
        language: What it is in.
        title: The file's name that it is shown under; empty without one.
        text: What it says.
        heading: The heading above it.
    """

    where: str
    language: str
    title: str
    text: str
    heading: str


def fences(path: Path) -> list[Fence]:
    """Returns a page's fenced blocks, and refuses indented ones, which have no language."""
    found: list[Fence] = []
    start, heading, before = 0, "", ""
    opened: list[str] | None = None
    information = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if opened is None:
                start, information, opened = number, line[3:].strip(), []
            else:
                assert line == "```", f"{path}:{number}: a fence inside of a fence"
                language, title = _language_and_title(information)
                text = "".join(f"{each}\n" for each in opened)
                found.append(Fence(f"{path.name}:{start}", language, title, text, heading))
                opened = None
        elif opened is not None:
            opened.append(line)
        elif re.match(r"#+ ", line):
            heading = line.lstrip("#").strip()
        else:
            indented = line.startswith("    ") and not before.strip()
            assert not indented, (
                f"{path}:{number}: an indented block: fence it, say what it is"
            )
            assert "```" not in line, f"{path}:{number}: a fence that does not begin its line"
        before = line
    assert opened is None, f"{path}:{start}: a fence that does not end"
    return found


def _language_and_title(information: str) -> tuple[str, str]:
    found = re.fullmatch(r'(\S+) title="([\w.-]+)"', information)
    return (found[1], found[2]) if found else (information, "")

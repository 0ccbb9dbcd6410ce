"""That a block cannot slip through unexecuted."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from tests.command_line import Ended
from tests.tools.docs.fences import Fence, fences
from tests.tools.docs.running import NOT_RUN, PageRun, Products


def test_blocks_are_found_with_their_heading_and_title(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '# Page\n\n```python title="a.py"\nx = 1\n```\n\n## B\n\n```console\n$ a\n```\n'
    )
    assert fences(page) == [
        Fence("page.md:3", "python", "a.py", "x = 1\n", "Page"),
        Fence("page.md:9", "console", "", "$ a\n", "B"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nx = 1\n", "does not end"),
        ("```text\n```python\n```\n", "inside of a fence"),
        ("Text:\n\n    skipc build\n", "an indented block"),
        ("- item\n  ```python\n  x = 1\n  ```\n", "does not begin its line"),
    ],
)
def test_what_would_not_be_seen_is_refused(tmp_path: Path, text: str, message: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError, match=message):
        fences(page)


@pytest.mark.parametrize(
    ("language", "text", "message"),
    [
        ("bash", "skipc targets\n", "neither run nor in SHOWN"),
        ("", "skipc targets\n", "neither run nor in SHOWN"),
        ("text", "$ ls\n", "is not run"),
        ("text", "so:\nskipc targets\n", "is not run"),
        ("console", "skipc targets\n", "begins with no command"),
        ("console", "", "begins with no command|holds no command"),
        ("console", "$ rm -r /\n", "neither run nor in NOT_RUN"),
        ("console", "$ skipc targts\n", "no command 'targts'"),
        ("console", "$ skipc targets cpu\nnowhere printed\n", r"targets cpu printed"),
        ("console", "$ pip install '.[compilr]'\n", "no extra 'compilr'"),
        ("console", "$ make dems\n", "no target 'dems'"),
        ("json", '{"x": 1}\n', "does not begin with its format"),
        ("json", '{"format": "skipc.gone/1"}\n', "no reader of"),
    ],
)
def test_a_block_that_does_not_do_what_it_shows_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=message):
        PageRun(monkeypatch, Products(tmp_path)).execute(
            Fence("page.md:1", language, "", text, "")
        )


def test_a_command_that_is_not_run_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = next(each for each in NOT_RUN if each.startswith("skipc"))
    monkeypatch.setitem(NOT_RUN, f"{command} --onn x", "a slip of the pen")
    with pytest.raises(click.NoSuchOption, match="--onn"):
        PageRun(monkeypatch, Products(tmp_path)).execute(
            Fence("page.md:1", "console", "", f"$ {command} --onn x\n", "")
        )


def test_what_a_command_made_is_shared_where_all_else_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def program(arguments: list[str]) -> Ended:
        runs.append(arguments)
        Path("made").write_text(f"{len(runs)}", encoding="utf-8")
        return Ended(0, f"{len(runs)}", "")

    products = Products(tmp_path / "products")
    told = []
    for folder, given in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Path("given").write_text(given, encoding="utf-8")
        told.append((products.made_by(program, ["now"]).out, Path("made").read_text("utf-8")))
    assert told == [("1", "1"), ("1", "1"), ("2", "2")]

"""Every example runs from one end to the other, on little data, and draws its picture."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from matplotlib import image

from tests.command_line import hide_tests

FOLDER = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "begin")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_and_draws(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_tests(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--tiny", "--out", str(tmp_path / "out")])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert Path.cwd() == tmp_path
    height, width, *_ = image.imread(tmp_path / "out" / f"{name}.png").shape
    assert width > height > 100


def test_the_page_has_every_example() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"]({name}.py)" not in text] == []

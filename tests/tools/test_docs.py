"""The walk-throughs under docs/ are executed: on doubles where they need a GPU."""

from __future__ import annotations

import platform
import re
import runpy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from skipc.runtime.call_trace import read_trace
from skipc.tools.cli import cli
from skipc.tools.simulate.scenario_file import read_scenario
from skipc.tools.trtbench.command import command as trtbench
from skipc.tools.trtbench.document import read_report
from tests.doubles.gpu import fake_gpu

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
JETSON = (ROOT / "docs/jetson.md").read_text(encoding="utf-8")


def commands(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yields the words of each command and the lines that it is shown to print."""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield command.split(), shown.splitlines()


def _comparable(line: str) -> str:
    return re.sub(r"[\d.]+ .?B", "SIZE", line).rstrip()


def run(text: str) -> None:
    for words, shown in commands(text):
        assert words[0] == "skipc"
        result = CliRunner().invoke(cli, words[1:], standalone_mode=False)
        assert result.exception is None, words
        assert result.exit_code == 0, words
        printed = [_comparable(line) for line in result.output.splitlines()]
        missing = [line for line in shown if _comparable(line) not in printed]
        assert missing == [], result.output


def block(text: str, language: str) -> str:
    """Returns the only code block of a page that is in ``language``."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(found)


def run_program(text: str) -> None:
    """Runs the only Python program of a page, in the current folder."""
    Path("program.py").write_text(block(text, "python"))
    runpy.run_path("program.py")


def test_jetson_walk_through(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_pc, on_jetson = JETSON.split("## 2. On the Jetson")
    for name in ("ckpt.pt", "front.json"):
        shutil.copy(made / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    run(on_pc)
    np.save("image.npy", np.zeros((1, 1, 8, 8), np.float32))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with fake_gpu(monkeypatch) as gpu:
        run(on_jetson)
        run_program(JETSON)
        gpu.check()


def test_meters_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs/meters.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run(text)
    run_program(text)


def test_traces_page(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs/traces.md").read_text(encoding="utf-8")
    shutil.copytree(made / "ckpt.skipc", tmp_path / "ckpt.skipc")
    monkeypatch.chdir(tmp_path)
    run_program(text)
    run(text)
    assert Path("net.html").is_file()
    example = block(text, "json")
    lines = re.sub(r"\n +", " ", example)
    Path("example.jsonl").write_text(lines)
    assert len(read_trace(Path("example.jsonl")).calls) == 1


def test_budgets_page(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs/budgets.md").read_text(encoding="utf-8")
    shutil.copytree(made / "ckpt.skipc", tmp_path / "ckpt.skipc")
    monkeypatch.chdir(tmp_path)
    run_program(text)
    run(text)
    scenario = block(text, "toml")
    Path("mine.toml").write_text(scenario)
    assert read_scenario(Path("mine.toml")).slowdown_at(70) == pytest.approx(1.7)


def test_trtbench_page(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs/trtbench.md").read_text(encoding="utf-8")
    shutil.copytree(made / "ckpt.skipc", tmp_path / "ckpt.skipc")
    monkeypatch.chdir(tmp_path)
    shown_commands = list(commands(text))
    shutil.copy(made / "ckpt.pt", tmp_path / "ckpt.pt")
    assert len(shown_commands) == 8
    for words, shown in shown_commands:
        assert words[0] == "trtbench"
        result = CliRunner().invoke(trtbench, words[1:], standalone_mode=False)
        assert result.exception is None, words
        # The numbers, and what is said of them, are another machine's.
        known = set(re.findall(r"[a-z]{4,}", result.output))
        words_shown = set(re.findall(r"[a-z]{4,}", " ".join(shown)))
        assert words_shown - known <= {"faster", "slower", "difference"}, result.output
    example = block(text, "json")
    Path("example.json").write_text(example)
    assert [entry.name for entry in read_report(Path("example.json")).configurations] == [
        *("full", "fast")
    ]


def test_faults_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run_program(text)
    assert capsys.readouterr().out.splitlines() == [
        "[1.]",
        "{'full': 'out of memory.'}",
        "[('full', 'out of memory.'), ('fast', '')]",
        "full",
    ]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target

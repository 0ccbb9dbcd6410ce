"""The README is executed: its links, its JSON, its commands and its Python."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from skipc.compiler.front import configurations_from_front, read_front
from skipc.runtime import Bundle
from skipc.tools.cli import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _commands() -> list[tuple[str, str]]:
    found = []
    for block in _blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{4,}", text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to run the README's commands in."""
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, str]:
    """What the README's commands print in ``folder``; training is cut short."""
    outputs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command, _ in _commands():
            program, *arguments = command.split()
            assert program == "skipc"
            if arguments[0] == "train":
                arguments += ["--epochs", "1"]
            result = CliRunner().invoke(cli, arguments, standalone_mode=False)
            assert result.exception is None, command
            outputs[command] = result.output
    return outputs


def test_readme_commands_print_what_it_shows(printed: dict[str, str]) -> None:
    names = [command.split()[1] for command in printed]
    assert names == ["train", "select", "units", "build", "check"]
    for command, shown in _commands():
        # The features are this machine's; everything else must be there word by word.
        # Nor is a briefly trained network sure to have more than one configuration.
        missing = _words(re.sub(r"built for.*?\n\w", "", shown, flags=re.DOTALL))
        assert missing - {"skip"} <= _words(printed[command]), command


@pytest.mark.usefixtures("printed")
def test_readme_embed_example_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    build = ["build", "ckpt.pt", "--front", "front.json", "--target", "cpu", "--overwrite"]
    assert CliRunner().invoke(cli, build, standalone_mode=False).exception is None
    (example,) = _blocks("python")
    code = [line for line in example.splitlines() if line.strip()]
    assert len(code) <= 13
    script = folder / "embed.py"
    script.write_text(example, encoding="utf-8")
    runpy.run_path(str(script))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] in {
        entry.name for entry in Bundle.open("ckpt.skipc").manifest.configurations
    }
    assert lines[-1].endswith(" 3")


@pytest.mark.usefixtures("printed")
def test_readme_front_fits_the_digits_network(folder: Path) -> None:
    from skipc.compiler.build import open_supernet
    from skipc.compiler.checkpoint import ModelOptions, read_checkpoint

    (example,) = _blocks("json")
    path = folder / "readme.json"
    path.write_text(example, encoding="utf-8")
    json.loads(example)
    _, search = open_supernet(read_checkpoint(folder / "ckpt.pt", ModelOptions()))
    resolved = configurations_from_front(read_front(path), search.units, str(path))
    assert [len(entry.units) for entry in resolved] == [0, 5]


def test_readme_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    # Links in the table are relative to the folder that the row names first.
    missing = [t for t in targets if not t.startswith("http") and not _exists(t)]
    assert missing == []


def _exists(target: str) -> bool:
    return (ROOT / target).exists()

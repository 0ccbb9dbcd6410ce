"""What commands print for people: as wide as the terminal, and plain where it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from skipc.tools.cli import cli
from tests.bundles import edit_json, list_anew
from tests.command_line import Ended, skipc, trtbench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDTH = 80

# The longest name of those that come with skipc, and figures as wide as they get.
SCENARIO = """
format = "skipc.scenario/1"
name = "wide"
description = "seconds"
duration_s = 2
[arrivals]
kind = "back-to-back"
[[grants]]
at_s = 0
latency = 1.5
energy = 0.9
[meter]
period_s = 0.1
"""


def _show(made: Path, scratch: Path, columns: int | None) -> Ended:
    return skipc("show", made / "ckpt.skipc", columns=columns)


def _units(made: Path, scratch: Path, columns: int | None) -> Ended:
    return skipc("units", made / "ckpt.skipc" / "fast.onnx", "--all", columns=columns)


def _select(made: Path, scratch: Path, columns: int | None) -> Ended:
    return skipc(
        *("select", made / "ckpt.skipc" / "full.onnx", "--data", "digits", "--samples", 20),
        *("--cost", "macs", "--search", "rank", "--evaluations", 14, "--no-cache"),
        *("--out", scratch / "front.json"),
        columns=columns,
    )


def _simulate(made: Path, scratch: Path, columns: int | None) -> Ended:
    scenario = scratch / "thermal-throttling.toml"
    scenario.write_text(SCENARIO, encoding="utf-8")
    return skipc("simulate", made / "ckpt.skipc", "--scenario", scenario, columns=columns)


QUICK = ("--warmUp", 1, "--duration", 0, "--iterations", 12, "--threads", 1)


def _trtbench(made: Path, scratch: Path, columns: int | None) -> Ended:
    return trtbench(made / "ckpt.skipc", *QUICK, "--meter", "model:5", columns=columns)


COMMANDS = [_show, _units, _select, _simulate, _trtbench]


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_wider_than_the_terminal(
    command: Callable[[Path, Path, int | None], Ended], made: Path, tmp_path: Path
) -> None:
    ended = command(made, tmp_path, WIDTH)
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out + ended.err
    lines = ended.out.splitlines()
    assert len(lines) > 3
    # A path is not cut: it is to be copied.
    wide = [line for line in lines if len(line.rstrip()) > WIDTH and "/" not in line]
    assert wide == []
    assert not any(line.startswith("throttling") for line in lines)


@pytest.mark.parametrize("command", [_show, _units, _simulate, _trtbench])
def test_piped_lines_are_whole(
    command: Callable[[Path, Path, int | None], Ended], made: Path, tmp_path: Path
) -> None:
    narrow = command(made, tmp_path, 30).out
    piped = command(made, tmp_path, None)
    assert piped.code == 0, piped.err
    assert "\x1b" not in piped.out + piped.err
    assert len(piped.out.splitlines()) < len(narrow.splitlines())


NAME = "\x1b]0;title\x07\x1b[2J\rfull"


def _renamed(document: dict[str, Any]) -> None:
    document["configurations"][0]["name"] = NAME
    document["networks"][0].update(model=NAME, norm=NAME)
    document["networks"][0]["axes"][0]["options"][0]["name"] = NAME
    for entry in document["configurations"]:
        entry["parts"][0]["choices"][0]["text"] = NAME


@pytest.mark.parametrize(
    "command",
    [
        lambda bundle: skipc("show", bundle),
        lambda bundle: skipc("check", bundle),
        lambda bundle: skipc("finish", bundle),
        lambda bundle: skipc("run", bundle, bundle.parent / "images.npy"),
        lambda bundle: trtbench(bundle, *QUICK),
    ],
)
def test_names_in_a_bundle_do_not_command_the_terminal(
    command: Callable[[Path], Ended], work: Path
) -> None:
    bundle = work / "ckpt.skipc"
    edit_json(bundle / "manifest.json", _renamed)
    list_anew(bundle, "weights.bin")
    ended = command(bundle)
    assert ended.code == 0, ended.err
    printed = ended.out + ended.err
    assert not {char for char in printed if not char.isprintable()} - {"\n"}


def test_colours_are_a_terminals_and_a_wish(made: Path) -> None:
    arguments = ["show", str(made / "ckpt.skipc")]
    # As on a terminal.
    forced = {"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": None}
    bold = CliRunner().invoke(cli, arguments, env=forced).output
    plain = CliRunner().invoke(cli, arguments, env={**forced, "NO_COLOR": "1"}).output
    assert "\x1b[1m" in bold
    assert "\x1b" not in plain

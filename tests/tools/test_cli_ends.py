from __future__ import annotations

import errno
import logging
import os
import pty
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from skipc.runtime.errors import SkipcError
from skipc.tools.cli import cli, run_and_exit
from tests.command_line import mistake, skipc, skipc_without, stopped

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = cli.list_commands(click.Context(cli))


def test_help_lists_every_command_without_importing_any() -> None:
    ended = skipc_without("torch,onnx,onnx_ir,onnxruntime", "--help")
    assert ended.code == 0, ended.err
    for name in COMMANDS:
        assert f"\n  {name} " in ended.out


def test_version_is_printed() -> None:
    assert skipc("--version").out == "skipc, version 0.1.0\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    ended = skipc(name, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"Usage: skipc {name}")


def test_unknown_commands_and_options_get_a_hint() -> None:
    assert "Did you mean 'check'?" in mistake("chek")
    assert "--json" in mistake("targets", "--jsn")


def _end(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    @click.command()
    def command() -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["skipc"])
        with pytest.raises(SystemExit) as ended:
            run_and_exit(command, "skipc")
    return ended.value.code, capsys.readouterr().err


def test_system_errors_are_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, told = _end(OSError(errno.ENOSPC, "No space left on device"), capsys)
    assert (code, told) == (2, "Error: No space left on device.\n")
    code, told = _end(PermissionError(errno.EACCES, "Permission denied", "/a/b"), capsys)
    assert (code, told) == (2, "Error: /a/b: Permission denied.\n")


def test_errors_have_no_colour_where_none_is_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m" in _end(SkipcError("no."), capsys)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert _end(SkipcError("no."), capsys)[1] == "Error: no.\n"


def test_interruption_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = _end(KeyboardInterrupt(), capsys)
    assert code == 130
    assert "interrupted" in told


def test_errors_and_logs_are_bounded_and_cannot_command_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "\x1b]0;" + 1_000_000 * "k"
    for error in (SkipcError(name), click.UsageError(name), OSError(errno.EACCES, "no", name)):
        _, told = _end(error, capsys)
        assert r"\x1b]0;" in told
        assert "\x1b" not in told
        assert len(told) < 4000
    logger = logging.getLogger("without a handler")
    logger.propagate = False
    logger.warning("%s", name)
    told = capsys.readouterr().err
    assert told.startswith(r"\x1b]0;")
    assert len(told) < 4000


def test_an_interrupted_training_names_the_way_on(tmp_path: Path) -> None:
    training = (
        *("train", "stochastic-depth", "--network-arg", "widths=[4,4,4]"),
        *("--network-arg", "depths=[1,1,1]"),
        *("--epochs", 20, "--batch", 512, "--out", tmp_path / "out"),
    )
    # A tenth: two of the epochs.
    ended = stopped(signal.SIGINT, "training: 6 of 60 ...\n", *training)
    assert ended.code == 130
    assert "training: 12 of 60" not in ended.err
    assert "the same command with --resume goes on" in ended.err
    assert (tmp_path / "out" / "last.pt").exists()


def test_our_own_bugs_show_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    for bug in (OSError("nameless"), KeyError("x"), ModuleNotFoundError("no", name="skipc.x")):
        with pytest.raises(type(bug)):
            _end(bug, capsys)


def test_closed_pipe_is_no_error(made: Path) -> None:
    command = [sys.executable, "-m", "skipc.tools.cli", "show", str(made / "ckpt.skipc")]
    script = f"{shlex.join(command)} --json | true"
    done = subprocess.run(
        script, shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""


def test_terminal_shows_one_line_that_is_cleared(made: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-m", "skipc.tools.cli", "check", str(made / "ckpt.skipc")],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # Linux's end of file on a terminal
            break
        if not data:
            break
        shown += data
    os.close(ours)
    assert process.wait(timeout=60) == 0
    assert b"running the golden inputs on target cpu" in shown
    assert shown.count(b"\n") <= 2

"""The commands as a user runs them: in this process, or in one of their own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from skipc.tools.cli import main
from skipc.tools.trtbench.__main__ import main as trtbench_main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

# Takes modules away as if they were not installed, then runs the command.
_WITHOUT = """
import sys
ABSENT = set(sys.argv.pop(1).split(","))
class Finder:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            return None
        return self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Finder(finder) for finder in sys.meta_path]
from skipc.tools.cli import main
main()
"""


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Returns the JSON document that standard output is, and nothing else."""
        assert self.code == 0, self.err
        return json.loads(self.out)


def skipc(*arguments: object, columns: int | None = None) -> Ended:
    """Runs the command in this process, output piped."""
    return _ended(main, ["skipc", *map(str, arguments)], columns)


def stopped(
    number: int, at: str, *arguments: object, program: Callable[[], None] = main
) -> Ended:
    """Runs the command in this process, to which a signal comes once it tells ``at``."""
    # Whoever runs the tests in the background has them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _ended(program, ["skipc", *map(str, arguments)], None, _Stopping(number, at))
    finally:
        signal.signal(signal.SIGINT, before)


class _Stopping(io.StringIO):
    """Standard error that sends a signal to this process, once, when a text is written."""

    def __init__(self, number: int, at: str) -> None:
        super().__init__()
        self._number, self._at = number, at
        self._sent = False

    def write(self, text: str) -> int:
        written = super().write(text)
        if not self._sent and self._at in self.getvalue():
            self._sent = True
            signal.raise_signal(self._number)
        return written


def trtbench(*arguments: object, columns: int | None = None) -> Ended:
    """Runs ``trtbench`` in this process, output piped."""
    return _ended(trtbench_main, ["trtbench", *map(str, arguments)], columns)


def _ended(
    program: Callable[[], None],
    words: list[str],
    columns: int | None,
    err: io.StringIO | None = None,
) -> Ended:
    out, err = io.StringIO(), err or io.StringIO()
    environment = _environment()
    if columns is not None:
        environment["COLUMNS"] = str(columns)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.object(sys, "argv", words),
            mock.patch.dict(os.environ, environment, clear=True),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            program()
    except SystemExit as ended:
        code = ended.code
    finally:
        signal.signal(signal.SIGTERM, before)
    assert isinstance(code, int)
    return Ended(code, out.getvalue(), err.getvalue())


def mistake(*arguments: object) -> str:
    """Returns what the command says of a user's mistake."""
    return told(skipc(*arguments))


def told(ended: Ended) -> str:
    """Returns what a command that ended said of a user's mistake."""
    assert ended.code == 2, ended
    assert ended.out == ""
    assert "Traceback" not in ended.err
    steps, found, message = ended.err.rpartition("Error: ")
    assert found
    # Before the message: what a project's file said and the steps done so far, or the usage.
    done = [line for line in steps.splitlines() if not line.startswith("from skipc.toml: ")]
    assert all(line.endswith(" ...") for line in done) or "Usage:" in steps
    assert message.count("\n") <= 2
    assert len(message) < 600
    return message


def skipc_without(modules: str, *arguments: object) -> Ended:
    """Runs the command in a process in which ``modules`` (``a,b``) are not installed."""
    command = [sys.executable, "-c", _WITHOUT, modules, *map(str, arguments)]
    done = subprocess.run(
        command,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def hide_tests(patch: pytest.MonkeyPatch) -> None:
    """Takes the tests out of the imported modules."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        patch.delitem(sys.modules, name)


@contextmanager
def started(*arguments: object, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Yields the command running in ``folder``; ``stderr`` is to be read."""
    command = [sys.executable, "-m", "skipc.tools.cli", *map(str, arguments)]
    # A parent that ignores SIGINT, as background jobs do, hands that down.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.kill()


def _environment() -> dict[str, str]:
    """Returns this process's variables without those that shape the output."""
    return {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "FORCE_COLOR")}


def all_files(folder: Path) -> list[str]:
    """Returns every path below ``folder``, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))

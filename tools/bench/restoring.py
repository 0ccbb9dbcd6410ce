"""Power modes that a process changed and did not put back: killed, or interrupted, anywhere.

A process of its own opens two modes of a board that is a folder, laid out as the kernel lays
it out and with a program ``nvpmodel`` that takes a while, changes to and fro, and closes them.
At one of the lines of Python that this takes it is killed (SIGKILL) or interrupted; then the
next process opens the modes, and everything must be as it was.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING
from unittest import mock

from skipc.runtime.modes import open_modes
from skipc.tools.bench.harness import Bar

if TYPE_CHECKING:
    from pathlib import Path

NAME = "modes put back"
NAMES = ("MODE_15W+powercap:15W", "MODE_30W+powercap:30W")
_KILLS, _INTERRUPTS = 200, 100

# Reads what to do, a line each, and does it in a fork, which has imported everything. Line 0
# does not come: then it says how many lines there are.
_PARENT = """
import json, os, signal, sys
from contextlib import closing
from pathlib import Path
from skipc.runtime.modes import offered, open_modes
offered()  # imports what is imported when used
def child(root, guard, path, how, line, names):
    ran = 0
    def trace(frame, event, argument):
        nonlocal ran
        ran += event == "line"
        if event == "line" and ran == line:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        return trace
    os.environ["PATH"] = path
    sys.settrace(trace)
    with closing(open_modes(names, Path(root), Path(guard))) as modes:
        for name in [*names, *names]:
            modes.change(name)
    sys.settrace(None)
    print(ran, flush=True)
for words in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            child(*json.loads(words))
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""
_NVPMODEL = """
< POWER_MODEL ID=0 NAME=MODE_50W >
GPU MAX_FREQ 828750000
< POWER_MODEL ID=1 NAME=MODE_15W >
GPU MAX_FREQ 420750000
< POWER_MODEL ID=2 NAME=MODE_30W >
GPU MAX_FREQ 624750000
"""
_PROGRAM = """#!/bin/sh
sleep 0.03
printf 'pmode:%04d fmode:quiet\\n' "$2" > {status}.new && mv {status}.new {status}
"""


def bars(place: Path) -> list[Bar]:
    """Returns after which share of kills and interrupts all was put back."""
    found = []
    logging.getLogger("skipc.runtime.modes").setLevel(logging.ERROR)  # it is on purpose
    with closing(Changing()) as changing:
        for how, count in (("kill", _KILLS), ("interrupt", _INTERRUPTS)):
            # Waiting for the program takes some lines more or fewer.
            lines = round(0.97 * changing.lines(place / how / "all"))
            points = [1 + number * (lines - 1) // count for number in range(count)]
            ends = [
                changing.put_back(place / how / str(point), how, point) for point in points
            ]
            left = sum(end != "as it was" for end in ends)
            note = f"{count} of {lines:,} lines; {left} left something to put back"
            what = f"put back by the next open, {how} at {count} points"
            share = sum(end != "lost" for end in ends) / count
            found.append(Bar(NAME, what, share, None, note=note, least=1.0))
    return found


class Changing:
    """Starts processes that change modes, and ends them."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command, pipe = [sys.executable, "-c", _PARENT], subprocess.PIPE
        self._parent = subprocess.Popen(
            command,
            env=environment,
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def close(self) -> None:
        """Ends the process that starts the others."""
        self._parent.communicate()

    def lines(self, place: Path) -> int:
        """Returns how many lines of Python a process runs that is not ended."""
        said = self._end(_board(place), place, "kill", 0)
        return int(said[0])

    def put_back(self, place: Path, how: str, line: int) -> str:
        """Ends a process at a line, opens modes again, and returns what became of the board.

        That is ``as it was``, ``put back`` by opening them, or ``lost``.
        """
        board = _board(place)
        before = contents(board)
        # An interrupt in a finalizer is lost in Python itself, and the process goes on.
        if self._end(board, place, how, line) and how == "kill":
            raise SystemExit(f"the process ended before line {line}")
        found = contents(board)
        with mock.patch.dict(os.environ, PATH=_path(board)):
            open_modes(NAMES, board, place / "state").close()
        if contents(board) != before or (place / "state/modes.json").exists():
            return "lost"
        return "as it was" if found == before else "put back"

    def _end(self, board: Path, place: Path, how: str, line: int) -> list[str]:
        """Returns what a process said before it ended."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        words = str(board), str(place / "state"), _path(board), how, line, NAMES
        self._parent.stdin.write(f"{json.dumps(words)}\n")
        self._parent.stdin.flush()
        said = []
        while (text := self._parent.stdout.readline().strip()) != "ended":
            said.append(text)
        return said


def contents(board: Path) -> dict[str, str]:
    """Returns what the files of a board hold, but for one that is being written."""
    files = (file for file in board.rglob("*") if file.is_file() and file.suffix != ".new")
    return {str(file.relative_to(board)): file.read_text() for file in files}


def _board(place: Path) -> Path:
    """Returns a board with its program, in a folder of its own."""
    board = place / "board"
    status = board / "var/lib/nvpmodel/status"
    zone = "sys/class/powercap/intel-rapl:0"
    files = {
        "etc/nvpmodel.conf": _NVPMODEL,
        "var/lib/nvpmodel/status": "pmode:0000 fmode:quiet\n",
        f"{zone}/name": "package-0\n",
        f"{zone}/constraint_0_power_limit_uw": "45000000\n",
        "bin/nvpmodel": _PROGRAM.format(status=status),
    }
    for name, text in files.items():
        (board / name).parent.mkdir(parents=True, exist_ok=True)
        (board / name).write_text(text)
    (board / "bin/nvpmodel").chmod(0o755)
    return board


def _path(board: Path) -> str:
    """Returns a PATH in which a board's program is found."""
    return f"{board / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"

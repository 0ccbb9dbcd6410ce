"""``trtbench --update --modes``: a table for each power mode, then what was before."""

from __future__ import annotations

import json
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from skipc.runtime import Bundle, FakeClock
from skipc.runtime.bundle.device import this_device
from skipc.runtime.bundle.measured import all_tables, table_key, tables_of_modes
from skipc.runtime.modes import open_modes
from skipc.tools.console import Steps
from skipc.tools.trtbench.__main__ import main
from skipc.tools.trtbench.modes import Caller, changes_ms
from tests.bundles import edit_json
from tests.command_line import stopped, trtbench
from tests.mode_trees import contents, laptop

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--warmUp", 1, "--duration", 0, "--iterations", 12, "--threads", 1, "--update")
NAMES = ("platform_profile:quiet+powercap:15W", "platform_profile:balanced+powercap:45W")


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device that trtbench takes for this one."""
    device = laptop(tmp_path / "device")
    here = partial(open_modes, root=device, guard=tmp_path / "state")
    monkeypatch.setattr("skipc.tools.trtbench.modes.open_modes", here)
    monkeypatch.setattr("skipc.tools.trtbench.modes._FOLLOWS_S", 0.0)  # at once
    return device


def test_each_mode_has_its_table_and_what_was_is_in_force_after(
    work: Path, device: Path
) -> None:
    before = contents(device)
    path = work / "ckpt.skipc"
    ended = trtbench(path, *QUICK, "--modes", ",".join(NAMES))
    assert ended.code == 0, ended.err
    assert contents(device) == before
    bundle = Bundle.open(path)
    key = table_key(bundle, bundle.engine_set(), this_device(), 1)
    found = tables_of_modes(bundle, key, NAMES)
    assert tuple(found) == NAMES
    for name, other in zip(NAMES, reversed(NAMES), strict=True):
        assert f"Power mode {name}" in ended.out
        table = found[name]
        assert table.mode is not None
        assert list(table.mode.change_ms) == [other]
        profile, power = name.split("+")
        assert f"profile {profile.partition(':')[2]}; CPU" in table.key.device.power_mode
        assert table.key.device.power_mode.endswith(power)
    assert "until calls are as fast" in ended.out


def test_ctrl_c_puts_back_what_was(work: Path, device: Path) -> None:
    before = contents(device)
    words = (work / "ckpt.skipc", *QUICK, "--modes", ",".join(NAMES))
    ended = stopped(signal.SIGINT, "measuring latency", *words, program=main)
    assert ended.code == 130
    assert contents(device) == before


def test_a_table_that_is_measured_again_stays_one_of_its_mode(work: Path) -> None:
    path = work / "ckpt.skipc"
    assert trtbench(path, *QUICK).code == 0
    (file,) = (path / "measured").iterdir()
    mode = {"name": "MODE_15W", "change_ms": {"MODE_30W": 3.5}}
    edit_json(file, lambda document: document.update(mode=mode))
    assert trtbench(path, *QUICK).code == 0
    assert json.loads(file.read_text())["mode"] == mode
    (table,) = all_tables(Bundle.open(path))
    assert table.mode is not None
    assert table.mode.name == "MODE_15W"


class Board:
    """Modes whose calls take so long, once the device has followed a change.

    ``follows`` is how many changes it follows within the times of ``comes_ms``.
    """

    names = ("slow", "fast")

    def __init__(self, follows: int = 99) -> None:
        self.takes_ms = {"slow": 9.0, "fast": 3.0}
        self.comes_ms = {"slow": 40.0, "fast": 250.0}
        self.clock = FakeClock()
        self.now: str | None = None
        self._follows = follows
        self._before_ms, self._since_ns = 7.0, 0

    def change(self, name: str) -> None:
        self.clock.advance_ms(10.0)  # the program that sets it
        if name != self.now:
            self._before_ms, self.now = self._takes_ms(), name
            self._since_ns = self.clock.now_ns()
            self._follows -= 1

    def call(self) -> None:
        self.clock.advance_ms(self._takes_ms())

    def power_mode(self) -> str:
        return ""

    def close(self) -> None:
        self.now = None

    def _takes_ms(self) -> float:
        if self.now is None or self._follows < 0:
            return self._before_ms
        came = self.clock.now_ns() >= self._since_ns + self.comes_ms[self.now] * 1e6
        return self.takes_ms[self.now] if came else self._before_ms


def test_a_change_takes_until_calls_take_as_long_as_in_the_mode() -> None:
    board = Board()
    found = changes_ms(board, Caller(board.call, board.clock.now_ns), Steps())
    # The program's time, the device's, and that of the call that it came in.
    assert 50 <= found["slow"]["fast"] <= 50 + 3
    assert 260 <= found["fast"]["slow"] <= 260 + 9


def test_a_change_that_calls_do_not_follow_is_left_out() -> None:
    board = Board(follows=2)
    found = changes_ms(board, Caller(board.call, board.clock.now_ns), Steps())
    assert found == {"slow": {}, "fast": {}}
    assert board.clock.now_ns() < 120e9

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from skipc.runtime.call.trace import read_trace
from tests.command_line import mistake, skipc

if TYPE_CHECKING:
    from pathlib import Path

SHORT = """
format = "skipc.scenario/1"
name = "short"
description = "a few seconds"
duration_s = 5
[[grants]]
at_s = 0
latency = 1.3
"""


@pytest.fixture
def short(tmp_path: Path) -> Path:
    path = tmp_path / "short.toml"
    path.write_text(SHORT)
    return path


def test_without_a_bundle_the_scenarios_are_listed() -> None:
    ended = skipc("simulate")
    assert (ended.code, ended.err) == (0, "")
    assert "thermal-throttling" in ended.out
    assert all(len(line.rstrip()) <= 80 for line in ended.out.splitlines())


def test_the_list_as_json_has_what_the_table_has() -> None:
    listed = skipc("simulate", "--json").json()
    found = {one["scenario"]: one["duration_s"] for one in listed}
    assert found["thermal-throttling"] == 300
    assert len(found) == 10


def test_a_scenario_is_replayed_and_traced(made: Path, short: Path, tmp_path: Path) -> None:
    trace = tmp_path / "calls.jsonl"
    ended = skipc("simulate", made / "ckpt.skipc", "--scenario", short, "--trace", trace)
    assert ended.code == 0, ended.err
    row = next(line for line in ended.out.splitlines() if line.startswith("short "))
    assert "%" in row
    assert "times as large" in ended.out  # a tiny network is slowed down
    found = read_trace(trace)
    assert found.engine == "ckpt.skipc, short"
    assert len(found.calls) > 100


def test_json_has_the_numbers(made: Path, short: Path) -> None:
    ended = skipc("simulate", made / "ckpt.skipc", "--scenario", short, "--json")
    (found,) = json.loads(ended.out)["scenarios"]
    assert found["scenario"] == "short"
    assert 0 <= found["within_budget"] <= 1
    assert found["average"] is None


def test_early_exits_are_told(with_exits: Path, tmp_path: Path) -> None:
    easy = tmp_path / "easy.toml"  # whatever was measured, all of them fit
    easy.write_text(SHORT.replace("latency = 1.3", "latency = 1000"))
    args = ("simulate", with_exits / "ckpt.skipc", "--scenario", easy)
    ended = skipc(*args, "--json")
    (found,) = json.loads(ended.out)["scenarios"]
    assert len(found["stage_shares"]) == 3
    assert sum(found["stage_shares"]) == pytest.approx(1)
    assert found["cut_calls"] == 0
    assert "answered at" in skipc(*args).out


def test_power_modes_are_told(made: Path, tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    modes = '[[modes]]\nname = "30W"\n[[modes]]\nname = "10W"\nlatency = 1.5\npower = 0.3\n'
    arrivals = '[arrivals]\nkind = "periodic"\nperiod = 3\n'
    board.write_text(SHORT.replace("latency = 1.3", "latency = 1000") + modes + arrivals)
    trace = tmp_path / "calls.jsonl"
    args = ("simulate", made / "ckpt.skipc", "--scenario", board)
    (found,) = skipc(*args, "--json").json()["scenarios"]
    assert (found["modes"]["mode"], found["modes"]["changes"]) == ("10W", 1)
    assert found["spent_mj"] > found["oracle_mj"] > 0
    assert "the share of the time in 30W, 10W" in skipc(*args, "--trace", trace).out
    told = skipc("trace", trace)
    assert "of the calls, 1 change." in told.out
    assert "Power modes: 10W " in told.out


def test_a_budget_of_ones_own(made: Path, short: Path) -> None:
    budget = "latency_ms=1e-6,quantile=0.9"
    args = ("--scenario", short, "--budget", budget, "--json")
    ended = skipc("simulate", made / "ckpt.skipc", *args)
    (found,) = json.loads(ended.out)["scenarios"]
    assert found["infeasible_calls"] == found["calls"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--budget", "latency=3"), "a budget has no 'latency'. Did you mean 'latency_ms'?"),
        (("--budget", "latency_ms=3,hard=1"), "hard='1' is neither true nor false"),
        (("--budget", "latency_ms"), "'latency_ms' is not key=value"),
        (("--budget", "latency_ms=x"), "latency_ms='x' is not a number"),
        (("--budget", "latency_ms=1,latency_ms=2"), "'latency_ms' is given twice"),
        (("--budget", "latency_ms=-1"), "is not a limit that can be met"),
        (("--budget", "min_accuracy=2"), "is more than any configuration has"),
        (("--scenario", "batery"), "Did you mean 'battery'?"),
        (("--trace", "calls.jsonl"), "holds one scenario, and there are"),
        (("--scenario", "battery", "--trace", "."), "--trace .: this is a folder"),
        (("--target", "jetson"), "jetson"),
    ],
)
def test_mistakes(made: Path, args: tuple[str, ...], said: str) -> None:
    assert said in mistake("simulate", made / "ckpt.skipc", *args)


def test_a_budget_needs_a_bundle() -> None:
    assert "name a bundle" in mistake("simulate", "--budget", "latency_ms=3")

from __future__ import annotations

import shlex
from itertools import groupby
from typing import TYPE_CHECKING

from matplotlib import image

from skipc.compiler.front import read_front
from skipc.runtime import Bundle, ConfigurationStats
from skipc.runtime.call.trace import read_trace
from skipc.tools.demo.__main__ import (
    CALLS_PER_PHASE,
    HARDER_CALLS,
    Setting,
    budget_at,
    show,
    unbeaten,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

BRIEF = Setting(
    data="digits",
    train=(
        *("--network-arg", "widths=[4,8]", "--network-arg", "depths=[1,2]"),
        *("--network-arg", "drop=0.1", "--epochs", "3", "--heads", "2"),
    ),
    select=("--cost", "macs", "--norm", "shared", "--evaluations", "2", "--size", "2"),
    samples=20,
)


def test_demo_trains_builds_runs_and_draws(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "my demo"
    show(out, BRIEF)
    told = capfd.readouterr().out
    commands = [shlex.split(line[2:]) for line in told.splitlines() if line.startswith("$ ")]
    assert all(words[0].endswith("skipc") for words in commands)
    assert [words[1] for words in commands] == ["train", "select", "build", "trace"]
    names = [entry.name for entry in read_front(out / "front.json").configurations]
    manifest = Bundle.open(out / "digits.skipc").manifest
    assert [entry.name for entry in manifest.configurations] == names
    measured = told[told.index("4. Run") :].splitlines()
    header = "configuration skipped answers at accuracy mean ms 60 % within own shared"
    assert header.split() == measured[1].split()
    assert [line.split()[0] for line in measured[2 : 2 + len(names)]] == names
    *phases, (last, harder) = (
        (limit_ms, [*calls])
        for limit_ms, calls in groupby(
            read_trace(out / "calls.jsonl").calls, lambda call: call.limit_ms
        )
    )
    assert all(len(calls) == CALLS_PER_PHASE for _, calls in phases)
    assert len(phases) >= 2
    assert last is None
    assert len(harder) == HARDER_CALLS
    route = max(manifest.configurations, key=lambda entry: len(entry.route))
    assert {call.configuration for call in harder} == {route.name}
    shares = told[told.index(f"6. {route.name}") :].splitlines()
    assert shares[1].split()[0] == "difficulty"
    assert [line.split()[0] for line in shares[2:]] == ["0"]  # of the digits nothing is known
    assert image.imread(out / "demo.png").shape[1] == 1200


def test_budgets_lie_between_what_no_other_beats() -> None:
    def point(name: str, rank: float, predicted_ms: float) -> ConfigurationStats:
        return ConfigurationStats(
            configuration=name,
            rank=rank,
            p50_ms=1.0,
            p95_ms=1.0,
            predicted_ms=predicted_ms,
            calls=0,
            residual=1.0,
        )

    points = [
        *(point("full", 0.9, 4.0), point("worse", 0.7, 3.0)),
        *(point("fast", 0.8, 1.0), point("slow", 0.8, 2.0)),
    ]
    assert unbeaten(points) == ["full", "fast"]
    assert [budget_at(place, (4.0, 1.0)) for place in range(3)] == [6.0, 2.0, 0.7]

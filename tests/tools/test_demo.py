from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from matplotlib import image

from skipc.compiler.front import read_front
from skipc.runtime import Bundle
from skipc.runtime.call.trace import read_trace
from skipc.tools.demo.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_demo_trains_builds_runs_and_draws(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my demo"
    main(["--out", str(out), "--epochs", "1"], standalone_mode=False)
    told = capfd.readouterr().out
    commands = [shlex.split(line[2:]) for line in told.splitlines() if line.startswith("$ ")]
    assert all(words[0].endswith("skipc") for words in commands)
    assert [words[1] for words in commands] == ["train", "select", "build", "trace"]
    names = [entry.name for entry in read_front(out / "front.json").configurations]
    bundle = Bundle.open(out / "digits.skipc")
    assert [entry.name for entry in bundle.manifest.configurations] == names
    measured = told[told.index("4. Run") :]
    header = "configuration skipped accuracy p50 ms p99 ms own shared"
    assert header.split() == measured.splitlines()[1].split()
    assert [line.split()[0] for line in measured.splitlines()[2 : 2 + len(names)]] == names
    limits = [call.limit_ms for call in read_trace(out / "calls.jsonl").calls]
    assert len(limits) == 150 * (2 * len(names) + 1)  # down and up again
    assert limits == limits[::-1]
    assert f"{len(limits)} calls in " in measured
    assert "Accuracy of the answers: " in measured
    assert image.imread(out / "demo.png").shape[1] == 1200

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from skipc.compiler.front import read_front
from skipc.runtime import Bundle
from skipc.tools.demo.__main__ import main
from skipc.tools.demo.picture import Call, Point, draw

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
    assert [words[1] for words in commands] == ["train", "select", "build"]
    names = [entry.name for entry in read_front(out / "front.json").configurations]
    bundle = Bundle.open(out / "digits.skipc")
    assert [entry.name for entry in bundle.manifest.configurations] == names
    measured = told[told.index("4. Run") :]
    header = "configuration skipped accuracy p50 ms p99 ms own shared"
    assert header.split() == measured.splitlines()[1].split()
    assert [line.split()[0] for line in measured.splitlines()[2 : 2 + len(names)]] == names
    changes = 2 * len(names)  # down and up again
    assert f"{150 * (changes + 1)} calls, {changes} changes of the budget" in measured
    assert _size(out / "demo.png") == (1440, 600)


def test_picture_shows_every_call_and_where_no_budget_was_met(tmp_path: Path) -> None:
    points = [Point("full", 2.0, 0.99), Point("fast", 1.0, 0.9)]
    calls = [
        Call(n, 3.0 if n < 5 else 0.5, 2.0 if n < 5 else 1.0, "full" if n < 5 else "fast",
             feasible=n < 5, right=True)
        for n in range(10)
    ]  # fmt: skip
    draw(tmp_path / "a.png", points, calls)
    draw(tmp_path / "b.png", points, [c for c in calls if c.feasible])
    first, second = (_pixels(tmp_path / name) for name in ("a.png", "b.png"))
    assert first.shape == second.shape
    assert (first != second).mean() > 0.01
    assert 0.02 < (first[..., :3].min(-1) < 0.9).mean() < 0.5


def _pixels(path: Path):
    from matplotlib import image

    return image.imread(path)


def _size(path: Path) -> tuple[int, int]:
    height, width, _ = _pixels(path).shape
    return width, height

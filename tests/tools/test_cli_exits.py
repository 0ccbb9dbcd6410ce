"""Early exits from the command line: heads, front, build, check, calls."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from tests.command_line import mistake, skipc

if TYPE_CHECKING:
    from pathlib import Path

EXITS = ["stages.0.0", "stages.1.1"]
CONFIGURATIONS = [
    {"name": "full"},
    {"name": "short", "exits": ["stages.1.1"]},
    {
        "name": "early",
        "exits": ["end", *EXITS],
        "tests": [{"threshold": 0.3}, {"threshold": 0.2, "scores": {"margin": 1.0}}],
        "stops": [0.5, 0.25, 0.25],
    },
    {
        "name": "less",
        "skip": ["stages.1.0"],
        "exits": ["stages.1.1", "end"],
        "tests": [{"threshold": 2.0, "temperature": 3.0}],
    },
]


@pytest.fixture(scope="module")
def folder(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ckpt.pt, its heads, front.json and a bundle; not to be changed."""
    folder = tmp_path_factory.mktemp("exits")
    shutil.copy(made / "ckpt.pt", folder)
    ended = skipc("heads", folder / "ckpt.pt", "--data", "digits", "--at", ",".join(EXITS))
    assert ended.code == 0, ended.err
    rows = [line.split() for line in ended.out.splitlines()]
    assert rows[0] == ["head", "after", "of", "the", "MACs", "accuracy"]
    assert [row[0] for row in rows[1:3]] == EXITS
    assert all(row[-1] == "written" for row in rows[1:3])
    assert ended.out.endswith("Name them under 'exits' in front.json.\n")
    front = {"format": "skipc.front/2", "configurations": CONFIGURATIONS}
    (folder / "front.json").write_text(json.dumps(front))
    ended = skipc(
        "build", folder / "ckpt.pt", "--front", folder / "front.json", "--target", "cpu"
    )
    assert ended.code == 0, ended.err
    return folder


def test_units_list_the_heads(folder: Path) -> None:
    told = skipc("units", folder / "ckpt.pt").out
    rows = [line.split()[:2] for line in told.split("exits")[1].splitlines()[1:]]
    assert rows == [["0", EXITS[0]], ["1", EXITS[1]]]


def test_a_route_has_a_stage_for_each_exit(folder: Path) -> None:
    manifest = Bundle.open(folder / "ckpt.skipc").manifest
    assert [g.name for g in manifest.graphs] == [
        *("full", "short", "early.0", "early.1", "early.2", "less.0", "less.1")
    ]
    early = manifest.configuration("early")
    assert early.stops == (0.5, 0.25, 0.25)
    assert early.text("exits") == "3 exits"
    assert early.taken("exits") == tuple(EXITS)
    first, second, last = early.route
    assert (first.feeds, last.answers, last.test) == ({}, {}, None)
    assert list(second.feeds.values()) == [f"0.{name}" for name in second.feeds]
    assert manifest.configuration("short").only_graph == "short"
    # Nothing is stored or computed twice.
    macs = sum(manifest.graph(f"early.{stage}").macs for stage in range(3))
    heads = 10 * (4 + 8)
    assert macs == manifest.graph("full").macs + heads
    sizes = [manifest.graph(f"early.{stage}").parameters for stage in range(3)]
    assert sum(sizes) - manifest.graph("full").parameters < 200


def test_what_was_built_checks_and_shows(folder: Path) -> None:
    checked = skipc("check", folder / "ckpt.skipc")
    assert checked.code == 0, checked.err
    assert checked.out.count(" ok\n") + checked.out.count(" ok ") == len(CONFIGURATIONS)
    shown = skipc("show", folder / "ckpt.skipc").out
    assert "ends at stages.1.1" in shown
    assert "early.2" in shown


def test_a_sample_is_answered_where_its_test_says(folder: Path) -> None:
    bundle = Bundle.open(folder / "ckpt.skipc")
    images = np.random.default_rng(0).random((12, 1, 1, 8, 8), np.float32)
    with AdaptiveEngine.open(bundle.path, threads=1) as engine:
        answers = {}
        for name in ("full", "short", "early", "less"):
            engine.pin(name)
            answers[name] = []
            for image in images:
                (answer,) = engine({"images": image}).values()
                assert engine.last is not None
                answers[name].append((engine.last.stage, answer))
    full, short = ([a for _, a in answers[name]] for name in ("full", "short"))
    for number, (stage, answer) in enumerate(answers["early"]):
        assert stage in (0, 1, 2)
        if stage:
            assert np.array_equal(answer, (short, full)[stage - 1][number])
    # A test that nothing passes: to the end.
    assert [stage for stage, _ in answers["less"]] == [1] * len(images)


def test_heads_of_another_checkpoint_stop_a_build(folder: Path, tmp_path: Path) -> None:
    for name in ("ckpt.heads.safetensors", "front.json"):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / "ckpt.pt").write_bytes((folder / "ckpt.pt").read_bytes() + b" ")
    told = mistake(
        *("build", tmp_path / "ckpt.pt", "--front", tmp_path / "front.json"),
        *("--target", "cpu"),
    )
    assert "trained on other weights" in told
    assert not (tmp_path / "ckpt.skipc").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--at", "stages.0.9"), "--at 'stages.0.9': no head goes there. Did you mean"),
        (("--at", "stages.2.3"), "no head goes there"),
        (("--count", "0"), "--count"),
        (("--mean", "a,b"), "--mean 'a,b': write numbers"),
    ],
)
def test_mistakes_are_told(folder: Path, options: tuple[str, ...], says: str) -> None:
    before = (folder / "ckpt.heads.safetensors").read_bytes()
    assert says in mistake("heads", folder / "ckpt.pt", "--data", "digits", *options)
    assert (folder / "ckpt.heads.safetensors").read_bytes() == before

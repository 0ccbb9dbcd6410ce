from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.compiler.errors import ExtraMissingError
from skipc.runtime import Bundle
from skipc.runtime.bundle.solved import ExitOutcome, PolicyOutcome, SolvedPolicy, Traded
from skipc.tools.bench.__main__ import PARTS
from skipc.tools.bench.against import IfSession, added_by, load_both
from skipc.tools.bench.harness import (
    Bar,
    by_turns_ms,
    in_fresh_process,
    markdown,
    ratio,
    run,
    write,
)
from skipc.tools.bench.networks import NETWORKS
from skipc.tools.bench.pages import find_browser
from skipc.tools.bench.policies import Trained
from skipc.tools.trtbench.plain import plain_session

if TYPE_CHECKING:
    from pathlib import Path

BARS = [
    Bar("net", "ratio", 1.0204, 1.02),
    Bar("net", "met", 0.5, 1.0, note="worst: fast"),
    Bar("net", "reported", 3.0, None),
    Bar("null", "overhead", 9.84, 15.0, unit="µs"),
]


def test_bar_is_met_up_to_its_limit() -> None:
    assert [bar.met for bar in BARS] == [False, True, True, True]
    assert Bar("net", "equal", 1.5, 1.5).met
    assert not Bar("net", "nan", float("nan"), 1.5).met


def test_markdown_has_a_row_for_each_bar() -> None:
    rows = [line for line in markdown(BARS, "a machine").splitlines() if line[:1] == "|"]
    assert rows[2:] == [
        "| net | ratio | 1.020 | ≤ 1.020 | **missed** |  |",
        "| net | met | 0.500 | ≤ 1.000 | met | worst: fast |",
        "| net | reported | 3.000 |  |  |  |",
        "| null | overhead | 9.8 µs | ≤ 15.0 µs | met |  |",
    ]


def test_small_ratios_keep_their_digits() -> None:
    row = markdown([Bar("net", "error", 2.3e-7, 1e-4)], "").splitlines()[-1]
    assert "| 2.3e-07 | ≤ 0.0001 |" in row


def test_results_are_written_twice(tmp_path: Path) -> None:
    write(BARS, "a machine", tmp_path / "benchmarks")
    assert "a machine" in (tmp_path / "benchmarks" / "results.md").read_text(encoding="utf-8")
    document = json.loads((tmp_path / "benchmarks" / "results.json").read_text())
    assert [bar["met"] for bar in document["bars"]] == [False, True, True, True]


def test_a_missing_browser_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ExtraMissingError, match=r"none of chromium, .* run `make browser`"):
        find_browser()


def test_networks_have_six_configurations_each() -> None:
    skipped = {
        name: [
            len(entry.choices["skip"])  # type: ignore[arg-type]
            for entry in network.front(network.counts).configurations
        ]
        for name, network in NETWORKS.items()
    }
    assert skipped == {"ResNet-50": [0, 2, 4, 6, 8, 10], "ViT-B/16": [*range(6)]}


def test_every_part_may_be_measured_alone() -> None:
    assert [*PARTS] == [
        *NETWORKS,
        "budgets",
        "disturbed",
        "kept decisions",
        "modes put back",
        "modes",
        "trtbench",
        "early exits",
        "clutter policies",
        "routers",
        "digits ResNet",
        "sub-path ResNet-50",
        "DenseNet-121",
        "free length",
        "resolutions",
        "prologue",
        "serving",
        "bit errors",
        "widths",
        "int8",
    ]


def test_if_graph_gives_the_pruned_graphs_outputs(work: Path) -> None:
    path = work / "ckpt.skipc"
    bundle = Bundle.open(path)
    branching = IfSession(path)
    for case in bundle.golden_inputs():
        for entry in bundle.manifest.configurations:
            (expected,) = plain_session(path / f"{entry.name}.onnx")(case).values()
            (found,) = branching.run(entry.taken("skip"), case).values()
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    full, fast = (entry.taken("skip") for entry in bundle.manifest.configurations)
    case = bundle.golden_inputs()[0]
    (whole,), (less,) = (branching.run(skip, case).values() for skip in (full, fast))
    assert np.abs(whole - less).max() > 1e-2


def test_commands_are_measured() -> None:
    spent = run(sys.executable, "-c", "x = bytearray(50_000_000); print(len(x))")
    assert spent.wall_s > 0
    assert spent.peak_bytes > 50_000_000
    assert spent.out == "50000000\n"
    with pytest.raises(SystemExit, match="went wrong"):
        run(sys.executable, "-c", "raise SystemExit('went wrong')")


def test_figures_come_from_processes_of_their_own(made: Path) -> None:
    path = made / "ckpt.skipc"
    for how in ("ours", "plain"):
        assert in_fresh_process(added_by, how, path) > 0
    pairs = in_fresh_process(load_both, path, "ours")
    assert [len(pair) for pair in pairs] == [2, 2]


def test_who_goes_first_takes_turns() -> None:
    order: list[str] = []
    pairs = by_turns_ms(lambda: order.append("a"), lambda: order.append("b"), 3)
    assert "".join(order) == "abbaab"
    assert ratio([(1, 2), (3, 1), (2, 2)]) == 1
    assert len(pairs) == 3


def test_a_policys_area_is_the_mean_accuracy_over_mean_times() -> None:
    stops = (0.5, 0.5)
    outcomes = {
        "to the end": PolicyOutcome("to the end", 0.9, 10.0, (0.0, 1.0)),
        "learnt gates": PolicyOutcome("learnt gates", 0.9, 6.0, stops, (Traded(0.9, 6.0),)),
        "oracle": PolicyOutcome("oracle", 1.0, 2.0, stops, (Traded(1.0, 2.0),)),
    }
    exits = (ExitOutcome(0.8, 2.0), ExitOutcome(0.9, 10.0))
    solved = SolvedPolicy("learnt gates", "table", 100, exits, tuple(outcomes.values()))
    trained = Trained(solved, outcomes)
    assert trained.time == pytest.approx(0.6)
    assert trained.drop == 0
    assert trained.time_within(1.0) == pytest.approx(0.56, abs=5e-3)
    assert trained.area("to the end") == pytest.approx(0.85)  # straight between the exits
    assert trained.area("learnt gates") == pytest.approx(0.875, abs=1e-3)
    assert trained.areas_over("oracle") == pytest.approx((0.875, 0.375), abs=5e-3)

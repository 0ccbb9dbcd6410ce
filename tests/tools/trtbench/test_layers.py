"""``trtbench --dumpProfile`` and ``--exportProfile``: the times of layers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.runtime import Bundle
from skipc.runtime.backends import open_backend
from skipc.runtime.errors import EngineError
from skipc.tools.trtbench.probes import layers_in
from tests.command_line import all_files, trtbench
from tests.tools.trtbench.test_command import QUICK
from tests.tools.trtbench.test_plain import told_late

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


def read_as_trtexec_writes(path: Path) -> tuple[int, list[dict[str, Any]]]:
    """Reads a file of --exportProfile, as a reader written for trtexec's format does."""
    head, *layers = json.loads(path.read_text(encoding="utf-8"))
    assert list(head) == ["count"]
    for layer in layers:
        assert list(layer) == ["name", "timeMs", "averageMs", "medianMs", "percentage"]
        assert layer["averageMs"] == pytest.approx(layer["timeMs"] / head["count"])
    total_ms = sum(layer["timeMs"] for layer in layers)
    for layer in layers:
        assert layer["percentage"] == pytest.approx(100 * layer["timeMs"] / total_ms)
    return head["count"], layers


def test_layers_are_printed_and_written(work: Path) -> None:
    before = all_files(work / "ckpt.skipc")
    ended = trtbench(
        *(work / "ckpt.skipc", *QUICK, "--dumpProfile"),
        *("--exportProfile", work / "layers.json"),
        columns=80,
    )
    assert ended.code == 0, ended.err
    assert max(map(len, ended.out.partition("\nwritten")[0].splitlines())) <= 80
    assert "full: 10 calls in a run of its own, slower for being profiled" in ended.out
    assert re.search(r"Time\(ms\)  Avg\.\(ms\)  Median\(ms\)  Time\(%\)  Layer", ended.out)
    count, full = read_as_trtexec_writes(work / "layers.full.json")
    assert count == 10
    operators = [re.search(r"\[(\w+)\]$", layer["name"])[1] for layer in full]
    assert "Conv" in operators
    assert operators[-1] == "Gemm"
    fast = read_as_trtexec_writes(work / "layers.fast.json")[1]
    assert len(fast) < len(full)
    rest = len(full) - 15
    assert f"the {rest} others together" in ended.out
    assert all_files(work / "ckpt.skipc") == before


def test_a_single_configuration_has_the_file_itself(work: Path) -> None:
    words = ("--configurations", "fast", "--exportProfile", work / "layers.json")
    ended = trtbench(work / "ckpt.skipc", *QUICK, *words)
    assert ended.code == 0, ended.err
    assert "Time(%)" not in ended.out
    assert read_as_trtexec_writes(work / "layers.json")[0] == 10


def test_a_profiled_engine_is_the_engine(made: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(made / "ckpt.skipc")
    backend = open_backend(bundle, bundle.engine_set("cpu"), 1)
    engine = backend.load("fast", profile=str(tmp_path / "p"))  # type: ignore[call-arg]
    case = bundle.golden_inputs()[0]
    (found,), (plain,) = (e.run(case).values() for e in (engine, backend.load("fast")))
    np.testing.assert_array_equal(found, plain)
    events = json.loads(engine.end_profiling().read_text())  # type: ignore[attr-defined]
    assert "model_run" in [event["name"] for event in events]
    assert len(list(tmp_path.iterdir())) == 1


def event(name: str, us: int, category: str = "Node") -> dict[str, object]:
    return {"cat": category, "name": name, "dur": us, "args": {"op_name": "Add"}}


def test_events_become_layers_without_the_first_calls() -> None:
    events = [event("model_run", 99, "Session")]
    events += [event(f"{name}_kernel_time", us) for us in (9, 1, 3) for name in ("a", "b")]
    found = layers_in("full", events, 2)
    assert {name: ms.tolist() for name, ms in found.items()} == {
        "a [Add]": [0.001, 0.003],
        "b [Add]": [0.001, 0.003],
    }


def test_a_layer_that_runs_twice_in_a_call_has_their_sum() -> None:
    events = [event("a_kernel_time", 1)] * (2 * 10) + [event("a_kernel_time", 2)] * (2 * 3)
    (times_ms,) = layers_in("full", events, 3).values()
    assert times_ms.tolist() == [0.004] * 3


@pytest.mark.parametrize("events", [[], [event("a_kernel_time", 1)]])
def test_a_profile_that_misses_calls_is_refused(events: Any) -> None:
    with pytest.raises(EngineError, match="does not hold the 2 calls"):
        layers_in("full", events, 2)


MISTAKES = {
    "loading": (
        ("--timeDeserialize", "--dumpProfile"),
        "--dumpProfile, --exportProfile and flags",
    ),
    "folder": (("--exportProfile=no/x.json",), "the folder no does not exist"),
    "null": (("--dumpProfile", "--target=null"), "the backend 'null' does not tell the"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(work: Path, case: str) -> None:
    words, expected = MISTAKES[case]
    assert expected in told_late(trtbench(work / "ckpt.skipc", *words))

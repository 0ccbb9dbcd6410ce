from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from skipc.compiler.bundle.files import write_json
from skipc.runtime.backends.phases import LoadTimes, Wait, Way
from skipc.runtime.bundle.device import Conditions
from skipc.runtime.bundle.records import written
from skipc.tools.trtbench.compare import doubts
from skipc.tools.trtbench.latency import Times, summarize
from skipc.tools.trtbench.loading import added_bytes, pss_bytes
from skipc.tools.trtbench.loop import Stop
from skipc.tools.trtbench.report import (
    DeviceShare,
    Energy,
    Measured,
    Memory,
    MeterInfo,
    PhaseSummary,
    Regime,
    Report,
    Share,
    Switching,
)
from tests.command_line import told, trtbench

if TYPE_CHECKING:
    from pathlib import Path

import numpy as np

NAMES = ("full", "fast")
MEMORY = Memory(Share(100, 200), None, DeviceShare(5, 6, 7))
TIMES = Times(0.0, 0.2, 0.2, 0.5, {"90": 0.4})
PHASES = PhaseSummary(300, False, *[TIMES] * 5)


def report(scale: float = 1.0, seed: int = 0, names: tuple[str, ...] = NAMES) -> Report:
    """A report of synthetic latencies; the first configuration's are scaled."""
    rng = np.random.default_rng(seed)
    entries: list[Measured] = []
    for index, name in enumerate(names):
        times_ms = (10 - 5 * index) * rng.lognormal(0, 0.02, 300)
        times_ms *= scale if index == 0 else 1
        latency = summarize(times_ms, (90.0, 99.0), 10)
        over = latency.over(entries[0].latency) if entries else None
        entries.append(
            Measured(
                *(name, (name,), 0.9 - index / 10, MEMORY, 3.0, LoadTimes(1.0, None), 12.0),
                *(latency, over, PHASES, Energy.of((1.0, 1.5))),
            )
        )
    steady = dict.fromkeys(names, 1.0)
    first = {a: {b: 1.5 for b in names if b != a} for a in names}
    regime = Regime(
        created_utc="2026-01-01T00:00:00+00:00",
        bundle="toy",
        manifest_sha256="0" * 64,
        backend="onnxruntime-cpu",
        target="cpu",
        threads=1,
        device="a CPU",
        power_mode="MAXN",
        before=Conditions(41.5, 1500.0, None),
        after=Conditions(63.0, 1400.0, None),
        versions={"skipc": "0"},
        inputs={"images": "1x3 float32"},
        cases=2,
        stop=Stop(200.0, 3.0, 10),
        streams=1,
        average_runs=10,
        warm_up_rounds=7,
        meter=MeterInfo("model:5", "nothing", True),
        way=Way(graph=False, wait=Wait.BLOCK),
    )
    return Report(regime, names[0], tuple(entries), Switching(3, steady, first), "")


def write(path: Path, found: Report) -> Path:
    write_json(path, written(found))
    return path


@pytest.mark.parametrize(
    ("scale", "code", "verdict"),
    [
        (1.0, 0, "no difference shown"),
        (1.02, 0, "within 3.0%"),
        (0.98, 0, "within 3.0%"),
        (1.05, 1, "slower"),
        (0.95, 0, "faster"),
    ],
)
def test_verdicts_and_exit_codes(
    tmp_path: Path, scale: float, code: int, verdict: str
) -> None:
    old = write(tmp_path / "old.json", report())
    new = write(tmp_path / "new.json", report(scale, seed=1))
    ended = trtbench("--compare", old, new, columns=80)
    assert (ended.code, ended.err) == (code, "")
    lines = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    assert lines["full"].rstrip().endswith(verdict)
    assert lines["fast"].rstrip().endswith("no difference shown")
    assert "Not alike" not in ended.out


def test_outliers_that_leave_the_median_alone_are_told(tmp_path: Path) -> None:
    calm = report()
    latency = calm.configurations[1].latency
    assert latency is not None
    hit = replace(latency, mean_ms=2 * latency.mean_ms, max_ms=500.0)
    entries = (calm.configurations[0], replace(calm.configurations[1], latency=hit))
    old = write(tmp_path / "old.json", calm)
    new = write(tmp_path / "new.json", replace(calm, configurations=entries))
    ended = trtbench("--compare", old, new, columns=80)
    assert ended.code == 0
    flat = " ".join(ended.out.split())
    assert "fast: its mean and its slowest calls changed otherwise than its median" in flat
    assert "full: its mean" not in flat


def test_a_common_factor_is_the_machines(tmp_path: Path) -> None:
    old, new = report(), report()
    slowed = []
    for entry in new.configurations:
        latency = entry.latency
        assert latency is not None
        medians_ms = tuple(1.1 * ms for ms in latency.batch_medians_ms)
        slower = replace(
            latency,
            median_ms=1.1 * latency.median_ms,
            mean_ms=1.1 * latency.mean_ms,
            batch_medians_ms=medians_ms,
        )
        slowed.append(replace(entry, latency=slower))
    both = write(tmp_path / "a.json", old), write(tmp_path / "b.json", old)
    assert "same factor" not in trtbench("--compare", *both).out
    write(tmp_path / "b.json", replace(new, configurations=tuple(slowed)))
    ended = trtbench("--compare", *both, columns=80)
    assert ended.code == 1
    assert "All changed by about the same factor, 1.100" in " ".join(ended.out.split())


def test_the_margin_may_be_chosen(tmp_path: Path) -> None:
    old = write(tmp_path / "old.json", report())
    new = write(tmp_path / "new.json", report(1.05, seed=1))
    assert trtbench("--compare", old, new, "--margin", 10).code == 0
    new = write(tmp_path / "new.json", report(1.02, seed=1))
    assert trtbench("--compare", old, new, "--margin", 0).code == 1
    assert "only with --compare" in told(trtbench("x.skipc", "--margin", 1))


def test_differences_of_the_regimes_are_told(tmp_path: Path) -> None:
    old = write(tmp_path / "old.json", report())
    new = write(tmp_path / "new.json", report())

    def change(regime: dict[str, Any]) -> None:
        regime.update(
            threads=2, way=None, versions={"skipc": "1"}, inputs={"images": "4x3 float32"}
        )

    value = json.loads(new.read_text())
    change(value["regime"])
    new.write_text(json.dumps(value))
    out = trtbench("--compare", old, new).out
    assert "Not alike: threads: 1, then 2" in out
    assert "(blocking), then there are no transfers" in out
    assert "Not alike: version of skipc: 0, then 1" in out
    assert "Not alike: input images: 1x3 float32, then 4x3 float32" in out


def test_configurations_of_one_file_only(tmp_path: Path) -> None:
    old = write(tmp_path / "old.json", report(names=("full", "mid")))
    new = write(tmp_path / "new.json", report())
    out = trtbench("--compare", old, new).out
    assert "mid is in the old file only." in out
    assert "fast is in the new file only." in out
    other = write(tmp_path / "other.json", report(names=("a", "b")))
    assert "no configuration in common" in told(trtbench("--compare", old, other))


def times(ms: float) -> Times:
    return Times(ms, ms, ms, ms, {})


def with_phases(enqueue_ms: float, moved_ms: float, *, graph: bool = True) -> Report:
    """A report whose configurations compute for 1 ms; the second one enqueues in no time."""
    found = report()
    entries = []
    for entry, spent_ms in zip(found.configurations, (enqueue_ms, 0.0), strict=True):
        phases = PhaseSummary(
            *(300, graph, times(1 + 2 * moved_ms), times(spent_ms)),
            *(times(moved_ms), times(1), times(moved_ms)),
        )
        entries.append(replace(entry, phases=phases))
    regime = replace(found.regime, way=Way())
    return replace(found, regime=regime, configurations=tuple(entries))


def test_stable_and_quick_calls_raise_none() -> None:
    assert doubts(with_phases(0.8, 0.99)) == ()


def test_enqueueing_that_takes_most_of_the_computation_is_told() -> None:
    (doubt,) = doubts(with_phases(0.81, 0.1))
    assert doubt.startswith(
        "enqueueing takes more than 0.8 of the computation's median: full."
    )


def test_transfers_as_long_as_the_computation_are_told() -> None:
    (doubt,) = doubts(with_phases(0.1, 1.0))
    assert "as long as computing, or longer: full, fast." in doubt


def test_a_graph_that_was_asked_for_and_not_had_is_told() -> None:
    (doubt,) = doubts(with_phases(0.1, 0.1, graph=False))
    assert doubt.startswith("phases measured without a CUDA graph: full, fast.")


def test_unstable_configurations_are_told_together() -> None:
    found = report()
    entries = tuple(
        replace(
            entry, phases=None, latency=replace(entry.latency, coefficient_of_variation=0.031)
        )
        for entry in found.configurations
        if entry.latency is not None
    )
    (doubt,) = doubts(replace(found, configurations=entries))
    assert "coefficient of variation above 2.5%: full 3.1%, fast 3.1%. Fix" in doubt


def test_memory_of_this_process_is_read() -> None:
    size_bytes = pss_bytes()
    assert size_bytes is not None
    assert size_bytes > 1_000_000
    assert added_bytes(100, 80) == 0
    assert added_bytes(80, 100) == 20


@pytest.mark.parametrize("text", [None, "", "Pss:\n", "Pss: many kB\n", "Rss: 3 kB\n"])
def test_memory_that_the_system_does_not_tell(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "smaps_rollup"
    if text is not None:
        path.write_text(text)
    assert pss_bytes(path) is None
    assert added_bytes(None, 3) is None

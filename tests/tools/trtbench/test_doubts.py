"""The warnings, each with all the configurations that it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from skipc.runtime.backends.phases import Way
from skipc.tools.pss import added_bytes, pss_bytes
from skipc.tools.trtbench.results.doubts import doubts
from skipc.tools.trtbench.running.phases import PhaseSummary, Times
from tests.tools.trtbench.test_compare import report

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.tools.trtbench.results.report import Report


def times(ms: float) -> Times:
    return Times(ms, ms, ms, ms, ())


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
        replace(entry, phases=None, latency=replace(entry.latency, variation=0.031))
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

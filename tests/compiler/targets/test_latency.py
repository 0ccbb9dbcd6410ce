from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from skipc.compiler.targets.latency import row_of, unstable


def test_what_disturbs_one_pass_is_in_no_quantile() -> None:
    quiet = [1.0, 1.0, 1.1]
    row = row_of(2, [quiet, [1.5, 15.0, 15.0], quiet])
    assert (row.threads, row.runs, row.p50_ms) == (2, 9, 1.0)
    assert row.p95_ms <= row.p99_ms <= 1.1
    assert row_of(2, [[1.0, 2.0], [2.0, 4.0], [3.0, 3.0]]).p50_ms == 3.0


def test_a_table_that_was_disturbed_is_told_from_one_of_few_or_short_calls() -> None:
    quiet = row_of(1, [[1.0] * 20, [1.0] * 20])
    rows = {
        "quiet": quiet,
        "disturbed": replace(quiet, p99_ms=15.0),
        "few": replace(quiet, p99_ms=15.0, runs=20),
        "short": replace(quiet, p50_ms=0.02, p95_ms=0.02, p99_ms=0.1),
    }
    engines = [SimpleNamespace(graph=name, latency=(row,)) for name, row in rows.items()]
    assert list(unstable(engines)) == ["disturbed"]  # type: ignore[arg-type]

from __future__ import annotations

from dataclasses import replace

import pytest

from skipc.runtime import Bundle, OperatingPoint
from skipc.runtime.bundle.engines import Latency
from skipc.runtime.bundle.route import Stage, Test
from skipc.runtime.load.points import operating_points, ranked_by, row_for
from tests.bundles import make_cascade, write_bundle, write_engines

NO_METRICS = {"full": {}, "mid": {}, "fast": {}}
FRONT_MS = {
    name: {"latency_ms": ms} for name, ms in [("full", 90.0), ("mid", 50.0), ("fast", 7.0)]
}


def _points(path, threads=1):
    bundle = Bundle.open(path)
    engines = bundle.engine_set() if bundle.targets() else None
    return operating_points(bundle.manifest, engines, threads)


def test_points_rank_by_accuracy_when_all_have_it(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    assert [point.rank for point in _points(path)] == [0.95, 0.93, 0.90]
    assert ranked_by(Bundle.open(path).manifest) == "accuracy"


def test_points_rank_by_macs_when_one_accuracy_is_missing(tmp_path):
    metrics = {"full": {"accuracy": 0.1}, "mid": {"accuracy": 0.9}, "fast": {}}
    path = write_bundle(tmp_path / "toy.skipc", metrics=metrics)
    assert [point.rank for point in _points(path)] == [3000, 2000, 1000]
    assert ranked_by(Bundle.open(path).manifest) == "macs"


def test_points_take_the_table_of_the_thread_count(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc", metrics=FRONT_MS)
    write_engines(path, threads=(1, 2))
    one, two = _points(path, 1), _points(path, 2)
    assert (one[0].p50_ms, one[0].p95_ms, one[0].source) == (9.0, pytest.approx(10.8), "table")
    assert two[0].p50_ms == 4.5
    assert (one[0].weights_bytes, one[0].own_bytes) == (600, 100)


def test_points_take_the_fronts_latency_when_nothing_was_measured(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc", metrics=FRONT_MS)
    write_engines(path, latencies_ms={})
    points = _points(path)
    assert [point.p50_ms for point in points] == [90.0, 50.0, 7.0]
    assert {point.source for point in points} == {"front"}


@pytest.mark.parametrize("metrics", [NO_METRICS, {**FRONT_MS, "mid": {}}])
def test_points_fall_back_on_macs(tmp_path, metrics):
    points = _points(write_bundle(tmp_path / "toy.skipc", metrics=metrics))
    assert {point.source for point in points} == {"macs"}
    assert points[0].p50_ms == pytest.approx(3 * points[2].p50_ms)
    assert points[0].weights_bytes == 900


def test_points_scale_macs_by_the_configurations_that_have_a_table(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc", metrics=FRONT_MS)
    write_engines(path, latencies_ms={"full": 9.0, "fast": 3.0})
    points = _points(path)
    assert [point.source for point in points] == ["table", "macs", "table"]
    assert points[1].p50_ms == pytest.approx(6.0)


def test_points_of_a_route_take_what_its_stages_take_together(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc", metrics=NO_METRICS)
    make_cascade(path / "manifest.json", "mid", ["fast", "full"], "logits")
    full, mid, fast = _points(path)
    assert (mid.source, mid.rank) == ("macs", 4000)
    assert mid.upto_ms == pytest.approx((fast.p50_ms, full.p50_ms + fast.p50_ms))
    assert (mid.weights_bytes, mid.own_bytes) == (1800, 0)
    write_engines(path, graphs=("full", "fast"))
    full, mid, fast = _points(path)
    assert (mid.source, mid.upto_ms) == ("table", (3.0, 12.0))
    assert (mid.weights_bytes, mid.own_bytes) == (1200, 200)


def test_one_graph_serves_several_configurations(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc")
    make_cascade(path / "manifest.json", "mid", ["full"], "logits")
    write_engines(path, graphs=("full", "fast"))
    full, mid, _ = _points(path)
    assert mid.p50_ms == full.p50_ms == 9.0
    assert mid.rank < full.rank


@pytest.mark.parametrize(("threads", "expected"), [(1, 2), (2, 2), (3, 2), (4, 4), (64, 4)])
def test_row_for_takes_the_same_count_else_the_next_smaller(threads, expected):
    rows = [Latency(count, 1.0, 1.0, 1.0, 1) for count in (4, 2)]
    assert row_for(rows, threads).threads == expected


def _of_two_stages(path, stops):
    """Returns the point of a configuration that runs ``fast`` (3 ms), then ``full`` (9 ms)."""
    write_engines(write_bundle(path))
    bundle = Bundle.open(path)
    entry = bundle.manifest.configuration("full")
    route = (Stage("fast", test=Test("logits", {"margin": 1.0}, 0.5)), Stage("full"))
    both = replace(bundle.manifest, configurations=(replace(entry, route=route, stops=stops),))
    return operating_points(both, bundle.engine_set(), 1)[0]


def test_a_routes_quantiles_are_those_of_all_its_rows(tmp_path):
    point = _of_two_stages(tmp_path / "toy.skipc", (0.9, 0.1))
    assert point.upto_ms == (3.0, 12.0)
    # Of the rows that stop at once the middle one is a little slower than their median; among
    # a hundred of all rows the 95th is the median of those that do not.
    assert 3.0 < point.p50_ms < 3.3
    assert point.p95_ms == pytest.approx(12.0)
    late = OperatingPoint("late", 0.0, 12.0, 14.4, 18.0)  # 1.2 and 1.5 times the median
    assert point.p99_ms == pytest.approx(late.quantile_ms(0.9))


def test_a_route_of_which_all_rows_run_to_the_end_takes_all_its_stages(tmp_path):
    point = _of_two_stages(tmp_path / "toy.skipc", (0.0, 1.0))
    assert (point.p50_ms, point.p95_ms) == (pytest.approx(12.0), pytest.approx(14.4))
    assert point.p99_ms == pytest.approx(18.0)


def test_a_route_that_stops_at_once_is_as_fast_as_its_first_stage(tmp_path):
    point = _of_two_stages(tmp_path / "toy.skipc", (1.0, 0.0))
    assert (point.p50_ms, point.p95_ms) == (pytest.approx(3.0), pytest.approx(3.6))


def test_a_route_without_tables_takes_its_macs_stage_by_stage(tmp_path):
    path = write_bundle(tmp_path / "toy.skipc", metrics={**NO_METRICS})
    manifest = Bundle.open(path).manifest
    route = (Stage("fast", test=Test("logits", stages=(0, *[1] * 9))), Stage("full"))
    entry = replace(manifest.configuration("full"), route=route, stops=(0.5, 0.5))
    point = operating_points(replace(manifest, configurations=(entry,)), None, 1)[0]
    assert point.upto_ms[1] == pytest.approx(4 * point.upto_ms[0])
    assert point.upto_ms[0] == pytest.approx(point.p50_ms)
    assert point.p99_ms == pytest.approx(point.upto_ms[1])

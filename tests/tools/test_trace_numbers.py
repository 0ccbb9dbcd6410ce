"""What the pictures and the summary of a trace are made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.runtime import Budget
from skipc.runtime.call.trace import TracedConfiguration
from skipc.runtime.errors import written_out
from skipc.tools.console import short
from skipc.tools.trace.columns import columns_of, thinned
from skipc.tools.trace.content import content_of, strip_of
from skipc.tools.trace.energy import energy_panel
from skipc.tools.trace.summary import numbers_of, sentences, summary_of
from skipc.tools.web.palette import ramp
from tests.traces import call, trace


def test_summary_counts_as_one_does_by_hand() -> None:
    summary = summary_of(
        trace(
            [
                call(0.010, "full", 8.0, limit_ms=10),
                call(0.030, "full", 12.0, limit_ms=10),
                call(0.040, "mid", 4.0, limit_ms=10),
                call(0.050, "fast", 2.0, limit_ms=1, feasible=False),
                call(0.060, "fast", 3.0),
                call(0.070, "fast", 1.0, limit_ms=10, failure="no memory"),
                call(0.082, "full", 10.0, limit_ms=10),
            ]
        )
    )
    assert summary.calls == 7
    assert summary.duration_s == pytest.approx(0.080)
    assert (summary.limited_calls, summary.feasible_limited_calls) == (5, 4)
    assert summary.within_limit == pytest.approx(3 / 5)
    assert summary.feasible_within_limit == pytest.approx(3 / 4)
    assert (summary.switches, summary.infeasible_calls, summary.failures) == (3, 1, 1)
    assert summary.mean_accuracy == pytest.approx((3 * 0.96 + 0.93 + 2 * 0.90) / 6)
    assert summary.mean_power_w is None
    full, mid, fast = summary.configurations
    assert [each.configuration for each in (full, mid, fast)] == ["full", "mid", "fast"]
    assert [each.calls for each in (full, mid, fast)] == [3, 1, 3]
    assert [each.failures for each in (full, mid, fast)] == [0, 0, 1]
    assert full.share == pytest.approx(3 / 7)
    assert full.median_ms == 10
    assert full.p99_ms == pytest.approx(12 - 0.02 * 2)
    assert (fast.median_ms, mid.p99_ms) == (2.5, 4)


def test_energy_of_a_configuration_is_what_its_calls_were_expected_to_take() -> None:
    calls = [call(0.01, energy_mj=70), call(0.02, energy_mj=90), call(0.03, "mid")]
    full, mid, fast = summary_of(trace(calls)).configurations
    assert full.energy_mj == 80
    assert mid.energy_mj is None
    assert fast.energy_mj == 20  # never ran: as expected at the end


def test_where_calls_were_answered_is_counted_and_drawn_over_time() -> None:
    places = [(0, "test"), (1, "test"), (2, "end"), (1, "deadline")]
    calls = [
        call(0.1 * i, stage=places[i % 4][0], stopped_by=places[i % 4][1]) for i in range(100)
    ]
    calls += [call(10 + 0.1 * i, "fast") for i in range(99)]
    calls.append(call(20, failure="no memory"))
    summary = summary_of(trace(calls))
    full = next(one for one in summary.configurations if one.configuration == "full")
    assert (full.stages, full.cut) == ((0.25, 0.5, 0.25), 0.25)
    assert all(one.stages == () for one in summary.configurations if one is not full)
    content = content_of(trace(calls), 1000, 100)
    assert content.columns.exits == ("exit 1", "exit 2", "end", "deadline")
    assert content.exits is not None
    early, late = content.exits.shares[:, 0], content.exits.shares[:, -1]
    assert early == pytest.approx([0.25] * 4, abs=0.05)
    assert late.tolist() == [0, 0, 1, 0]
    headings, rows = numbers_of(summary)
    assert headings[-2:] == (">answered at", ">cut")
    assert rows[0][-2:] == ("25 / 50 / 25 %", "25.0 %")
    named = [call(0.1 * i, stage=1 + i % 2, route=(("fast", "mid")[i % 2],)) for i in range(9)]
    assert content_of(trace(named), 1000, 100).columns.exits == ("by fast", "by mid")
    # Where all calls run to their end there is nothing to tell.
    plain = trace([call(0.1 * i) for i in range(9)])
    assert content_of(plain, 1000, 100).exits is None
    assert ">cut" not in numbers_of(summary_of(plain))[0]


def test_accuracy_is_given_only_where_ranks_are_accuracies() -> None:
    assert summary_of(trace([call(1)])).mean_accuracy == 0.96
    assert summary_of(trace([call(1)], ranked_by="macs")).mean_accuracy is None
    assert summary_of(trace([call(1, failure="no")])).mean_accuracy is None


def test_power_expected_is_energy_over_time() -> None:
    calls = [call(0.008 + 0.01 * i, latency_ms=8, energy_mj=80) for i in range(101)]
    summary = summary_of(trace(calls))
    assert summary.mean_power_w == pytest.approx(101 * 0.080 / 1.008)
    assert summary.power_source == "expected"
    unknown = [*calls, call(2.0, "mid")]
    assert summary_of(trace(unknown)).mean_power_w is None


def test_power_metered_is_counted_from_step_to_step() -> None:
    # 20 W in a counter that moves every 100 ms; the trace begins within a step.
    calls = [
        call(0.01 * i, latency_ms=8, energy_mj=80, metered_mj=2000.0 * (i // 10))
        for i in range(7, 1005)
    ]
    summary = summary_of(trace(calls))
    assert summary.mean_power_w == pytest.approx(20)
    assert summary.power_source == "metered"
    panel = energy_panel(columns_of(trace(calls)))
    assert panel is not None
    assert panel.lines[0].label.startswith("metered, mean of ")
    assert panel.lines[0].values == pytest.approx(20)


def test_a_power_that_was_taken_for_granted_is_not_called_metered() -> None:
    calls = [call(0.1 * i, metered_mj=500.0 * i) for i in range(30)]
    assumed = trace(calls, meter_estimated=True)
    summary = summary_of(assumed)
    assert summary.mean_power_w == pytest.approx(5)
    assert summary.power_source == "assumed"
    assert "Mean power: 5 W, an estimate: the meter measures nothing" in sentences(summary)[2]
    panel = energy_panel(columns_of(assumed))
    assert panel is not None
    assert [line.label.partition(",")[0] for line in panel.lines] == ["assumed"]


@pytest.mark.parametrize("readings", [[None] * 4, [5.0] * 4, [5.0, 4.0, 8.0, 9.0], [1, 2, 3]])
def test_a_meter_that_says_nothing_to_be_believed_is_not_used(
    readings: list[float | None],
) -> None:
    same_time = len(readings) == 3
    calls = [
        call(1.0 if same_time else 1.0 + i, energy_mj=80, metered_mj=mj)
        for i, mj in enumerate(readings)
    ]
    assert summary_of(trace(calls)).power_source != "metered"


def test_energy_per_call_is_shown_where_that_is_granted() -> None:
    grant = Budget(energy_mj=50)
    calls = [
        call(0.02 * i, ("full", "fast")[i % 2], energy_mj=(80.0, 20.0)[i % 2], budget=grant)
        for i in range(400)
    ]
    panel = energy_panel(columns_of(trace(calls)))
    assert panel is not None
    assert panel.axis == "energy (mJ per call)"
    taken, granted = panel.lines
    assert taken.values[20:-20] == pytest.approx(50, rel=0.01)  # at the ends windows are short
    assert (granted.granted, set(granted.values)) == (True, {50})


def test_power_is_averaged_over_what_the_budget_says() -> None:
    calls = [
        call(0.02 * i, energy_mj=80, budget=Budget(power_w=4, window_s=2)) for i in range(400)
    ]
    panel = energy_panel(columns_of(trace(calls)))
    assert panel is not None
    assert panel.axis == "power (W)"
    assert [line.label for line in panel.lines] == [
        *("expected of the calls (estimate), mean of 2 s", "granted on average over 2 s")
    ]


def test_budgets_of_several_kinds_are_all_shown_as_power() -> None:
    budget = Budget(energy_mj=100, energy_j=60, horizon_s=20)
    calls = [call(0.02 * i, energy_mj=80, budget=budget) for i in range(1, 400)]
    panel = energy_panel(columns_of(trace(calls)))
    assert panel is not None
    _, battery, per_call = panel.lines
    assert set(battery.values) == {3.0}
    assert per_call.values == pytest.approx(100e-3 / 0.02, rel=0.1)


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.integers(0, 3), st.floats(-1e6, 1e6)),
        min_size=1,
        max_size=300,
    ),
    st.integers(1, 60),
)
def test_thinning_keeps_every_extreme(
    points: list[tuple[float, int, float]], at_most: int
) -> None:
    time_s = np.sort(np.array([time for time, _, _ in points]))
    groups = np.array([group for _, group, _ in points], np.intp)
    values = np.array([value for _, _, value in points])
    kept = thinned(time_s, groups, (values, -(values**2)), at_most)
    assert (np.diff(kept) > 0).all()
    assert len(kept) <= max(at_most, 4 * 6)  # no more than one column's marks
    for group in set(groups):
        own, left = values[groups == group], values[kept][groups[kept] == group]
        assert (own.min(), own.max()) == (left.min(), left.max())


def test_thinning_keeps_the_slowest_call_of_a_long_trace() -> None:
    rng = np.random.default_rng(0)
    latency_ms = rng.lognormal(2, 0.2, 50_000)
    latency_ms[31_234] = 90
    kept = thinned(np.arange(50_000.0), np.zeros(50_000, np.intp), (latency_ms,), 3000)
    assert 31_234 in kept
    assert 1500 < len(kept) <= 3000
    assert thinned(np.arange(9.0), np.zeros(9, np.intp), (latency_ms[:9],), 9).tolist() == [
        *range(9)
    ]


def test_long_traces_are_thinned_and_the_picture_says_so() -> None:
    calls = [call(0.01 * i, latency_ms=8 + i % 7, limit_ms=20) for i in range(5000)]
    calls[1234] = replace(calls[1234], latency_ms=19.0)
    calls[4321] = replace(calls[4321], failure="no memory")
    content = content_of(trace(calls), 500, 100)
    assert {1234, 4321} <= set(content.drawn.tolist())
    assert len(content.drawn) <= 500
    assert content.notes[0].startswith(f"Thinned: {len(content.drawn)} of 5000 calls")
    assert content_of(trace(calls), 5000, 100).notes == ()


def test_the_latency_axis_is_logarithmic_only_if_need_be() -> None:
    calls = [call(0.1 * i, latency_ms=8.0 + i, limit_ms=1e300) for i in range(10)]
    content = content_of(trace(calls), 100, 100)
    assert not content.logarithmic
    assert content.range_ms[1] < 30
    assert content.notes == ("Some limits are above the latency axis.",)
    content = content_of(trace([*calls, call(2, latency_ms=800)]), 100, 100)
    assert content.logarithmic
    assert 0 < content.range_ms[0] < 8
    assert content.range_ms[1] > 800
    zero = content_of(trace([*calls, call(2, latency_ms=800), call(3, latency_ms=0)]), 100, 9)
    assert not zero.logarithmic


def test_strip_shows_shares_and_pauses() -> None:
    names = ["full", "fast", "fast", "fast"] * 50
    calls = [call(0.01 * (i + 1), name, 10.0) for i, name in enumerate(names)]
    calls += [call(6 + 0.01 * i, "mid", 10.0, feasible=False) for i in range(200)]
    columns = columns_of(trace(calls))
    strip = strip_of(columns, 8)  # a column is a second
    full, mid, fast = strip.shares
    assert full[:2] == pytest.approx(0.25, abs=0.02)
    assert fast[:2] == pytest.approx(0.75, abs=0.02)
    assert np.isnan(strip.shares[:, 3:5]).all()
    assert mid[6:] == pytest.approx(1)
    assert (full[6:] == 0).all()
    ((first_s, last_s),) = strip.infeasible_spans_s
    assert (first_s, last_s) == pytest.approx((6, 8), abs=1.01)


def test_many_configurations_that_never_ran_are_left_out_and_said() -> None:
    many = [TracedConfiguration(f"c{i}", float(i), 1.0, 0.0) for i in range(40)]
    content = content_of(trace([call(1, "c3"), call(2, "c30")], many), 100, 100)
    assert [content.columns.configurations[row].name for row in content.rows] == ["c30", "c3"]
    assert content.notes == ("38 configurations that never ran are left out.",)


def test_calls_are_in_the_order_in_which_they_ended() -> None:
    columns = columns_of(trace([call(0.2), call(0.1, "mid"), call(0.3, "fast")]))
    assert columns.end_s.tolist() == [0.1, 0.2, 0.3]
    assert [columns.configurations[i].name for i in columns.chosen] == ["mid", "full", "fast"]


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_colours_grow_lighter_with_the_rank(count: int) -> None:
    channels = [[int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)] for text in ramp(count)]
    light = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in channels]
    assert light == sorted(light)
    assert len(set(light)) == count
    assert light[-1] < 0.75  # to be seen on white


@given(st.text(st.characters()))
def test_texts_are_safe_to_show(text: str) -> None:
    assert "".join(written_out(text).split()).isprintable()  # but for spaces of any width
    assert "\n" not in written_out(text)
    assert written_out(text).encode("utf-8").decode("utf-8") == written_out(text)
    assert len(short(text, 10)) <= 10

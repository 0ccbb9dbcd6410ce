"""Operating points that the tests of the governor share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from skipc.runtime import decide
from skipc.runtime.governor import OperatingPoint, after_call, after_choice, first_state

FULL = OperatingPoint("full", 0.95, 8.0, 10.0, 12.0, energy_mj=80.0)
MID = OperatingPoint("mid", 0.93, 5.0, 6.0, 7.0, energy_mj=50.0)
FAST = OperatingPoint("fast", 0.90, 2.0, 3.0, 3.5, energy_mj=20.0)
FAMILY = (FULL, MID, FAST)
UNTABLED = tuple(
    replace(point, p95_ms=point.p50_ms, p99_ms=point.p50_ms, source="macs", energy_mj=0.0)
    for point in FAMILY
)

latencies_ms = st.floats(1e-3, 1e4)
families = st.lists(
    st.tuples(st.floats(0, 1), latencies_ms, latencies_ms, st.floats(1e-2, 1e5)),
    min_size=1,
    max_size=6,
).map(
    lambda rows: tuple(
        OperatingPoint(f"c{index}", rank, p50_ms, p95_ms, energy_mj=energy_mj)
        for index, (rank, p50_ms, p95_ms, energy_mj) in enumerate(rows)
    )
)


def governed(points, budget, latencies_ms):
    """Returns which points the governor runs, by index, and its decisions.

    ``latencies_ms`` is what each call would take of each point.
    """
    index = {point.configuration: at for at, point in enumerate(points)}
    state, now_s, ran, decisions = first_state(points), 0.0, [], []
    for row in latencies_ms:
        decision = decide(points, budget, state, now_s)
        state = after_choice(state, budget, decision, now_s)
        at = index[decision.configuration]
        now_s += row[at] / 1000
        state = after_call(state, budget, points[at], float(row[at]), 0.0, now_s)
        ran.append(at)
        decisions.append(decision)
    return np.array(ran), decisions

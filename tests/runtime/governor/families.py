"""Operating points that the tests of the governor share."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from skipc.runtime.governor import OperatingPoint

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

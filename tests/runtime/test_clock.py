from __future__ import annotations

import pytest

from skipc.runtime import FakeClock, SystemClock


def test_fake_clock_stands_still_until_moved():
    clock = FakeClock()
    assert clock.now_ns() == clock.now_ns() == 0
    clock.advance_ms(1.5)
    assert clock.now_ns() == 1_500_000


@pytest.mark.parametrize("duration_ms", [-1.0, float("nan")])
def test_fake_clock_does_not_go_back(duration_ms):
    with pytest.raises(ValueError, match="cannot go back"):
        FakeClock().advance_ms(duration_ms)


def test_system_clock_does_not_go_back():
    clock = SystemClock()
    assert clock.now_ns() <= clock.now_ns()

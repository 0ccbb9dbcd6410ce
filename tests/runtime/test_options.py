from __future__ import annotations

import math

import numpy as np
import pytest

from skipc.runtime import AdaptiveEngine, ChoiceError
from skipc.runtime.options import checked_hang_ms, checked_idle_w
from tests.runtime.faulty import Script, X, scripted

NOT_NUMBERS = (True, "5", [5], 1j, math.nan, math.inf, -1.0, pytest.param(10**400, id="huge"))


@pytest.mark.parametrize("given", ["yes", "", 1, 0, None, np.bool_(True)])
def test_strict_is_true_or_false(given):
    with pytest.raises(ChoiceError, match=r"^strict=.*: expected True or False\.$"):
        scripted(Script(), strict=given)


@pytest.mark.parametrize("given", [*NOT_NUMBERS, 10_001])
def test_idle_watts_are_such_as_a_device_draws_at_rest(given):
    with pytest.raises(ChoiceError, match=r"^idle_w=.*: expected watts from 0 to 10000, or"):
        scripted(Script(), idle_w=given)


@pytest.mark.parametrize("given", [*NOT_NUMBERS, 0])
def test_the_time_until_a_call_hangs_is_above_zero(given):
    with pytest.raises(ChoiceError, match=r"^hang_ms=.*: expected milliseconds above 0, or"):
        scripted(Script(), hang_ms=given)


@pytest.mark.parametrize("given", [5, 0.5, np.float32(2), 1e300])
def test_the_time_until_a_call_hangs_is_any_real_number(given):
    assert checked_hang_ms(given) == float(given)
    engine, _ = scripted(Script(), hang_ms=given)
    with engine:
        engine(X)


@pytest.mark.parametrize("given", [0, 0.5, np.int64(3), 10_000, None])
def test_idle_watts_may_be_none_at_all(given):
    assert checked_idle_w(given) == given


@pytest.mark.parametrize("name", ["threads", "device_bytes"])
@pytest.mark.parametrize("given", [0, -1, True, 1.0, "2"])
def test_open_refuses_a_count_that_is_none(tmp_path, name, given):
    with pytest.raises(ChoiceError, match=rf"^{name}=.*: expected a whole number from 1, or"):
        AdaptiveEngine.open(tmp_path, **{name: given})

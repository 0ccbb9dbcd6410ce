"""``AdaptiveEngine.open(..., modes=...)`` on what ``trtbench --update --modes`` measured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from skipc.runtime import AdaptiveEngine, Budget, Bundle, ModeError
from skipc.runtime.modes import open_modes
from tests.command_line import trtbench
from tests.mode_trees import contents, laptop

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--warmUp", 1, "--duration", 0, "--iterations", 12, "--threads", 1, "--update")
NAMES = ("platform_profile:quiet", "platform_profile:balanced")


def test_modes_are_opened_once_they_were_measured_and_put_back(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = laptop(tmp_path / "device")
    here = partial(open_modes, root=device, guard=tmp_path / "state")
    for place in ("skipc.tools.trtbench.modes", "skipc.runtime.call.mode_changer"):
        monkeypatch.setattr(f"{place}.open_modes", here)
    monkeypatch.setattr("skipc.tools.trtbench.modes._FOLLOWS_S", 0.0)  # at once
    path, before = work / "ckpt.skipc", contents(device)
    with pytest.raises(ModeError, match=r"Measure it: trtbench .* --update --modes platform_"):
        AdaptiveEngine.open(path, threads=1, modes=NAMES)
    with pytest.raises(ModeError, match="Did you mean 'quiet'"):
        AdaptiveEngine.open(path, threads=1, modes=("platform_profile:quick",))
    with pytest.raises(ModeError, match="in the mode 'platform_profile:quiet'"):
        AdaptiveEngine.open(path, target="null", modes=NAMES)
    assert contents(device) == before
    assert trtbench(path, *QUICK, "--modes", ",".join(NAMES)).code == 0
    sample = Bundle.open(path).golden_inputs()[0]
    with AdaptiveEngine.open(path, Budget(latency_ms=1e4), threads=1, modes=NAMES) as engine:
        for _ in range(3):
            engine(sample)
        assert engine.last is not None
        modes = engine.stats().modes
        assert modes is not None
        assert engine.last.mode == modes.mode
        assert modes.mode in NAMES
        assert {point.source for point in engine.stats().configurations} == {"measured"}
        profile = (device / "sys/firmware/acpi/platform_profile").read_text().strip()
        assert modes.mode == f"platform_profile:{profile}"
    assert contents(device) == before

"""A process that is killed between two lines: what it changed, the next open puts back."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from skipc.tools.bench.restoring import Changing

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_killed_process_changed_is_put_back(tmp_path: Path) -> None:
    with closing(Changing()) as changing:
        lines = changing.lines(tmp_path / "all")
        found = [
            changing.put_back(tmp_path / f"{how}{number}", how, lines * number // 5)
            for how in ("kill", "interrupt")
            for number in range(1, 5)
        ]
    assert "lost" not in found
    assert "put back" in found[:4]

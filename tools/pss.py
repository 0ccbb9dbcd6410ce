"""This process's memory, as its proportional set size (PSS).

PSS counts a page that several mappings share once, divided among them: what a process costs.
"""

from __future__ import annotations

from pathlib import Path

_ROLLUP = Path("/proc/self/smaps_rollup")


def pss_bytes(rollup: Path = _ROLLUP) -> int | None:
    """Returns the proportional set size; None where the system does not tell.

    Args:
        rollup: The file of Linux that does (proc(5), ``smaps_rollup``).
    """
    try:
        lines = rollup.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def added_bytes(before: int | None, after: int | None) -> int | None:
    """Returns by how much memory grew: 0 where it shrank, None where it cannot be told."""
    return None if before is None or after is None else max(after - before, 0)

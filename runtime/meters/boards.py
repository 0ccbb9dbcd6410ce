"""The power rails of NVIDIA's boards, and which of them are part of which.

The sum of a board's power is that of its outermost rails. Which rail feeds which is told by
NVIDIA's developer guides and forum; the sources are in the profiles (``jetson-*.toml``), which
hold the same totals. A board is recognised by its rails' labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class Board:
    """A board with power rails.

    Attributes:
        name: What NVIDIA calls it.
        covers: What its total power is spent on.
        rails: For each rail's label the rail that its power is part of, "" for none.
    """

    name: str
    covers: str
    rails: Mapping[str, str]

    @property
    def total(self) -> tuple[str, ...]:
        """The rails whose sum is the total power: none is part of another."""
        return tuple(label for label, holder in self.rails.items() if not holder)

    def holder(self, label: str, others: Collection[str]) -> str:
        """Returns which of ``others`` holds the power of the rail ``label``, "" if none."""
        holder = self.rails.get(label, "")
        while holder and holder not in others:
            holder = self.rails[holder]
        return holder


BOARDS: tuple[Board, ...] = (
    Board(
        "AGX Orin",
        "the module, not the carrier board",
        {
            "VDD_GPU_SOC": "",
            "VDD_CPU_CV": "",
            "VIN_SYS_5V0": "",
            "VDDQ_VDD2_1V8AO": "VIN_SYS_5V0",
        },
    ),
    Board(
        "Orin NX, Orin Nano or Xavier NX",
        "the module, not the carrier board",
        {"VDD_IN": "", "VDD_CPU_GPU_CV": "VDD_IN", "VDD_SOC": "VDD_IN"},
    ),
    Board(
        "AGX Xavier",
        "the module, not the carrier board",
        {"GPU": "", "CPU": "", "SOC": "", "CV": "", "VDDRQ": "", "SYS5V": ""},
    ),
    Board(
        "AGX Thor",
        "the module and the carrier board",
        {
            "VDD_GPU": "VIN",
            "VDD_CPU_SOC_MSS": "VIN",
            "VIN_SYS_5V0": "VIN",
            "VIN": "",
        },
    ),
)

# A single label says too little: other boards, too, may call a rail VIN.
_LEAST_LABELS = 2


def board_with(labels: Collection[str]) -> Board | None:
    """Returns the board that has the rails ``labels``, None where none fits.

    All rails of its total must be there; of the others, some may be missing.
    """
    fitting = [
        board
        for board in BOARDS
        if set(board.total) <= set(labels) and _shared(board, labels) >= _LEAST_LABELS
    ]
    return max(fitting, key=lambda board: _shared(board, labels), default=None)


def likely_board(labels: Collection[str]) -> Board | None:
    """Returns the board that shares most labels with ``labels``, None if none shares two."""
    best = max(BOARDS, key=lambda board: _shared(board, labels))
    return best if _shared(best, labels) >= _LEAST_LABELS else None


def _shared(board: Board, labels: Collection[str]) -> int:
    return len(set(board.rails) & set(labels))

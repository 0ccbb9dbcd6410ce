"""One measured bar, and the table of all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import write_json, write_whole

if TYPE_CHECKING:
    from pathlib import Path

_INTRODUCTION = (
    "Written by `make bench`, or by `python -m skipc.tools.bench --network PART --out FOLDER`"
    " for one part of it. Ratios are medians of interleaved pairs in one process;"
    " what each row measures is said in the file of `tools/bench/` that makes it."
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A measurement and its bar.

    Attributes:
        network: What was measured on.
        what: What was measured.
        value: The measurement.
        limit: What it may be at most; None where the figure is only reported.
        unit: ``x`` for a ratio, else the unit.
        note: How the value came about, e.g. the worst configuration.
        least: What it must be at least, where more is better.
    """

    network: str
    what: str
    value: float
    limit: float | None
    unit: str = "x"
    note: str = ""
    least: float | None = None

    @property
    def met(self) -> bool:
        """Whether the value is within the bar."""
        enough = self.least is None or self.value >= self.least
        return enough and (self.limit is None or self.value <= self.limit)

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table: network, what, value, bar, verdict and note."""
        bar = "" if self.limit is None else f"≤ {_text(self.limit, self.unit)}"
        bar = bar if self.least is None else f"≥ {_text(self.least, self.unit)}"
        verdict = "" if not bar else "met" if self.met else "**missed**"
        value = _text(self.value, self.unit)
        return self.network, self.what, value, bar, verdict, self.note


def markdown(bars: list[Bar], machine: str) -> str:
    """Returns the table as Markdown."""
    head = ["# Benchmarks", "", _INTRODUCTION, "", machine, ""]
    head += ["| network | what | measured | bar | | note |", "|---|---|---:|---:|---|---|"]
    rows = (f"| {' | '.join(bar.cells)} |" for bar in bars)
    return "\n".join([*head, *rows, ""])


def write(bars: list[Bar], machine: str, folder: Path) -> None:
    """Writes ``results.md`` and ``results.json`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "results.md", markdown(bars, machine).encode())
    documents = [{**asdict(bar), "met": bar.met} for bar in bars]
    write_json(folder / "results.json", {"machine": machine, "bars": documents})


def _text(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"
    return f"{value:.2g} {unit}" if value < 1 else f"{value:.1f} {unit}"

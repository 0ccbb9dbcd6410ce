"""The picture of ``skipc units --picture``: a strip for each stage, as SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from skipc.tools.console import count_text, plural, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from skipc.compiler.axes.units import Unit, Units

_WIDTH, _LEFT, _ROW, _BOX, _TOP = 960, 150, 74, 34, 74
_LEAST = 26  # pixels of a unit, so that its name can be read
_STYLE = """
svg { background: #fff; font: 12px system-ui, sans-serif; }
text { fill: #1d2630; } .soft { fill: #5d6b7a; font-size: 11px; }
.unit { fill: #3b6ea5; } .name { fill: #fff; } .head { fill: #b3475a; }
.rest { fill: #d9dfe6; } .title { font-size: 16px; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  svg { background: #14171a; } text { fill: #e3e8ee; } .soft { fill: #9aa7b4; }
  .unit { fill: #5b8dc4; } .name { fill: #10151a; } .head { fill: #e0788a; }
  .rest { fill: #333c46; }
}
"""


def units_svg(units: Units, heads: Mapping[str, float], channels: Mapping[str, float]) -> str:
    """Returns the picture: the wider a unit, the more of the network's operations it has.

    Args:
        units: The units.
        heads: The accuracy of each head, by the unit that it stands after.
        channels: How many channels each inner layer has, by the layer's name.
    """
    outer = [unit for unit in units.units if not unit.within]
    rows: dict[str, list[Unit]] = {}
    for unit in outer:
        rows.setdefault(unit.name.rpartition(".")[0], []).append(unit)
    widest = max((sum(unit.macs for unit in row) for row in rows.values()), default=0) or 1
    most = max((len(row) for row in rows.values()), default=1)
    scale = max(1.0, _WIDTH - _LEFT - 20 - most * _LEAST) / widest
    height = _TOP + _ROW * (len(rows) + 1)
    drawn = [
        line
        for place, (stage, row) in enumerate(rows.items())
        for line in _stage(stage, row, _TOP + place * _ROW, scale, heads, channels)
    ]
    gone = sum(unit.macs for unit in outer)
    left = max(0, units.total_macs - gone)
    share = 100 * gone / units.total_macs if units.total_macs else 0
    whole = count_text(units.total_macs)
    title = f"{plural(len(outer), 'unit')}: {share:.0f} % of {whole} MACs"
    legend = "The wider a unit, the more operations. Below it: channels of its inner layers."
    if heads:
        legend += " A flag is a head for an early exit."
    top = _TOP + len(rows) * _ROW
    box = f'viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
            f"<style>{_STYLE}</style>",
            _text("title", 20, 30, escape(title)),
            _text("soft", 20, 50, legend),
            *drawn,
            _box("rest", _LEFT, top, max(3.0, min(left, widest) * scale)),
            _text("", 20, top + 21, "always runs"),
            _text("soft", _LEFT, top + _BOX + 15, f"{count_text(left)} MACs"),
            "</svg>",
            "",
        )
    )


def _stage(
    stage: str,
    row: Sequence[Unit],
    top: int,
    scale: float,
    heads: Mapping[str, float],
    channels: Mapping[str, float],
) -> Iterator[str]:
    yield _text("", 20, top + 15, _fitted(stage or "the network", _LEFT - 30))
    macs = sum(unit.macs for unit in row)
    yield _text("soft", 20, top + 31, f"{count_text(macs)} MACs")
    left = float(_LEFT)
    for unit in row:
        width = _LEAST + unit.macs * scale
        own = [f"{n:g}" for name, n in channels.items() if name.startswith(f"{unit.name}.")]
        costs = f"{count_text(unit.macs)} MACs, {count_text(unit.parameters)} parameters"
        yield f"<g><title>{escape(short(f'{unit.name}: {costs}', 200))}</title>"
        yield _box("unit", left, top, width - 3)
        name = _fitted(unit.name.rpartition(".")[2], width - 6)
        yield _text("name", left + (width - 3) / 2, top + 21, name, "middle") + "</g>"
        if own:
            yield _text("soft", left, top + _BOX + 15, _fitted("/".join(own), width))
        left += width
        if unit.name in heads:
            at = left - 1.5
            pole = f"M{at:.1f} {top - 12} v{_BOX + 12} h-2 v-{_BOX + 12} z"
            yield f'<path class="head" d="{pole} l10 5 l-10 5 z"/>'
            accuracy = f"{100 * heads[unit.name]:.0f} %"
            yield _text("soft", at + 13, top - 3, accuracy)


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{text}</text>'


def _box(kind: str, x: float, y: float, width: float) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BOX}"'
    return f'<rect class="{kind}" {place} rx="3"/>'


def _fitted(text: str, pixels: float) -> str:
    """Returns a text cut to about so many pixels, escaped."""
    return escape(short(text, max(1, int(pixels / 6.5))))

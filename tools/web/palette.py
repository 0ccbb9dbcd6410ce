"""Colours of a page on a light and on a dark ground.

Figures hold the colours of the light theme, so that they are valid as they stand and right on
paper; the page's script replaces each by its dark counterpart where the reader wants that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Viridis (matplotlib, CC0), a colour every 0.1. As in `tools/trace/palette`, dark stands for
# accurate; the ends that vanish on the ground are left out.
_VIRIDIS = (
    *("#440154", "#482475", "#414487", "#355f8d", "#2a788e"),
    *("#21918c", "#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725"),
)
_ON_LIGHT = (0.0, 7.0)
_ON_DARK = (3.6, 10.0)


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours that have a task; each name is also a CSS variable."""

    ground: str
    raised: str
    ink: str
    muted: str
    grid: str
    accent: str
    alarm: str
    own: str
    some: str
    every: str


_COLOURS = {
    "ground": ("#ffffff", "#14171a"),
    "raised": ("#f6f7f8", "#1d2125"),
    "ink": ("#16191d", "#e8eaed"),
    "muted": ("#59626d", "#a3adb8"),
    "grid": ("#dde1e5", "#343b42"),
    "accent": ("#1f5fa8", "#7fb3f0"),
    "alarm": ("#b3420a", "#ff9c66"),
    "own": ("#c9621a", "#f0a060"),
    "some": ("#5f8fc4", "#6f9fd6"),
    "every": ("#2b5a8c", "#a9cbf2"),
}
LIGHT, DARK = (Theme(**{name: pair[i] for name, pair in _COLOURS.items()}) for i in (0, 1))
PARTS = (LIGHT.some, LIGHT.own, LIGHT.every, LIGHT.accent)
"""Colours of the parts of a whole, such as exits, on a light ground."""
# Heat: from nothing to notable, readable under ink on either ground.
HEAT_LIGHT = ("#fbfbfc", "#fbe3cf", "#f3b27f")
HEAT_DARK = ("#1b1f23", "#4a3220", "#8a4a1a")


def ramp(count: int, dark: bool = False) -> tuple[str, ...]:
    """Returns a colour for each of so many ranks, the most accurate first."""
    low, high = _ON_DARK if dark else _ON_LIGHT
    known = np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in _VIRIDIS])
    places = np.linspace(low, high, count) if count > 1 else np.array([3.6])
    channels = np.stack([np.interp(places, np.arange(11), known[:, i]) for i in range(3)], 1)
    return tuple("#" + "".join(f"{round(v):02x}" for v in row) for row in channels.tolist())


def dark_of_light(count: int) -> dict[str, str]:
    """Returns the dark counterpart of each light colour, for so many ranks."""
    pairs = [(getattr(LIGHT, name), getattr(DARK, name)) for name in Theme.__slots__]
    pairs += zip(HEAT_LIGHT, HEAT_DARK, strict=True)
    pairs += zip(ramp(count), ramp(count, dark=True), strict=True)
    return dict(pairs)


def style(count: int) -> str:
    """Returns the style sheet that defines ``--ink`` and the like, and ``--c0``, ``--c1`` ...

    The dark values hold where the reader chose dark, or the system is dark and the reader did
    not choose light; never on paper.
    """
    light = _variables(LIGHT, ramp(count))
    dark = _variables(DARK, ramp(count, dark=True))
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}\n"
        "@media screen and (prefers-color-scheme:dark){"
        f":root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n"
    )


def _variables(theme: Theme, colours: tuple[str, ...]) -> str:
    named = "".join(f"--{name}:{getattr(theme, name)};" for name in Theme.__slots__)
    return named + "".join(f"--c{i}:{colour};" for i, colour in enumerate(colours))

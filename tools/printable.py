"""Texts from a file, made safe to show: names may hold anything."""

from __future__ import annotations


def shown(text: str) -> str:
    """Returns ``text`` with what cannot be printed (line ends, escapes) written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def short(text: str, most: int) -> str:
    """Returns ``shown(text)``, cut to ``most`` characters."""
    printable = shown(text)
    return printable if len(printable) <= most else f"{printable[: most - 1]}…"

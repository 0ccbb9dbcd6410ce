"""HTML built from parts: what is not marked as HTML is escaped."""

from __future__ import annotations

import html

from skipc.tools.printable import shown


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Part = str
"""An ``Html``, or a text that is escaped where it is used."""

# They have no content and no end tag.
_VOID = frozenset(("meta", "br", "col"))


def escaped(part: Part) -> Html:
    """Returns ``part`` as HTML; control characters and the like are written out."""
    return part if isinstance(part, Html) else Html(html.escape(shown(part)))


def joined(*parts: Part) -> Html:
    """Returns the parts one after the other."""
    return Html("".join(escaped(part) for part in parts))


def element(name: str, /, *content: Part, **attributes: str) -> Html:
    """Returns an element.

    Args:
        name: Its tag, such as ``td``.
        content: What is in it.
        attributes: By name; ``class_`` is ``class``, ``aria_label`` is ``aria-label``. Empty
            values are left out.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value
    )
    if name in _VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{joined(*content)}</{name}>")


def keyed(name: str, rank: int) -> Html:
    """Returns a configuration's name behind the colour that it has in every chart."""
    key = element("span", class_="key", style=f"background:var(--c{rank})", aria_hidden="true")
    return element("span", key, element("span", name), class_="keyed")

"""HTML built from parts: what is not marked as HTML is escaped."""

from __future__ import annotations

import html
from dataclasses import dataclass

from skipc.runtime.errors import written_out
from skipc.tools.console import short

_LONGEST_NAME, _LONGEST_CELL = 60, 400


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Part = str
"""An ``Html``, or a text that is escaped where it is used."""

# They have no content and no end tag.
_VOID = frozenset(("meta", "br", "col"))


def escaped(part: Part) -> Html:
    """Returns ``part`` as HTML; control characters and the like are written out."""
    return part if isinstance(part, Html) else Html(html.escape(written_out(part)))


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


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below headings; the first cell of a row is the row's heading.

    Texts are cut where they are longer than anybody reads.

    Attributes:
        caption: What the rows are.
        headings: One for each column; those that start with ``>`` hold numbers.
        rows: As many cells each as there are headings.
    """

    caption: str
    headings: tuple[Part, ...]
    rows: tuple[tuple[Part, ...], ...]

    def html(self) -> Html:
        """Returns the table below its caption, which is not cut off where the table is."""
        classes = ["number" if text.startswith(">") else "" for text in self.headings]
        heads = (
            element("th", _cut(text, _LONGEST_NAME), scope="col", class_=class_)
            for text, class_ in zip(self.headings, classes, strict=True)
        )
        rows = (
            element(
                "tr",
                element("th", _cut(first, _LONGEST_NAME), scope="row"),
                *(
                    element("td", _cut(cell, _LONGEST_CELL), class_=class_)
                    for cell, class_ in zip(others, classes[1:], strict=True)
                ),
            )
            for first, *others in self.rows
        )
        made = element(
            "table", element("thead", element("tr", *heads)), element("tbody", *rows)
        )
        caption = element("p", self.caption, class_="caption")
        return joined(caption, scrolling(made, self.caption))


def _cut(cell: Part, most: int) -> Part:
    return cell if isinstance(cell, Html) else short(cell.removeprefix(">"), most)


def scrolling(content: Part, name: str) -> Html:
    """Returns a region that scrolls by itself, with the keyboard too, and so has a name."""
    return element(
        "div", content, class_="scroll", role="region", tabindex="0", aria_label=name
    )


def details(summary: str, *content: Part) -> Html:
    """Returns content that opens on demand."""
    return element("details", element("summary", summary), *content)


def note(*content: Part) -> Html:
    """Returns a remark beside what is shown."""
    return element("p", *content, class_="note")

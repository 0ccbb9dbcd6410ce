"""Tables: the text form of what a chart shows, and tables in their own right."""

from __future__ import annotations

from dataclasses import dataclass

from skipc.tools.web.html import Html, Part, element, joined


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below headings; the first cell of a row is the row's heading.

    Attributes:
        caption: What the rows are.
        headings: One for each column; those that start with ``>`` hold numbers.
        rows: As many cells each as there are headings.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Part, ...], ...]

    def html(self) -> Html:
        """Returns the table below its caption, which is not cut off where the table is."""
        heads = (
            element("th", text.lstrip(">"), scope="col", class_=_align(text))
            for text in self.headings
        )
        rows = (element("tr", *self._cells(row)) for row in self.rows)
        made = element(
            "table",
            element("thead", element("tr", *heads)),
            element("tbody", *rows),
        )
        return joined(
            element("p", self.caption, class_="caption"), scrolling(made, self.caption)
        )

    def _cells(self, row: tuple[Part, ...]) -> list[Html]:
        first, *others = row
        return [
            element("th", first, scope="row"),
            *(
                element("td", cell, class_=_align(heading))
                for cell, heading in zip(others, self.headings[1:], strict=True)
            ),
        ]


def scrolling(content: Part, name: str) -> Html:
    """Returns a region that scrolls by itself, with the keyboard too, and so has a name."""
    return element(
        "div", content, class_="scroll", role="region", tabindex="0", aria_label=name
    )


def details(summary: str, *content: Part) -> Html:
    """Returns content that opens on demand."""
    return element("details", element("summary", summary), joined(*content))


def _align(heading: str) -> str:
    return "number" if heading.startswith(">") else ""

"""The skeleton of a page: everything it needs is in it, and it may load nothing."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from skipc.compiler.extras import require
from skipc.tools.web import palette
from skipc.tools.web.chart import embedded_json
from skipc.tools.web.html import Html, element, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.tools.web.html import Part


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page with a heading.

    Attributes:
        name: Its anchor, unique in the page.
        lead: What to see in it, in a sentence or two.
        folded: Whether its content is only seen when it is asked for.
    """

    name: str
    title: str
    lead: Part
    content: Part
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        title: The name in the window's title.
        header: What stands above the sections, with the only ``h1``.
        ranks: How many colours of configurations it uses.
    """

    title: str
    header: Part
    sections: Sequence[Section]
    ranks: int

    def encoded(self, extra: str) -> bytes:
        """Returns the page as it is written to a file, UTF-8.

        Raises:
            ExtraMissingError: Plotly is not installed, which the ``extra`` of skipc brings.
        """
        scripts = [_plotly_script(extra), _asset("page.js")]
        colours = palette.dark_of_light(self.ranks)
        body = joined(
            element("a", "Skip to the content", href="#content", class_="skip-link"),
            element("header", self.header, self._navigation(), class_="top"),
            element("main", *map(_section, self.sections), id="content", tabindex="-1"),
            embedded_json(colours, "dark-colours"),
            *(Html(f"<script>{script}</script>") for script in scripts),
        )
        head = joined(
            Html('<meta charset="utf-8">'),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
            element("meta", name="referrer", content="no-referrer"),
            element("title", self.title),
            Html(f"<style>{palette.style(self.ranks)}{_asset('page.css')}</style>"),
        )
        page = f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>{body}</body>'
        return f"{page}\n</html>\n".encode()

    def _navigation(self) -> Html:
        links = (
            element("li", element("a", section.title, href=f"#{section.name}"))
            for section in self.sections
        )
        button = element(
            "button",
            "Theme: system",
            type="button",
            id="theme",
            class_="quiet",
            hidden="hidden",
        )
        nav = element("nav", element("ul", *links), aria_label="Sections")
        return joined(
            nav if len(self.sections) > 1 else "",
            button,
            element(
                "noscript",
                element("p", "The charts need JavaScript; the tables below them do not."),
            ),
        )


def _section(section: Section) -> Html:
    content = section.content
    if section.folded:
        content = element("details", element("summary", "Show"), content, class_="folded")
    return element(
        "section",
        element("h2", section.title, id=f"{section.name}-heading"),
        element("p", section.lead, class_="lead") if section.lead else "",
        content,
        id=section.name,
        aria_labelledby=f"{section.name}-heading",
    )


def _policy(scripts: Sequence[str]) -> str:
    """Returns a policy under which these scripts run, and nothing is loaded.

    Plotly sets styles of its own, and draws pictures from data.
    """
    hashes = (
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline';"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _plotly_script(extra: str) -> str:
    script: str = require("plotly.offline", extra).get_plotlyjs()
    # The end of the element that it stands in.
    return script.replace("</script", "<\\/script")


def _asset(name: str) -> str:
    return files("skipc.tools.web").joinpath(name).read_text(encoding="utf-8")

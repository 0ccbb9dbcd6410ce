"""The page of `skipc report`: its size, and how soon a browser has drawn it."""

from __future__ import annotations

import shutil
from statistics import median
from typing import TYPE_CHECKING

from skipc.compiler.errors import ExtraMissingError
from skipc.compiler.extras import require
from skipc.tools.bench.harness import Bar
from skipc.tools.report.page import page_of
from skipc.tools.report.study import read_study

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.tools.bench.networks import Network

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_OPENED = 7
# Milliseconds since the page was asked for, by the page's own marks.
_MARKS = "performance.getEntriesByType('mark').map(mark => [mark.name, mark.startTime])"


def find_browser() -> str:
    """Returns the path of a Chromium.

    Raises:
        ExtraMissingError: There is none.
    """
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise ExtraMissingError(
            f"the pages need a browser and none of {', '.join(BROWSERS)} is on PATH. Install"
            " Chromium, or run `make browser`."
        )
    return found


def bars(network: Network, folder: Path) -> list[Bar]:
    """Returns the size of the page of a bundle with its engines, and how soon it is drawn.

    The first chart in sight, then all of them: medians over starts of a tab, file on disk.
    """
    page = folder / "report.html"
    page.write_bytes(page_of(read_study(folder / "six.skipc", (), page)).encoded("report"))
    playwright = require("playwright.sync_api", "dev")
    marks: dict[str, list[float]] = {}
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_browser())
        for _ in range(_OPENED):
            tab = browser.new_page()
            tab.goto(page.resolve().as_uri())
            tab.wait_for_selector("html[data-drawn]")
            for name, ms in tab.evaluate(_MARKS):
                marks.setdefault(name, []).append(ms)
            tab.close()
        browser.close()
    in_sight_ms, all_ms = median(marks["in-sight-drawn"]), median(marks["drawn"])
    what, size_mb = "page of the report", page.stat().st_size / 1e6
    return [
        Bar(network.name, f"{what}: size", size_mb, 6.0, unit="MB"),
        Bar(network.name, f"{what}: charts in sight drawn", in_sight_ms, 1000.0, unit="ms"),
        Bar(network.name, f"{what}: all charts drawn", all_ms, None, unit="ms"),
    ]

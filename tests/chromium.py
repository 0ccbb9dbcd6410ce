"""A real browser for the pages: the system's Chromium, driven over its DevTools protocol."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from skipc.tools.bench.pages import find_browser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page


@contextmanager
def started() -> Iterator[Browser]:
    """Yields a browser without windows."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_browser(),
            # Else each frame is drawn by OpenGL in software.
            args=["--disable-gpu", "--disable-software-rasterizer"],
        )
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser, page: Path, *, width: int = 1280, dark: bool = False
) -> Iterator[Page]:
    """Yields a page whose charts are drawn.

    Fails if it complains, opens a dialog, or asks for anything but itself.
    """
    wrong: list[str] = []
    asked: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
    )
    tab = context.new_page()
    tab.on("console", lambda said: wrong.append(said.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: wrong.append(dialog.message))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-drawn]")
    yield tab
    context.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [page.as_uri()]

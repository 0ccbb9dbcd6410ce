"""The page in a browser: it draws, answers the mouse, fits, prints, and is accessible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe

from skipc.runtime.call.trace import TracedConfiguration
from skipc.tools.report.page import page_of
from skipc.tools.report.study import read_study
from skipc.tools.trace.page import write_html
from skipc.tools.trace.summary import summary_of
from tests.chromium import opened, started
from tests.report_inputs import (
    NASTY,
    report_of,
    with_phases,
    with_plain,
    write_family,
    write_results,
)
from tests.traces import call, trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

UNITS = ("a.0", "a.1", "b.0", "b.1")
SKIPS = {"full": (), "mid": ("a.1",), "fast": ("a.1", "b.0")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a family measured twice: with a meter; with plain sessions, as of a GPU."""
    folder = tmp_path_factory.mktemp("usual")
    bundle = write_family(folder / "toy.skipc", SKIPS, UNITS)
    results = [
        write_results(folder / "a.json", report_of(bundle, meter=True)),
        write_results(
            folder / "b.json",
            with_plain(with_phases(report_of(bundle, threads=2, slower=0.6))),
        ),
    ]
    return _written(folder / "usual.html", folder / "toy.skipc", results)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a family whose names are hostile."""
    folder = tmp_path_factory.mktemp("nasty")
    skips = {name: NASTY[:i] for i, name in enumerate(NASTY)}
    bundle = write_family(folder / "nasty.skipc", skips, NASTY, model=NASTY[0])
    results = [write_results(folder / "r.json", with_plain(report_of(bundle, meter=True)))]
    return _written(folder / "nasty.html", folder / "nasty.skipc", results)


def _written(page: Path, bundle: Path, results: list[Path]) -> Path:
    page.write_bytes(page_of(read_study(bundle, results, page)).encoded("report"))
    return page


def _fits(tab: Page) -> bool:
    return bool(tab.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def _hovered(tab: Page, chart: str) -> str:
    """Returns what appears when the mouse is over a chart's first point."""
    point = tab.locator(f"{chart} .point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_selector(f"{chart} .hovertext")
    return tab.locator(f"{chart} .hovertext").first.text_content() or ""


def _serious(tab: Page) -> list[str]:
    found = Axe().run(tab).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def _check_every_chart(tab: Page, ground: str) -> None:
    assert tab.locator(".plot").count() == 16
    assert tab.locator(".plot .main-svg >> nth=0").count() == 1
    assert tab.evaluate("[...document.querySelectorAll('.plot')].every(p => p._fullData)")
    assert _serious(tab) == []
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    papers = tab.evaluate(
        "[...document.querySelectorAll('.plot > .plot-container .main-svg:first-child')]"
        ".map(svg => svg.style.backgroundColor || svg.style.background)"
    )
    assert set(papers) == {ground}


# To open the page takes five seconds: what can be asked of one tab is asked of one.
def test_the_page_fits_prints_draws_every_chart_and_is_accessible_in_each_theme(
    usual: Path, browser: Browser
) -> None:
    points = "document.querySelector('#front-latency .point').style.fill"
    with opened(browser, usual, width=390, dark=True) as tab:
        _check_keyboard(tab)
        _check_narrow(tab)
        _redrawn(tab, width=1280)
        _check_paper(tab)
        _check_hovering(tab)
        dark = tab.evaluate(points)
        tab.click("#theme")
        tab.wait_for_selector("html[data-drawn=light]")
        assert tab.evaluate(points) != dark
        _check_every_chart(tab, "rgb(255, 255, 255)")
        tab.click("#theme")
        tab.wait_for_selector("html[data-drawn=dark]")
        assert tab.locator("#theme").text_content() == "Theme: dark"
        assert tab.evaluate(points) == dark
        key = "getComputedStyle(document.querySelector('.key')).backgroundColor"
        first = "document.querySelector('#errors .trace:last-child path.point').style.fill"
        assert tab.evaluate(key) == tab.evaluate(first)
        _check_every_chart(tab, "rgb(20, 23, 26)")


def _check_keyboard(tab: Page) -> None:
    """Asserts that the keyboard reaches everything, on a page just opened."""
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.tagName") == "MAIN"
    tab.focus("#front summary")
    tab.keyboard.press("Enter")
    assert tab.locator("#front details[open] table").first.is_visible()


def _check_hovering(tab: Page) -> None:
    """Asserts that the page says of a point what it is."""
    said = _hovered(tab, "#front-latency")
    assert said.startswith("fast")
    for part in ("median", "99 %", "of full", "2 skipped: a.1, b.0"):
        assert part in said


def _check_narrow(tab: Page) -> None:
    """Asserts that a narrow window needs no scrolling sideways."""
    assert _fits(tab)
    rows = tab.locator("#configurations tbody tr")
    heights = rows.evaluate_all("found => found.map(row => row.offsetHeight)")
    assert max(heights) < 45  # pixels: a line each, and the rest by scrolling
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert _fits(tab)
    widths = tab.evaluate(
        "[...document.querySelectorAll('.plot .main-svg')]"
        ".map(svg => svg.getBoundingClientRect().right)"
    )
    assert max(widths) <= 390


def _check_paper(tab: Page) -> None:
    """Asserts that paper is white and as wide as the charts, on a page that is dark."""
    ground = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(ground) == "rgb(20, 23, 26)"
    tab.emulate_media(media="print", color_scheme="dark")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate(ground) == "rgb(255, 255, 255)"
    widths = tab.evaluate(
        "[...document.querySelectorAll('.plot .main-svg')].map(svg => svg.clientWidth)"
    )
    assert set(widths) == {690}
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    tab.emulate_media(media="screen", color_scheme="dark")
    tab.wait_for_selector("html[data-drawn]")
    assert tab.evaluate("document.querySelector('.main-svg').clientWidth") > 690
    assert tab.pdf(format="A4").startswith(b"%PDF")


def _redrawn(tab: Page, width: int) -> None:
    tab.evaluate("delete document.documentElement.dataset.drawn")
    tab.set_viewport_size({"width": width, "height": 900})
    tab.wait_for_selector("html[data-drawn]")


def test_hostile_names_are_texts(nasty: Path, browser: Browser) -> None:
    with opened(browser, nasty) as tab:
        assert tab.locator("main b").count() == 0
        assert tab.locator("img").count() == 0
        names = tab.locator("#errors .ytick").all_text_contents()
        assert len(names) == len(NASTY)
        assert names[0] == "</script><script>alert(…"
        assert names[2] == "a'b\"c&amp;d"
        assert _fits(tab)
        assert _serious(tab) == []


def test_the_page_of_a_trace_is_of_the_same_kind(browser: Browser, tmp_path: Path) -> None:
    calls = [
        call(0.1 * i, NASTY[i % 8], 2.0 + i % 5, limit_ms=4, energy_mj=5) for i in range(40)
    ]
    found = trace(
        calls, [TracedConfiguration(name, 8 - i, 1, 0) for i, name in enumerate(NASTY)]
    )
    page = tmp_path / "t.html"
    write_html(page, found, summary_of(found))
    with opened(browser, page, dark=True, width=390) as tab:
        assert _fits(tab)
        assert _serious(tab) == []
        assert "limit 4 ms" in _hovered(tab, "#calls")
        tab.click("#theme")
        tab.wait_for_selector("html[data-drawn=light]")
        assert _serious(tab) == []

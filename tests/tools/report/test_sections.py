"""The page's parts: figures that Plotly takes, escaped texts, families of all shapes."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import plotly.graph_objects
import pytest

from skipc.runtime.bundle import Bundle
from skipc.tools.report.page import SECTIONS, page_of
from skipc.tools.report.sections import decided, routes, sizes
from skipc.tools.report.study import Study, read_study
from skipc.tools.report.texts import number, percent, ratio
from skipc.tools.trtbench.latency import RatioInterval
from skipc.tools.web.html import Html, element, joined
from skipc.tools.web.palette import DARK, LIGHT, Theme, dark_of_light, ramp
from tests.bundles import add_axis
from tests.report_inputs import (
    NASTY,
    report_of,
    with_phases,
    with_plain,
    write_family,
    write_results,
)

if TYPE_CHECKING:
    from pathlib import Path

UNITS = ("a.0", "a.1", "b.0")
SKIPS = {"full": (), "mid": ("a.1",), "fast": ("a.1", "b.0")}
MANY_UNITS = tuple(f"stages.{i // 50}.block.{i % 50}" for i in range(500))
VOID = ("meta", "br", "col")


class Parsed(HTMLParser):
    """A page as a browser sees it: tags that close, the data of its figures, its texts."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: dict[str, object] = {}
        self.texts: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(page.decode())
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tag, name = self._open[-1] if self._open else ("", "")
        if tag == "script" and name:
            self.figures[name] = json.loads(data, parse_constant=pytest.fail)
        elif tag not in ("script", "style"):
            self.texts.append(data)


def study_of(bundle: Bundle, *results: Path) -> Study:
    return read_study(bundle.path, results, bundle.path.parent / "page.html")


def parsed(study: Study) -> Parsed:
    page = page_of(study).encoded("report")
    assert page == page_of(study).encoded("report")
    found = Parsed(page)
    plots = [attrs["id"] for _, attrs in found.tags if attrs.get("class") == "plot"]
    assert plots
    assert sorted(found.figures) == sorted(["dark-colours", *(f"{p}-figure" for p in plots)])
    names = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(names) == len(set(names))
    for name, figure in found.figures.items():
        if name != "dark-colours":
            assert isinstance(figure, dict)
            plotly.graph_objects.Figure(figure)  # refuses what Plotly does not know
    assert len(page) <= 6_000_000
    return found


def measured(tmp_path: Path) -> Study:
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS)
    files = [
        write_results(tmp_path / "a.json", report_of(bundle, meter=True)),
        write_results(
            tmp_path / "b.json",
            with_plain(with_phases(report_of(bundle, threads=2, slower=50.0))),
        ),
    ]
    return study_of(bundle, *files)


def test_a_measured_family_has_every_section(tmp_path: Path) -> None:
    study = measured(tmp_path)
    # No configuration of it has several stages, or decides by its input; all sizes are fixed.
    empty = [make for make in SECTIONS if not make(study).content]
    assert empty == [routes.section, decided.section, sizes.section]
    page = parsed(study)
    anchors = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    ids = {attrs.get("id") for tag, attrs in page.tags}
    assert {a for a in anchors if a and a.startswith("#")} <= {f"#{name}" for name in ids}
    assert "toy.skipc/0.onnx" in anchors
    assert any("was compared with PyTorch running" in text for text in page.texts)
    figures = sum(tag == "figure" for tag, _ in page.tags)
    assert figures == len(page.figures) - 1 == 16
    # Each chart has the same as a table.
    assert sum(text == "The same as a table" for text in page.texts) == figures + 1


def test_headings_are_in_order(tmp_path: Path) -> None:
    page = parsed(measured(tmp_path))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_the_front_steps_over_what_nothing_dominates(tmp_path: Path) -> None:
    metrics = {"full": {"accuracy": 0.9}, "mid": {"accuracy": 0.95}, "fast": {"accuracy": 0.8}}
    bundle = write_family(tmp_path / "t.skipc", SKIPS, UNITS, metrics=metrics)
    study = study_of(bundle, write_results(tmp_path / "a.json", report_of(bundle)))
    figure = parsed(study).figures["front-latency-figure"]
    steps, points = figure["data"][:2]  # type: ignore[index]
    assert points["y"] == [80, 95, 90]
    assert steps["y"] == [80, 95, 95]
    assert steps["x"] == points["x"]
    assert "mid" in points["hovertext"][1]
    assert "1 skipped: a.1" in points["hovertext"][1]


def test_an_axis_that_the_report_does_not_know_is_a_column(tmp_path: Path) -> None:
    path = write_family(tmp_path / "t.skipc", SKIPS, UNITS).path
    add_axis(path / "manifest.json", "width", ["half", "whole"])
    bundle = Bundle.open(path)
    study = study_of(bundle, write_results(tmp_path / "a.json", report_of(bundle)))
    page = parsed(study)
    assert {"width", "width half", "width whole", "1 skipped"} <= set(page.texts)
    points = page.figures["front-latency-figure"]["data"][1]  # type: ignore[index]
    assert any("1 skipped: a.1; width whole" in text for text in points["hovertext"])


def test_nothing_of_a_name_is_markup(tmp_path: Path) -> None:
    skips = {name: NASTY[:i] for i, name in enumerate(NASTY)}
    bundle = write_family(tmp_path / "nasty.skipc", skips, NASTY, model=NASTY[0])
    study = study_of(bundle, write_results(tmp_path / "r.json", report_of(bundle)))
    page = parsed(study)
    tags = [tag for tag, _ in page.tags]
    # Ours: the colours, a figure each, Plotly and the page's own; no others.
    assert tags.count("script") == len(page.figures) + 2
    assert "img" not in tags
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    shown = "".join(page.texts)
    assert NASTY[0] in shown
    assert "two\\nlines \\x1b[31m" in shown
    assert "\\ud800" in shown
    figure = page.figures["front-latency-figure"]
    texts = " ".join(figure["data"][1]["hovertext"])  # type: ignore[index]
    assert "&lt;img" in texts
    assert "<img" not in texts


@pytest.mark.parametrize("shape", ["one", "no accuracy", "nothing", "front", "no unit names"])
def test_small_families(shape: str, tmp_path: Path) -> None:
    skips = {"only": ()} if shape == "one" else SKIPS
    metrics: dict[str, dict[str, float]] | None = None
    if shape in ("no accuracy", "front"):
        more = {"latency_ms": 3.0, "energy_mj": 2.0} if shape == "front" else {}
        metrics = {name: dict(more) for name in skips}
    bundle = write_family(
        tmp_path / "t.skipc", skips, UNITS, metrics=metrics, named=shape != "no unit names"
    )
    timed = shape in ("one", "no accuracy")
    results = [write_results(tmp_path / "r.json", report_of(bundle))] if timed else []
    page = parsed(study_of(bundle, *results))
    text = "".join(page.texts)
    if shape == "nothing":
        assert "No call was timed" in text
        assert "front-macs-figure" in page.figures
    if shape == "no accuracy":
        assert "does not know the accuracy" in text
        assert "front-macs-figure" in page.figures
    if shape == "no unit names":
        assert "not all could be checked" in text
    if shape == "one":
        assert "switches-0-figure" not in page.figures


def test_a_unit_that_was_not_skipped_is_said(tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "t.skipc", SKIPS, UNITS, not_skipped=["b.0"])
    text = "".join(parsed(study_of(bundle)).texts)
    assert "all their nodes are there: fast: b.0. Build the bundle again." in text


def test_fifty_configurations_of_five_hundred_units(tmp_path: Path) -> None:
    skips = {f"skip{i}": MANY_UNITS[500 - 10 * i :] for i in range(50)}
    bundle = write_family(tmp_path / "many.skipc", skips, MANY_UNITS)
    report = with_plain(with_phases(report_of(bundle, meter=True)))
    page = parsed(study_of(bundle, write_results(tmp_path / "r.json", report)))
    strips = [attrs for tag, attrs in page.tags if attrs.get("class") == "strip"]
    assert len(strips) == 50
    # What is kept and what is skipped are one piece each.
    assert sum("gone" in (attrs.get("class") or "") for _, attrs in page.tags) == 49 + 1


def test_only_loading_timed_is_no_latency(tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "t.skipc", SKIPS, UNITS)
    file = write_results(tmp_path / "r.json", report_of(bundle))
    document = json.loads(file.read_text())
    for entry in document["configurations"]:
        entry["latency"] = None
    document["switching"] = None
    file.write_text(json.dumps(document))
    page = parsed(study_of(bundle, file))
    assert "only loading was timed" in "".join(page.texts)
    assert not any(name.startswith("latency") for name in page.figures)


def test_scripts_run_by_their_hash_only(tmp_path: Path) -> None:
    page = page_of(study_of(write_family(tmp_path / "t.skipc", SKIPS, UNITS))).encoded(
        "report"
    )
    tags = Parsed(page).tags
    (policy,) = (a["content"] for _, a in tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    addresses = [attrs[key] for _, attrs in tags for key in ("src", "href") if key in attrs]
    assert not any(address and "//" in address for address in addresses)


def test_text_is_escaped_unless_it_is_html() -> None:
    made = element("p", "a < b", Html("<br>"), title='"', hidden="")
    assert made == '<p title="&quot;">a &lt; b<br></p>'
    assert joined("<", made).startswith("&lt;<p")
    # What is put together by hand is text again.
    assert joined(made + "<") == joined(str(made + "<"))
    assert "&lt;p" in joined(made + "<")


def test_every_light_colour_has_one_dark_counterpart() -> None:
    for count in (1, 2, 6, 50):
        dark = dark_of_light(count)
        for name in Theme.__slots__:
            assert dark[getattr(LIGHT, name)] == getattr(DARK, name)
        assert [dark[colour] for colour in ramp(count)] == list(ramp(count, dark=True))
        assert len(set(ramp(count))) == count


def test_colours_are_seen_on_their_ground() -> None:
    for theme, dark in ((LIGHT, False), (DARK, True)):
        assert _contrast(theme.ink, theme.ground) >= 7
        for colour in (theme.muted, theme.accent, theme.alarm):
            assert _contrast(colour, theme.ground) >= 4.5
        assert min(_contrast(c, theme.ground) for c in ramp(6, dark)) >= (3 if dark else 2.2)


def test_numbers_are_short_and_never_scientific() -> None:
    found = [number(v) for v in (0.0241234, 38.74, 999.7, 12345.6, 0.0, 1e-7, 99999)]
    thin = "\u202f"
    assert found == [
        *("0.0241", "38.7", "1" + thin + "000", "12" + thin + "300", "0", "0.000000100"),
        "100" + thin + "000",
    ]
    assert [percent(v) for v in (1, 0.99999, 0.5, 0, None)] == [
        *("100.00 %", "99.99 %", "50.00 %", "0.00 %", "-")
    ]
    assert ratio(RatioInterval(0.51934, 0.5188, 0.5199)) == "0.5193 (0.5188 to 0.5199)"
    assert ratio(RatioInterval(0.5, None, None)) == "0.500 (too few runs for an interval)"


def _contrast(one: str, other: str) -> float:
    """Contrast ratio by WCAG 2.2."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        v / 12.92 if v <= 0.04045 else math.pow((v + 0.055) / 1.055, 2.4) for v in values
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

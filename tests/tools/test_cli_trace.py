"""`skipc trace`: the table, the JSON, the PNG and the page."""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from skipc.runtime import Budget
from skipc.runtime.call.trace import Trace, TracedConfiguration
from skipc.tools.trace.content import content_of
from tests.command_line import all_files, mistake, skipc, skipc_without
from tests.traces import call, trace, write

if TYPE_CHECKING:
    from pathlib import Path

NASTY = (
    *("<script>alert(1)</script>", "a$b_{c$", "_under", "two\nlines", "\x1b[31mred", "\ud800"),
    *("%{x} &amp; <b>bold</b>", "x" * 200),
)
# The figure, the dark colours, Plotly and the page's own, whatever a trace says.
SCRIPTS = 4


def usual(calls: int = 60) -> Trace:
    """Calls that switch, fail, miss their limit and are infeasible, with energies."""
    names = ("full", "mid", "fast")
    return trace(
        [
            call(
                0.02 * (i + 1),
                names[i // 7 % 3],
                2.0 + i % 9,
                limit_ms=9.0 if i % 2 else 4.0,
                feasible=i % 11 != 0,
                failure="no memory" if i % 13 == 12 else "",
                budget=Budget(latency_ms=9, power_w=3),
                energy_mj=50.0,
                reason=f"'{names[i // 7 % 3]}' is the best of the 2 of 3 that fit 9 ms.",
            )
            for i in range(calls)
        ]
    )


SHAPES = {
    "usual": usual(),
    "no calls": trace(),
    "no configuration": trace(configurations=()),
    "one call": trace([call(0.1, limit_ms=9, energy_mj=80)]),
    "no limit": trace([call(0.1 * i) for i in range(9)]),
    "all failed": trace([call(0.1 * i, failure="no memory") for i in range(9)]),
    "all infeasible": trace([call(0.1 * i, limit_ms=1, feasible=False) for i in range(9)]),
    "one configuration": trace(
        [call(0.1 * i) for i in range(9)], [TracedConfiguration("full", 1, 8, 0)]
    ),
    "no time": trace([call(1.0, latency_ms=0.0)] * 3),
    "all at once": trace([call(1.0)] * 3),
    "metered": trace([call(0.1 * i, metered_mj=90.0 * i) for i in range(90)]),
    "mixing": trace(
        [call(0.1 * i, energy_mj=40, budget=Budget(energy_mj=50)) for i in range(90)]
    ),
    "battery": trace(
        [call(0.1 * i, energy_mj=4, budget=Budget(energy_j=5, horizon_s=9)) for i in range(9)]
    ),
    "hours": trace([call(3600.0 * i) for i in range(9)]),
    "wide": trace([call(0.1 * i, latency_ms=2.0**i, limit_ms=9) for i in range(12)]),
    "huge": trace(
        [
            call(1e15, latency_ms=8e14, limit_ms=1e300, energy_mj=1e15),
            call(-1e15, latency_ms=-8e14, energy_mj=1e15, budget=Budget(power_w=1e15)),
            call(0, latency_ms=1e-300, energy_mj=1e-300),
        ]
    ),
    "nasty names": trace(
        [
            call(0.1 * i, name, 2.0 + i, reason=f"{name} </script><img src=http://x.y/z>")
            for i, name in enumerate(NASTY)
        ],
        [TracedConfiguration(name, i, 1.0, 0.0) for i, name in enumerate(NASTY)],
        engine="</title><script>alert(3)</script>",
    ),
    "exits": trace(
        [
            call(0.1 * i, stage=i % 3, stopped_by=("test", "test", "deadline", "end")[i % 4])
            for i in range(90)
        ]
    ),
    "many": trace(
        [call(0.1 * i, f"c{i}") for i in range(80)],
        [TracedConfiguration(f"c{i}", i, 1.0, 0.0) for i in range(80)],
    ),
}


def png_size(path: Path) -> tuple[int, int]:
    """Returns width and height of a PNG whose chunks are all whole."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, kinds = 8, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(body)
        kinds.append(kind)
        at += length + 12
    assert (kinds[0], kinds[-1]) == (b"IHDR", b"IEND")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


class Page(HTMLParser):
    """What a page loads, runs and shows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")
        ]

    def handle_endtag(self, tag: str) -> None:
        self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside[-1:] == ["script"]:
            self.scripts.append(data)
        elif self._inside[-1:] != ["style"]:
            self.text += data


@pytest.mark.parametrize("shape", SHAPES)
def test_every_trace_is_drawn(shape: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", SHAPES[shape])
    ended = skipc("trace", path, columns=80)
    assert (ended.code, ended.err) == (0, "")
    *lines, written = ended.out.splitlines()
    assert written == f"Written: {tmp_path / 't.png'}, {tmp_path / 't.html'}"
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    assert all_files(tmp_path) == ["t.html", "t.jsonl", "t.png"]
    width, height = png_size(tmp_path / "t.png")
    assert width == 1200
    assert 600 <= height <= 1300
    page = Page(tmp_path / "t.html")
    assert all(address.startswith("#") for address in page.addresses)
    assert page.tags.count("script") == SCRIPTS
    rows = (tmp_path / "t.html").read_text(encoding="utf-8").count('scope="row"')
    assert rows == len(SHAPES[shape].configurations)


def test_table_and_sentences(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", usual())
    ended = skipc("trace", path, "--no-picture", columns=80)
    assert ended.code == 0, ended.err
    table, whole = ended.out.split("\n\n")
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    assert rows == [
        ["configuration", "calls", "share", "median", "p99", "energy"],
        ["full", "21", "35.0 %", "5.5 ms", "10 ms", "50.0 mJ"],
        ["mid", "21", "35.0 %", "6 ms", "10 ms", "50.0 mJ"],
        ["fast", "18", "30.0 %", "6 ms", "10 ms", "50.0 mJ"],
    ]
    assert whole.splitlines()[0] == "60 calls in 1.182 s: 8 switches, 6 infeasible, 4 failed."
    assert "W, an estimate: what the calls were expected to take." in whole
    assert re.search(r"Within the limit: \d+\.\d %; \d+\.\d % of the feasible ones\.", whole)
    assert re.search(r"Mean accuracy: 0\.93\d\d\.", whole)
    assert all_files(tmp_path) == ["t.jsonl"]


def test_json_is_the_same_in_full(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", usual())
    found = skipc("trace", path, "--json", "--out", tmp_path / "p.html").json()
    assert found["trace"] == str(path)
    assert found["pictures"] == [str(tmp_path / "p.html")]
    assert (found["engine"], found["ranked_by"]) == ("net.skipc", "accuracy")
    assert (found["calls"], found["failures"], found["cut_short"]) == (60, 4, False)
    assert found["mean_power_w"] == pytest.approx(60 * 0.05 / 1.182)
    assert found["power_source"] == "expected"
    assert [each["configuration"] for each in found["configurations"]] == [
        *("full", "mid", "fast")
    ]
    assert found["configurations"][0]["share"] == pytest.approx(0.35)
    empty = skipc("trace", write(path, trace()), "--json", "--no-picture").json()
    assert (empty["calls"], empty["within_limit"], empty["mean_accuracy"]) == (0, None, None)


def test_metered_power_is_called_so(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", SHAPES["metered"])
    out = skipc("trace", path, "--no-picture").out
    assert "Mean power: 0.9 W, metered." in out
    assert "estimate" not in out


def test_not_all_is_not_rounded_to_all(tmp_path: Path) -> None:
    calls = [call(0.1 * i, limit_ms=9 if i else 4) for i in range(2500)]
    ended = skipc("trace", write(tmp_path / "t.jsonl", trace(calls)), "--no-picture")
    assert "Within the limit: 99.9 %; 99.9 % of the feasible ones." in ended.out
    assert re.search(r"full +2500 +100\.0 %", ended.out)


def test_page_holds_what_is_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", usual())
    assert skipc("trace", path, "--out", tmp_path / "p.html").code == 0
    assert all_files(tmp_path) == ["p.html", "t.jsonl"]
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<title>net.skipc: 60 calls</title>" in text
    assert '<html lang="en">' in text
    assert "default-src &#x27;none&#x27;" in text
    page = Page(tmp_path / "p.html")
    assert all(address.startswith("#") for address in page.addresses)
    for words in ("full", "mid", "fast", "60 calls in 1.182 s", "35.0 %"):
        assert words in page.text
    drawn = page.scripts[0]
    for words in ("is the best of the 2 of 3", "limit 4 ms", "predicted 2.4 ms", "no memory"):
        assert words in drawn, words
    assert "an estimate" in page.text
    assert "(estimate)" in drawn
    assert "granted on average over 10 s" in drawn


def test_power_modes_are_drawn_and_told(tmp_path: Path) -> None:
    modes = [*("30W",) * 20, *("<b>15W",) * 20]
    calls = [replace(call(0.1 * n), mode=mode) for n, mode in enumerate(modes)]
    path = write(tmp_path / "t.jsonl", trace(calls))
    ended = skipc("trace", path, columns=100)
    assert "Power modes: 30W 50.0 %, <b>15W 50.0 % of the calls, 1 change." in ended.out
    page = Page(tmp_path / "t.html")
    assert page.scripts[0].count('"dash":"dot"') == 2
    assert page.scripts[0].count('"text":"30W"') == 1
    assert "<b>15W" not in page.scripts[0]
    assert "Power modes: 30W 50.0 %, <b>15W 50.0 %" in page.text
    often = [replace(one, mode=str(n)) for n, one in enumerate([*calls, *calls])]
    assert content_of(trace(often), 100, 100).modes == ()


def test_a_logarithmic_axis_has_whole_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", SHAPES["wide"])
    assert skipc("trace", path, "--out", tmp_path / "p.html").code == 0
    upright = json.loads(Page(tmp_path / "p.html").scripts[0])["layout"]["yaxis"]
    assert upright["type"] == "log"
    assert upright["ticktext"][:6] == ["0.1", "0.2", "0.5", "1", "2", "5"]


def test_names_from_a_file_are_shown_not_run(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", SHAPES["nasty names"])
    ended = skipc("trace", path, "--out", tmp_path / "t.html")
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out
    for words in (r"\x1b[31mred", r"two\nlines", r"\ud800", "<script>alert(1)</script>"):
        assert words in ended.out
    text = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<img" not in text.replace("<image", "")
    assert "&lt;/title&gt;&lt;script&gt;alert(3)&lt;/script&gt;: 8 calls</title>" in text
    page = Page(tmp_path / "t.html")
    assert "x" * 200 in page.text
    assert "<script>alert(1)</script>" in page.text
    # Plotly reads tags in texts: they reach it as entities.
    drawn = json.loads(page.scripts[0])
    texts = [
        trace["hovertext"][0] for trace in drawn["data"] if trace.get("mode") == "markers"
    ]
    assert "<b>bold" not in "".join(texts)
    assert "&lt;b&gt;bold" in "".join(texts)


def test_png_says_what_it_shows(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", usual())
    assert skipc("trace", path, "--out", tmp_path / "p.png").code == 0
    assert b"Description\x0060 calls in 1.182 s" in (tmp_path / "p.png").read_bytes()
    assert b"Title\x00net.skipc: 60 calls" in (tmp_path / "p.png").read_bytes()


def test_pictures_that_are_there_are_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", usual())
    (tmp_path / "t.png").write_text("old")
    (tmp_path / "t.html").write_text("old")
    assert skipc("trace", path).code == 0
    assert png_size(tmp_path / "t.png")[0] == 1200
    assert (tmp_path / "t.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_long_trace_is_thinned_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", usual(7000))
    assert skipc("trace", path, "--out", tmp_path / "p.html").code == 0
    page = Page(tmp_path / "p.html")
    assert re.search(r"Thinned: \d+ of 7000 calls are drawn", page.text)
    assert (tmp_path / "p.html").stat().st_size < 9e6


def test_a_trace_cut_short_is_drawn_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", usual())
    path.write_bytes(path.read_bytes()[:-40])
    ended = skipc("trace", path, "--out", tmp_path / "t.html")
    assert ended.code == 0
    assert ended.err == (
        f"{path} ends within a line, as if its writer had been stopped: the last call is"
        " missing.\n"
    )
    assert ended.out.splitlines()[5].startswith("59 calls")
    assert "The file ends within a line" in Page(tmp_path / "t.html").text
    assert skipc("trace", path, "--json", "--no-picture").json()["cut_short"] is True


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("t.jsonl", "--out", "p.svg"), "p.svg: write to a .png or .html file"),
        (("t.jsonl", "--out", "no/p.png"), "the folder no does not exist"),
        (("t.jsonl", "--out", "d.png"), "d.png: this is a folder"),
        (("t.jsonl", "--out", "p.png", "--no-picture"), "give one of the two"),
        (("t.html",), "the picture t.html would replace the trace itself"),
        (("t.html", "--out", "t.html"), "the picture t.html would replace the trace itself"),
        (("absent.jsonl",), "absent.jsonl: cannot be read: No such file"),
        (("d.png", "--out", "p.png"), "d.png: not a regular file"),
        ((".",), "not a regular file"),
        (("bad.jsonl",), "bad.jsonl: line 2: 'latency_ms' must be a finite number, found nan"),
        (("binary",), "Expected a trace, as `trace_lines` gives it."),
    ],
)
def test_mistakes_are_told(
    arguments: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "t.jsonl", usual())
    write(tmp_path / "t.html", usual())
    (tmp_path / "d.png").mkdir()
    text = write(tmp_path / "bad.jsonl", trace([call(0.1)])).read_text(encoding="utf-8")
    (tmp_path / "bad.jsonl").write_text(text.replace('"latency_ms": 8.0', '"latency_ms": NaN'))
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    before = all_files(tmp_path)
    assert told in mistake("trace", *arguments)
    assert all_files(tmp_path) == before


@pytest.mark.parametrize("package", ["matplotlib", "plotly"])
def test_a_missing_package_names_its_extra(package: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", usual(3))
    ended = skipc_without(package, "trace", path)
    assert ended.code == 2
    assert f"{package!r} is needed here and is not installed" in ended.err
    assert "pip install '.[report]'" in ended.err
    assert all_files(tmp_path) == ["t.jsonl"]


@pytest.mark.parametrize(
    ("absent", "out"),
    [("matplotlib", "p.html"), ("plotly", "p.png"), ("matplotlib,plotly", "")],
)
def test_each_output_needs_its_own_package_only(absent: str, out: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", usual(3))
    how = ("--out", tmp_path / out) if out else ("--no-picture",)
    ended = skipc_without(f"{absent},torch,onnx,onnxruntime", "trace", path, *how)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("configuration")

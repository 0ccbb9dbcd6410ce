from __future__ import annotations

import json

import pytest

from skipc.runtime.errors import printable
from skipc.tools.console import (
    console,
    count_text,
    facts,
    plural,
    print_json,
    print_prose,
    progress,
    size_text,
    table,
    tell,
)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (5e12, "5000.0 GB"),
    ],
)
def test_size_text_keeps_three_digits(size_bytes: float, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("count", "text"), [(7, "7"), (1200, "1.2 k"), (4.1e9, "4.1 G"), (999_999, "1.0 M")]
)
def test_count_text_keeps_three_digits(count: float, text: str) -> None:
    assert count_text(count) == text


def test_plural_counts() -> None:
    assert (plural(1, "file"), plural(0, "file")) == ("1 file", "0 files")


def test_table_folds_names_and_never_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    rows = table("unit", ">parameters")
    rows.add_row("encoder.stages[0].blocks.1.attention", "1 234 567")
    console().print(rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 30
    assert lines[1].endswith("   1 234 567")
    assert "".join(line.split()[0] for line in lines[1:]) == (
        "encoder.stages[0].blocks.1.attention"
    )


def test_piped_lines_are_not_wrapped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console().print("word " * 100)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_prose_is_wrapped_between_words_and_paths_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    path = "/a/folder/with/a/long/name"
    print_prose(console(), f"one two three four five six seven\nin {path} of mine")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["one two three four", "five six seven", "in", path, "of mine"]


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[red]no markup[/red] :smile: 12")
    assert capsys.readouterr().out == "[red]no markup[/red] :smile: 12\n"


HOSTILE = "\x1b]0;title\x07\x1b[2J\rtwo\nlines\x7f\x9b\u202e"
WRITTEN_OUT = r"\x1b]0;title\x07\x1b[2J\rtwo\nlines\x7f\x9b\u202e"


def test_nothing_that_is_printed_commands_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = table("name", HOSTILE)
    rows.add_row(HOSTILE, "1")
    out = console()
    for printed in (rows, facts(("name", HOSTILE)), HOSTILE):
        out.print(printed)
    print_prose(out, HOSTILE)
    tell(HOSTILE)
    with progress() as step:
        step(HOSTILE)
        step.note(HOSTILE)
    captured = capsys.readouterr()
    printed = captured.out + captured.err
    assert not {char for char in printed if not char.isprintable()} - {"\n"}
    assert printed.count(WRITTEN_OUT) == 2  # a cell's line ends are written out, too


def test_spaces_of_any_width_are_printed() -> None:
    assert printable("12\u202f345\xa0ms") == "12\u202f345\xa0ms"


def test_nothing_that_is_printed_is_long(capsys: pytest.CaptureFixture[str]) -> None:
    long = "begins " + 1_000_000 * "\x1b" + " ends"
    out = console()
    rows = table("name")
    rows.add_row(long)
    for printed in (rows, facts(("name", long)), long):
        out.print(printed)
    tell(long)
    captured = capsys.readouterr()
    assert len(captured.out + captured.err) < 9000
    assert captured.err.startswith("begins")
    assert captured.err.endswith("ends\n")


def test_json_has_null_where_a_number_is_not_finite(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({"a": [float("nan"), 1.5], "b": (float("inf"), {"c": None})})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": [None, {"c": None}]}


def test_piped_steps_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as step:
        step("packing")
        step.detail("one file")
        step.note("a note")
    captured = capsys.readouterr()
    assert captured.err == "packing ...\na note\n"
    assert captured.out == ""


def test_piped_steps_tell_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as step:
        step("training")
        for done in range(1, 41):
            step.advance(done, 40, f"loss {done}")
        step("writing")
        step.advance(1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["training ...", "training: 4 of 40, loss 4 ..."]
    assert len(lines) == 1 + 10 + 2
    assert lines[-1] == "writing: 1 of 2 ..."


def test_terminal_steps_show_details_and_keep_notes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress() as step:
        step("hashing")
        step.detail("weights[1].bin")
        step.note("a note [kept]")
    with progress() as step:
        step("training")
        step.advance(1, 4, "loss 2")
    shown = capsys.readouterr().err
    assert "a note [kept]" in shown
    assert "hashing: weights[1].bin" in shown
    assert "training: 1 of 4, loss 2" in shown

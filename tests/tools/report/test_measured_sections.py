"""What only some results hold: memory by place, phases, plain sessions, streams."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from skipc.tools.report import ReportError
from skipc.tools.report.page import SECTIONS
from skipc.tools.report.sections import latency, provenance
from skipc.tools.report.sections.bars import memory_section, phases_section
from skipc.tools.report.sections.latency import plain_section
from skipc.tools.report.study import Study, read_study
from skipc.tools.trtbench.report import DeviceShare, Memory, Share
from tests.bundles import edit_json
from tests.report_inputs import (
    report_of,
    with_phases,
    with_plain,
    write_family,
    write_results,
)
from tests.tools.report.test_sections import Parsed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skipc.runtime.bundle import Bundle
    from skipc.tools.trtbench.results.report import Report
    from skipc.tools.web.page import Section

UNITS = ("a.0", "a.1", "b.0")
SKIPS = {"full": (), "mid": ("a.1",), "fast": ("a.1", "b.0")}
# As many as the format takes, and more than any device has.
TOO_MANY_BYTES = 2 * 10**18


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_family(tmp_path / "toy.skipc", SKIPS, UNITS)


def study_of(bundle: Bundle, *reports: Report) -> Study:
    folder = bundle.path.parent
    files = [write_results(folder / f"{i}.json", each) for i, each in enumerate(reports)]
    return read_study(bundle.path, files, folder / "page.html")


def parsed(section: Section) -> Parsed:
    assert section.content
    return Parsed(f"<div>{section.lead}{section.content}</div>".encode())


def traces(page: Parsed, chart: str) -> list[dict[str, Any]]:
    figure: Any = page.figures[f"{chart}-figure"]
    found: list[dict[str, Any]] = figure["data"]
    return found


def test_without_results_these_sections_are_left_out(bundle: Bundle) -> None:
    study = study_of(bundle)
    sections = (memory_section, phases_section, plain_section)
    assert [make(study).content for make in sections] == [""] * 3


def test_a_cpu_alone_has_neither_phases_nor_plain_sessions(bundle: Bundle) -> None:
    study = study_of(bundle, report_of(bundle))
    assert phases_section in SECTIONS
    assert phases_section(study).content == ""
    assert plain_section(study).content == ""
    assert "alone" not in "".join(parsed(latency.section(study)).texts)


def test_memory_is_own_and_shared_by_place(bundle: Bundle) -> None:
    report = report_of(bundle)
    found = Memory(Share(1000, 2000), Share(3000, 40_000), DeviceShare(500, 60, 700))
    entries = tuple(replace(entry, memory=found) for entry in report.configurations)
    page = parsed(memory_section(study_of(bundle, replace(report, configurations=entries))))
    sizes = {
        place: [(trace["name"], trace["x"][0]) for trace in traces(page, f"memory-{place}-0")]
        for place in ("disk", "host", "device")
    }
    assert sizes == {
        "disk": [("shared", 0.002), ("own", 0.001)],
        "host": [("shared", 0.04), ("own", 0.003)],
        "device": [("shared", 0.00006), ("own", 0.0005), ("taken", 0.0007)],
    }
    assert "not drawn" not in "".join(page.texts)


def test_memory_that_is_not_known_is_said_and_not_drawn(bundle: Bundle) -> None:
    page = parsed(memory_section(study_of(bundle, report_of(bundle))))
    assert list(page.figures) == ["memory-disk-0-figure"]
    text = "".join(page.texts)
    assert "cpu, 1 thread: memory on the host is not drawn: the system did not" in text
    assert "cpu, 1 thread: memory on the device is not drawn, all is 0" in text


def test_memory_of_one_configuration_that_is_not_known_is_named(bundle: Bundle) -> None:
    report = report_of(bundle)
    first, *others = report.configurations
    known = replace(first, memory=replace(first.memory, host=Share(1, 2)))
    page = parsed(
        memory_section(study_of(bundle, replace(report, configurations=(known, *others))))
    )
    assert traces(page, "memory-host-0")[0]["y"] == [0]
    assert "cpu, 1 thread, mid, fast: memory on the host is not" in "".join(page.texts)


def test_series_with_the_same_disk_share_its_chart(bundle: Bundle) -> None:
    study = study_of(bundle, report_of(bundle), report_of(bundle, threads=2))
    page = parsed(memory_section(study))
    assert [name for name in page.figures if "disk" in name] == ["memory-disk-0-figure"]
    assert "cpu, 1 thread and cpu, 2 threads: weights on disk" in page.texts


def test_phases_are_stacked_medians(bundle: Bundle) -> None:
    page = parsed(phases_section(study_of(bundle, with_phases(report_of(bundle)))))
    found = {trace["name"]: trace["x"][0] for trace in traces(page, "phases-0")}
    assert found == {"H2D": 0.125, "compute": 0.75, "D2H": 0.0625, "by events": 1.0}
    row = page.texts.index("full")
    assert page.texts[row : row + 7] == [
        *("full", "300", "0.1250", "0.7500", "0.06250", "1.000", "0.05000"),
    ]
    assert "without" not in "".join(page.texts).lower()


def test_phases_without_transfers_are_computation_only(bundle: Bundle) -> None:
    report = with_phases(report_of(bundle), transfers=False)
    page = parsed(phases_section(study_of(bundle, report)))
    names = [trace["name"] for trace in traces(page, "phases-0")]
    assert names == ["compute", "by events"]
    assert "Without transfers: only the computation" in "".join(page.texts)


def test_how_phases_were_measured_is_in_the_provenance(bundle: Bundle) -> None:
    page = parsed(provenance.section(study_of(bundle, with_phases(report_of(bundle)))))
    assert "with CUDA events around copy in, computation, copy out" in "".join(page.texts)


def test_a_computation_without_a_graph_is_said(bundle: Bundle) -> None:
    report = with_phases(report_of(bundle))
    first, *others = report.configurations
    assert first.phases is not None
    apart = replace(first, phases=replace(first.phases, graph=False))
    report = replace(report, configurations=(apart, *others))
    text = "".join(parsed(phases_section(study_of(bundle, report))).texts)
    assert "Enqueued without a CUDA graph: full." in text


def test_plain_sessions_stand_beside_ours(bundle: Bundle) -> None:
    study = study_of(bundle, with_plain(report_of(bundle)))
    page = parsed(plain_section(study))
    (over,) = traces(page, "plain-0")
    assert over["x"] == pytest.approx([1.25] * 3, rel=2e-3)
    assert min(*over["error_x"]["array"], *over["error_x"]["arrayminus"]) > 0
    assert "ours is faster" in "".join(page.texts)
    assert "plain load, ms" in page.texts
    beside = "".join(parsed(latency.section(study)).texts)
    assert "Measured alternating with plain sessions: alone, a call may take less." in beside
    assert "measured besideplain sessions" in "".join(parsed(provenance.section(study)).texts)


def test_plain_sessions_of_loading_only_have_a_table(bundle: Bundle) -> None:
    report = report_of(bundle)
    entries = tuple(replace(entry, latency=None) for entry in report.configurations)
    report = with_plain(replace(report, configurations=entries, switching=None))
    page = parsed(plain_section(study_of(bundle, report)))
    assert page.figures == {}
    assert "plain load, ms" in page.texts


def test_plain_sessions_that_could_not_be_run_are_told(bundle: Bundle) -> None:
    report = replace(report_of(bundle), plain_not_run="ONNX Runtime refuses it.")
    study = study_of(bundle, report)
    page = parsed(plain_section(study))
    assert page.figures == {}
    assert "not run: ONNX Runtime refuses it." in "".join(page.texts)
    assert "alone" not in "".join(parsed(latency.section(study)).texts)


def test_streams_are_named_where_there_are_several(bundle: Bundle) -> None:
    one = report_of(bundle)
    several = replace(one, regime=replace(one.regime, streams=3))
    study = study_of(bundle, one, several)
    assert [each.label for each in study.measurements] == [
        *("cpu, 1 thread", "cpu, 1 thread, 3 streams"),
    ]
    told = [each.conditions.get("streams") for each in study.measurements]
    assert told == [None, "3 calls at a time, begun together"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: _memory(d, "host"), "'full': 2000000000000000000"),
        (lambda d: _memory(d, "device"), "'full': 2000000000000000000"),
        (
            lambda d: d["configurations"][1]["phases"]["compute"].update(median_ms=1e200),
            "'mid': 1e\\+200",
        ),
        (
            lambda d: d["configurations"][0]["plain"].update(first_call_ms=1e-200),
            "'full': 1e-200 is no number that was measured",
        ),
        (
            lambda d: d["configurations"][0]["plain"].update(relative_error=1e200),
            "'full': 1e\\+200",
        ),
    ],
)
def test_numbers_that_nothing_measured_are_refused(
    change: Callable[[Any], None], told: str, bundle: Bundle
) -> None:
    file = bundle.path.parent / "r.json"
    write_results(file, with_plain(with_phases(report_of(bundle))))
    edit_json(file, change)
    with pytest.raises(ReportError, match=told):
        read_study(bundle.path, [file], bundle.path.parent / "page.html")


def test_ratios_that_nothing_measured_are_refused(bundle: Bundle) -> None:
    report = with_plain(report_of(bundle))
    file = write_results(bundle.path.parent / "r.json", report)

    def change(document: Any) -> None:
        for entry in document["configurations"]:
            for measured, ends in ((entry, [1e-9, 1e12]), (entry["plain"], [1e12, 1e-9])):
                measured["latency"].update(runs=2, batch_medians_ms=ends)
            entry["plain"]["over_ours"] = {"ratio": 1e21, "low": 1e-300, "high": 1e300}

    edit_json(file, change)
    with pytest.raises(ReportError, match="is no number that was measured"):
        read_study(bundle.path, [file], bundle.path.parent / "page.html")


def _memory(document: Any, place: str) -> None:
    document["configurations"][0]["memory"][place]["own_bytes"] = TOO_MANY_BYTES

"""What the report reads: sharing and skipping from the graphs, measurements, links."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import FormatError, IntegrityError, SkipcError
from skipc.tools.report import ReportError
from skipc.tools.report.measurement import Origin
from skipc.tools.report.sections.units import Evidence, states
from skipc.tools.report.study import Study, read_study
from tests.bundles import edit_json, list_anew
from tests.report_inputs import TENSOR_BYTES, report_of, write_family, write_results

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNITS = ("a.0", "a.1", "b.0")
SKIPS = {"full": (), "mid": ("a.1",), "fast": ("a.1", "b.0")}


def study_of(bundle: Bundle, *results: Path) -> Study:
    return read_study(bundle.path, results, bundle.path.parent / "page.html")


def test_sharing_is_read_from_the_graphs(tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS)
    sharing = study_of(bundle).sharing
    found = {one.configurations: (one.tensors, one.size_bytes) for one in sharing.sets}
    assert found == {
        ("full", "mid", "fast"): (("stem", "w1"), 2 * TENSOR_BYTES),
        ("full", "mid"): (("w3",), TENSOR_BYTES),
        ("full",): (("w2",), TENSOR_BYTES),
    }
    graphs = sum((bundle.path / f"{i}.onnx").stat().st_size for i in range(3))
    assert sharing.bundle_bytes == graphs + 4 * TENSOR_BYTES
    assert sharing.plain_bytes == graphs + (4 + 3 + 2) * TENSOR_BYTES


def test_sharing_of_a_real_bundle_agrees_with_its_manifest(made: Path) -> None:
    study = study_of(Bundle.open(made / "ckpt.skipc"))
    for entry in study.manifest.configurations:
        sets = [one for one in study.sharing.sets if entry.name in one.configurations]
        (graph,) = study.manifest.graphs_of(entry)
        assert sum(one.size_bytes for one in sets) == graph.weights_bytes
        own = [one.size_bytes for one in sets if one.configurations == (entry.name,)]
        assert sum(own) == graph.own_bytes


def test_skipped_units_of_a_real_bundle_are_gone(made: Path) -> None:
    study = study_of(Bundle.open(made / "ckpt.skipc"))
    rows = states(study.manifest, study.manifest.networks[0], study.subnets)
    for entry in study.manifest.configurations:
        for unit, cell in zip(study.manifest.options("skip"), rows[entry.name], strict=True):
            expected = Evidence.GONE if unit.name in entry.taken("skip") else Evidence.KEPT
            assert cell.evidence is expected, (entry.name, unit.name)


def test_a_unit_that_is_not_skipped_is_found(tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS, not_skipped=["b.0"])
    study = study_of(bundle)
    fast = states(study.manifest, study.manifest.networks[0], study.subnets)["fast"]
    assert [cell.evidence for cell in fast] == [Evidence.KEPT, Evidence.GONE, Evidence.WRONG]
    assert fast[2].left == {"Add": 1}


def test_a_shortcut_that_stays_is_told_from_a_unit_that_stays(tmp_path: Path) -> None:
    study = study_of(write_family(tmp_path / "toy.skipc", SKIPS, UNITS))
    # As if the units had a projection beside their branch.
    more = {
        name: replace(subnet, operators={**subnet.operators, "b.0": {"Conv": count}})
        for (name, subnet), count in zip(study.subnets.items(), (3, 3, 1), strict=True)
    }
    cell = states(study.manifest, study.manifest.networks[0], more)["fast"][2]
    assert (cell.evidence, cell.left) == (Evidence.LESS, {"Conv": 1})


@pytest.mark.parametrize("units", [UNITS, ("a#1", "a#2", "b.0")])
def test_graphs_that_do_not_name_their_nodes_prove_nothing(
    units: tuple[str, ...], tmp_path: Path
) -> None:
    skips = {"full": (), "fast": (units[1],)}
    bundle = write_family(tmp_path / "t.skipc", skips, units, named=units is not UNITS)
    study = study_of(bundle)
    assert (
        states(study.manifest, study.manifest.networks[0], study.subnets)["fast"][1].evidence
        is Evidence.UNSEEN
    )


def test_without_results_the_engines_tables_are_taken(made: Path) -> None:
    study = study_of(Bundle.open(made / "ckpt.skipc"))
    assert {one.origin for one in study.measurements} == {Origin.ENGINES}
    (engines,) = study.engines
    for one in study.measurements:
        threads = int(one.conditions["threads"])
        for point, entry in zip(one.points, engines.engines, strict=True):
            row = next(row for row in entry.latency if row.threads == threads)
            assert point.median_ms == row.p50_ms
            assert [*point.quantiles.values()] == [row.p50_ms, row.p95_ms, row.p99_ms]


def test_without_engines_the_fronts_latencies_are_taken(tmp_path: Path) -> None:
    metrics = {name: {"latency_ms": float(9 - len(skip))} for name, skip in SKIPS.items()}
    study = study_of(write_family(tmp_path / "t.skipc", SKIPS, UNITS, metrics=metrics))
    (one,) = study.measurements
    assert one.origin is Origin.FRONT
    assert [point.median_ms for point in one.points] == [9.0, 8.0, 7.0]
    assert not study.knows_accuracy


def test_nothing_measured_is_no_measurement(tmp_path: Path) -> None:
    assert study_of(write_family(tmp_path / "t.skipc", SKIPS, UNITS)).measurements == ()


def test_results_become_series_with_names_of_their_own(tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS)
    report = report_of(bundle, meter=True)
    files = [
        write_results(tmp_path / name, each)
        for name, each in (
            *(("one.json", report), ("two.json", report)),
            ("three.json", report_of(bundle, threads=4)),
        )
    ]
    study = study_of(bundle, *files, files[0])
    assert [one.label for one in study.measurements] == [
        *("one.json: cpu, 1 thread", "two.json: cpu, 1 thread", "cpu, 4 threads"),
        "one.json: cpu, 1 thread (2)",
    ]
    point = study.measurements[0].points[1]
    assert [*point.quantiles] == ["min", "median", "90 %", "99 %", "max"]
    assert point.found == report.configurations[1]
    assert study.measurements[0].energy_is_estimated
    assert not study.measurements[2].energy_is_estimated


def test_the_most_accurate_comes_first(tmp_path: Path) -> None:
    metrics = {"full": {"accuracy": 0.9}, "mid": {"accuracy": 0.95}, "fast": {"accuracy": 0.8}}
    study = study_of(write_family(tmp_path / "t.skipc", SKIPS, UNITS, metrics=metrics))
    assert [entry.name for entry in study.ordered] == ["mid", "full", "fast"]
    assert study.reference == "mid"


def test_a_result_of_another_bundle_is_refused_with_both_names(tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS)
    other = write_family(tmp_path / "other.skipc", {"full": ()}, UNITS)
    file = write_results(tmp_path / "r.json", report_of(other))
    with pytest.raises(ReportError, match=r"another bundle: 'other' .* not on 'toy'"):
        study_of(bundle, file)


def test_a_result_with_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS)
    report = report_of(bundle)
    entries = (*report.configurations[:2], replace(report.configurations[2], name="slow"))
    file = write_results(tmp_path / "r.json", replace(report, configurations=entries,
                                                      switching=None))  # fmt: skip
    with pytest.raises(ReportError, match="no configuration 'slow'"):
        study_of(bundle, file)


def test_a_result_that_is_none_is_refused(tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS)
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(FormatError, match=r"r\.json: 'format' must be 'skipc\.trtbench/2'"):
        study_of(bundle, tmp_path / "r.json")


def test_a_tensor_outside_the_list_is_refused(tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS)
    manifest = bundle.path / "manifest.json"
    edit_json(manifest, lambda doc: doc["weights"].pop())
    with pytest.raises(IntegrityError, match=r"'w3' is said to lie at byte 12288"):
        study_of(Bundle.open(bundle.path))


@pytest.mark.parametrize(
    "data", [b"not a graph", b"", bytes(range(256)), b"\x72\x03\xff\xff\xff"]
)
def test_a_damaged_graph_is_refused(data: bytes, tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS)
    (bundle.path / "0.onnx").write_bytes(data)
    list_anew(bundle.path, "0.onnx")
    if data:
        with pytest.raises(IntegrityError, match=r"0\.onnx"):
            study_of(Bundle.open(bundle.path))
    else:  # an empty message: a graph without nodes
        assert study_of(Bundle.open(bundle.path)).subnets["graph0"].nodes == 0


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("r.json", lambda d: d["configurations"][0].update(load_ms=1e300), "'full': 1e\\+300"),
        (
            "r.json",
            lambda d: d["switching"]["steady_ms"].update(mid=1e-300),
            "switching: 1e-300",
        ),
        (
            "r.json",
            lambda d: d["configurations"][2]["latency"].update(batch_medians_ms=[1e-300] * 30),
            "'fast': 1e-300 is no number that was measured",
        ),
        (
            "toy.skipc/manifest.json",
            lambda d: d["configurations"][0]["metrics"].update(accuracy=1e308),
            r"'full': 1e\+308",
        ),
        (
            "toy.skipc/manifest.json",
            lambda d: d["networks"][0]["axes"][0]["options"][1].update(macs=10**400),
            # By the report, or already by the reader.
            "option 'a.1' of the axis 'skip': 1000|'macs' must be",
        ),
    ],
)
def test_numbers_that_nothing_measured_are_refused(
    file: str, change: Callable[[Any], None], told: str, tmp_path: Path
) -> None:
    bundle = write_family(tmp_path / "toy.skipc", SKIPS, UNITS)
    results = write_results(tmp_path / "r.json", report_of(bundle))
    edit_json(tmp_path / file, change)
    with pytest.raises(SkipcError, match=told):
        study_of(Bundle.open(bundle.path), *([results] if file == "r.json" else []))


def test_links_lead_from_the_page_to_the_graphs(tmp_path: Path) -> None:
    bundle = write_family(tmp_path / "a #b?.skipc", SKIPS, UNITS)
    (tmp_path / "pages").mkdir()
    study = read_study(bundle.path, (), tmp_path / "pages/p.html")
    assert study.links["graph0"] == "../a%20%23b%3F.skipc/0.onnx"

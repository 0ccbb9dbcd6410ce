"""Graphs and routes: each graph is loaded once, each configuration timed as it runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from skipc.compiler.bundle.files import write_json
from skipc.runtime import Bundle, FakeClock
from skipc.runtime.backends.null import NullBackend
from skipc.runtime.bundle.records import written
from skipc.runtime.bundle.route import Stage, Test
from skipc.runtime.load.opening import Family
from skipc.tools.console import progress
from skipc.tools.trtbench.command import Asked, command
from skipc.tools.trtbench.measuring import OpenBundle, measure
from skipc.tools.trtbench.report import read_report
from tests.bundles import edit_json, write_bundle

if TYPE_CHECKING:
    from pathlib import Path

LATENCIES_MS = {"full": 8.0, "fast": 3.0}
UNSURE = Test("logits", {"max-softmax": 1.0}, threshold=2.0)


class CountingBackend(NullBackend):
    """Notes what is loaded."""

    loaded: tuple[str, ...] = ()

    def load(self, graph: str) -> Any:
        self.loaded += (graph,)
        return super().load(graph)


def asked(*words: str) -> Asked:
    with command.make_context("trtbench", ["bundle", "--warmUp=0", *words]) as context:
        return Asked.of(context.params)


def _with_a_route(manifest: dict[str, Any]) -> None:
    manifest["graphs"] = [each for each in manifest["graphs"] if each["name"] != "mid"]
    _, mid, fast = manifest["configurations"]
    mid["route"] = [asdict(Stage("full"))]
    fast["route"] = [asdict(Stage("fast", test=UNSURE)), asdict(Stage("full"))]
    fast["stops"] = [0.75, 0.25]


@pytest.fixture
def opened(tmp_path: Path) -> OpenBundle:
    """Two configurations of one graph, and one that runs a second graph as well."""
    path, clock = write_bundle(tmp_path / "toy.skipc"), FakeClock()
    edit_json(path / "manifest.json", _with_a_route)
    bundle = Bundle.open(path)
    outputs = {"logits": np.zeros((1, 10), np.float32)}
    backend = CountingBackend(LATENCIES_MS, outputs, clock)
    routes = {entry.name: entry.route for entry in bundle.manifest.configurations}
    family = Family(routes, outputs=bundle.manifest.outputs)
    cases = bundle.golden_inputs()
    return OpenBundle(bundle, backend, None, clock, family, cases, None)


def test_graphs_are_loaded_once_and_routes_are_timed(
    opened: OpenBundle, tmp_path: Path
) -> None:
    with progress() as step:
        found = measure(opened, asked("--duration=0"), step)
    assert isinstance(opened.backend, CountingBackend)
    assert opened.backend.loaded == ("full", "fast")
    report = found.report
    assert {e.name: e.graphs for e in report.configurations} == {
        "full": ("full",),
        "mid": ("full",),
        "fast": ("fast", "full"),
    }
    medians_ms = {name: latency.median_ms for name, latency in report.timed.items()}
    assert medians_ms == {"full": 8.0, "mid": 8.0, "fast": pytest.approx(11.0)}
    fast = report.configurations[2]
    assert fast.first_call_ms == pytest.approx(11.0)
    # "fast" is run by no configuration alone, "full" by two.
    assert [(s.graph, s.latency.median_ms, s.upto_ms) for s in fast.stages] == [
        ("fast", 3.0, 3.0),
        ("full", 8.0, 11.0),
    ]
    assert fast.expected_ms == pytest.approx(0.75 * 3 + 0.25 * 11)
    assert [*found.calls] == ["full", "mid", "fast", "stage:fast"]
    assert report.configurations[0].stages == ()
    write_json(tmp_path / "found.json", written(report))
    assert read_report(tmp_path / "found.json") == report


def test_a_route_of_several_graphs_is_no_plain_session(opened: OpenBundle) -> None:
    family = Family({"fast": opened.family.routes["fast"]}, opened.family.outputs)
    alone = OpenBundle(
        *(opened.bundle, opened.backend, None, opened.clock, family),
        *(opened.cases, None),
    )
    with progress() as step:
        found = measure(alone, asked("--duration=0", "--baseline=plain"), step)
    assert "'fast' runs several graphs" in found.report.plain_not_run

"""Graphs and routes: each graph is loaded once, each configuration timed as it runs."""

from __future__ import annotations

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
from skipc.tools.trtbench.measuring import Subject, measure
from skipc.tools.trtbench.report import read_report
from tests.bundles import write_bundle

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


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """Two configurations of one graph, and one that runs a second graph as well."""
    bundle, clock = Bundle.open(write_bundle(tmp_path / "toy.skipc")), FakeClock()
    outputs = {"logits": np.zeros((1, 10), np.float32)}
    backend = CountingBackend(LATENCIES_MS, outputs, clock)
    routes = {
        "full": (Stage("full"),),
        "mid": (Stage("full"),),
        "fast": (Stage("fast", test=UNSURE), Stage("full")),
    }
    family = Family(routes, outputs=bundle.manifest.outputs)
    cases = bundle.golden_inputs()
    return Subject(bundle, backend, None, clock, family, cases, None)


def test_graphs_are_loaded_once_and_routes_are_timed(subject: Subject, tmp_path: Path) -> None:
    with progress() as step:
        found = measure(subject, asked("--duration=0"), step)
    assert isinstance(subject.backend, CountingBackend)
    assert subject.backend.loaded == ("full", "fast")
    report = found.report
    assert {e.name: e.graphs for e in report.configurations} == {
        "full": ("full",),
        "mid": ("full",),
        "fast": ("fast", "full"),
    }
    medians_ms = {name: latency.median_ms for name, latency in report.timed.items()}
    assert medians_ms == {"full": 8.0, "mid": 8.0, "fast": pytest.approx(11.0)}
    assert report.configurations[2].first_call_ms == pytest.approx(11.0)
    write_json(tmp_path / "found.json", written(report))
    assert read_report(tmp_path / "found.json") == report


def test_a_route_of_several_graphs_is_no_plain_session(subject: Subject) -> None:
    family = Family({"fast": subject.family.routes["fast"]}, subject.family.outputs)
    alone = Subject(
        *(subject.bundle, subject.backend, None, subject.clock, family),
        *(subject.cases, None),
    )
    with progress() as step:
        found = measure(alone, asked("--duration=0", "--baseline=plain"), step)
    assert "'fast' runs several graphs" in found.report.plain_not_run

"""Counted and predicted costs."""

from __future__ import annotations

import random

import pytest

from skipc.compiler.axes.units import Unit
from skipc.compiler.errors import SelectError
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.select.latency import (
    LatencyModel,
    Run,
    Shares,
    designed,
    fit_latency,
    latency_of_profile,
)
from skipc.compiler.select.pricing import Counter
from skipc.profiles import LatencyTable, Profile
from tests.zoo import WITH_UNITS, exported, pruned


@pytest.mark.parametrize("name", WITH_UNITS)
def test_counts_are_those_of_the_pruned_graph(name):
    graph, search = exported(name)
    counter = Counter(graph.model, search.units)
    rng = random.Random(0)
    for _ in range(4):
        genes = tuple(int(rng.random() < 0.5) for _ in search.units)
        chosen = tuple(u for u, value in zip(search.units, genes, strict=True) if value)
        subnet = pruned(graph.model, chosen)
        counted = counter.count(genes)
        assert counted.macs == total_macs(subnet.graph)
        assert counted.parameters == parameters(subnet.graph)


def units_of(kinds):
    return tuple(Unit(f"u{i}", "", 0, "", kind, kind) for i, kind in enumerate(kinds))


def run(genes):
    units = frozenset(index for index, value in enumerate(genes) if not value)
    return Run(units, sum(unit > genes.index(1) for unit in units) if any(genes) else 0)


def fitted(kinds, true, noise=0.0):
    units = units_of(kinds)
    rng = random.Random(1)

    free = range(len(units))
    runs = {name: run(genes) for name, genes in designed(units, free).items()}
    measured = {
        name: true.predict_ms(one) * (1 + rng.uniform(-noise, noise))
        for name, one in runs.items()
    }
    return fit_latency(units, free, runs, measured)


KINDS = [1, 1, 1, 2, 2, 2, 3, 3]
TRUE = LatencyModel(2.0, (0.5, 0.5, 0.5, 0.8, 0.8, 0.8, 0.1, 0.1), 0.05)


def test_additive_latencies_are_found_exactly():
    found = fitted(KINDS, TRUE)
    assert found.base_ms == pytest.approx(TRUE.base_ms)
    assert found.unit_ms == pytest.approx(TRUE.unit_ms)
    assert found.scale_ms == pytest.approx(TRUE.scale_ms)


def test_noise_is_averaged():
    found = fitted(KINDS, TRUE, noise=0.02)
    rng = random.Random(2)
    for _ in range(20):
        genes = tuple(int(rng.random() < 0.5) for _ in KINDS)
        expected = TRUE.predict_ms(run(genes))
        assert found.predict_ms(run(genes)) == pytest.approx(expected, rel=0.04)


def test_a_narrow_networks_latency_follows_its_operations_in_part():
    true = LatencyModel(2.0, (0.5, 1.0), following=0.7)
    half = Run(frozenset({1}), 0, Shares(0.9, (0.5, 0.25)))
    assert true.predict_ms(half) == pytest.approx(3.0 - 0.7 * (0.2 + 0.75))
    narrow = {"a": half, "b": Run(frozenset({0, 1}), 0, Shares(0.5, (0.5, 0.5)))}
    measured = {name: true.predict_ms(one) for name, one in narrow.items()}
    found = LatencyModel(2.0, (0.5, 1.0)).following_widths(narrow, measured)
    assert found.following == pytest.approx(0.7)


def test_no_unit_is_predicted_to_save_less_than_nothing():
    odd = LatencyModel(2.0, (-0.1, 0.5))
    assert min(fitted([1, 2], odd).unit_ms) >= 0


def profile(latency):
    return Profile("board", "onnxruntime-cpu", "a board", latency=latency)


def test_profile_table_gives_the_model():
    table = LatencyTable(1.5, {"a": 0.2, "b": 0.3, "other": 9.0})
    assert latency_of_profile(profile(table), ("a", "b")) == LatencyModel(1.5, (0.2, 0.3))


def test_profile_without_the_unit_or_the_table_is_refused():
    table = LatencyTable(1.5, {"layer1.0": 0.2})
    with pytest.raises(SelectError, match=r"no latency of the unit 'layer1.1'.*'layer1.0'"):
        latency_of_profile(profile(table), ("layer1.0", "layer1.1"))
    with pytest.raises(SelectError, match=r"has no \[latency\] table"):
        latency_of_profile(profile(None), ("a",))

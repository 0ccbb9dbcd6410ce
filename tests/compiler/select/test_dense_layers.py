"""Dense layers while they are searched: masked once, they are what is built without them."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import onnx_ir as ir
import pytest

from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.graph.costs import parameters, total_macs
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.select.evaluator import EvaluationSettings
from skipc.compiler.select.groups import Groups
from skipc.compiler.select.latency import FULL, Run, fit_latency
from skipc.compiler.select.pricing import Counter
from skipc.compiler.verify.sessions import GraphRunner
from tests.compiler.axes.test_dense import family
from tests.compiler.select.test_evaluator import samples_of
from tests.zoo.dense_nets import DENSE_NETS
from tests.zoo.net import assert_close

if TYPE_CHECKING:
    from skipc.compiler.axes.axis import Genes


def drawn(name: str, count: int) -> list[Genes]:
    rng, genes = random.Random(0), family(name).genes
    some = [tuple(rng.randrange(gene.values) for gene in genes) for _ in range(count)]
    ends = [(0,) * len(genes), (1,) * len(genes)]
    return list(dict.fromkeys([*ends, *some]))


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(("torchvision", mode) for mode in NormMode),
        ("pairs", NormMode.SHARED),
        ("u-net", NormMode.FULL),
        ("residual-dense", NormMode.SHARED),
    ],
)
def test_what_is_evaluated_is_what_is_built(name, mode, tmp_path) -> None:
    made = family(name)
    samples = samples_of(made.network, rows=4)
    groups = Groups(made, samples, EvaluationSettings(mode, rows=2))
    batch = {f"c{number}": genes for number, genes in enumerate(drawn(name, 4))}
    found = dict(groups.outputs(list(batch.values()), samples))
    choices = {key: made.decoded(genes) for key, genes in batch.items()}
    made = made.with_norms(groups.norms(choices))
    for key, genes in batch.items():
        path = tmp_path / f"{key}.onnx"
        ir.save(made.subnet(choices[key], key).network.model, path)
        case = {"x": samples.inputs["x"][:1]}
        (array,) = GraphRunner(path).run(case).values()
        (evaluated,) = found[genes].values()
        assert_close(array, evaluated[:1])


@pytest.mark.parametrize("name", DENSE_NETS)
def test_counts_are_those_of_the_graph_without(name: str) -> None:
    made = family(name)
    counter = Counter(made.network.model, made.offers[SkipAxis.key].units)
    for genes in itertools.product((0, 1), repeat=len(made.genes)):
        graph = made.structure(made.decoded(genes)).model.graph
        counted = counter.count(genes)
        assert counted.macs == total_macs(graph)
        assert counted.parameters == parameters(graph)


def test_latency_follows_what_is_left_of_a_layer() -> None:
    """Time in proportion to operations, of layers that are taken to be alike but are not."""
    made = family("torchvision")
    units = made.offers[SkipAxis.key].units
    counter = Counter(made.network.model, units)
    runs, measured_ms = {}, {}
    for genes in itertools.product((0, 1), repeat=len(units)):
        counted = counter.count(genes)
        runs[str(genes)] = Run(counted.run, shares=counted.shares)
        measured_ms[str(genes)] = counted.macs / 1e6
    assert runs["(0, 0, 0, 0)"].shares == FULL
    model = fit_latency(units, range(len(units)), runs, measured_ms)
    for name, run in runs.items():
        assert model.predict_ms(run) == pytest.approx(measured_ms[name], rel=0.01)

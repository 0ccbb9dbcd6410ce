"""Selection that decides int8: what is scored is what would be built."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from skipc.compiler.axes.precision import Precision, quantized
from skipc.compiler.calibration import Calibration, calibration_cases
from skipc.compiler.errors import SelectError
from skipc.compiler.family import open_family
from skipc.compiler.graph.int8_layers import layer_name, rounded_layers
from skipc.compiler.int8_parts import layer_noise
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.select.archive import Archive, EvaluationsSpentError
from skipc.compiler.select.choosing import names_of
from skipc.compiler.select.data import DataOptions
from skipc.compiler.select.options import CostKind, SelectOptions
from skipc.compiler.select.pareto import ReferencePoint
from skipc.compiler.select.pricing import price
from skipc.compiler.select.problem import open_problem
from skipc.compiler.select.running import run_on
from skipc.compiler.select.searches import find_search
from skipc.compiler.select.space import Space
from skipc.compiler.select.writing import recorded
from skipc.runtime.bundle.tensors import TensorSpec
from tests.compiler.select.test_second_axis import Silent, net
from tests.exports import ExportedOnce

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.select.problem import Problem


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Problem, SelectOptions]:
    """A network of batch 1, which is evaluated with a dynamic one."""
    checkpoint: Path = tmp_path_factory.mktemp("int8") / "net.pt"
    torch.save(net().state_dict(), checkpoint)
    inputs = (TensorSpec("images", "float32", (1, 1, 8, 8)),)
    supernet = ExportedOnce(net(), inputs, (), None, "net", {})
    data = DataOptions("digits", samples=90)
    options = SelectOptions(data, axes=("skip", "precision"), norm=NormMode.SCALAR)
    return open_problem(supernet, checkpoint, options, Silent()), options


def test_what_is_scored_in_int8_is_what_is_built(
    problem: tuple[Problem, SelectOptions],
) -> None:
    opened, _ = problem
    space, samples = opened.space, opened.data.parts.selection
    assert [gene.values for gene in space.genes] == [2, 2, 2, 2]
    int8, both = (0, 0, 0, 1), (0, 1, 0, 1)
    assert names_of([space.full, int8, both], space, by_stage=False) == {
        "full": space.full, "int8": int8, "skip1-int8": both
    }  # fmt: skip
    assert recorded(opened.family, both) == {"skip": ["blocks.1"], "precision": "int8"}
    found = dict(opened.groups.outputs([space.full, both, int8], samples))
    reestimate = dict(opened.data.parts.reestimate.inputs)
    network = opened.family.network
    assert network.batch is None
    cases = calibration_cases(reestimate, network.inputs, ())
    norms = opened.norms({"a": both})
    assert network.calibration is not None  # in the form that this machine computes exactly
    own = replace(network, calibration=Calibration(cases, network.calibration.form))
    family = replace(opened.family, network=own).with_norms(norms)
    built = family.subnet(family.decoded(both), "a").network
    assert built.exact is not None
    (expected,) = run_on(built, [samples], 1)
    (name,) = expected
    np.testing.assert_allclose(found[both][name], expected[name], atol=1e-3)
    # ... and no other: not in float32, and not with everything run.
    (exact,) = run_on(built.exact, [samples], 1)
    assert np.abs(found[both][name] - exact[name]).max() > 1e-3
    assert np.abs(found[both][name] - found[int8][name]).max() > 1e-2
    assert np.abs(found[space.full][name] - found[int8][name]).max() > 1e-3


def test_the_most_sensitive_layers_may_stay_in_float32(
    problem: tuple[Problem, SelectOptions],
) -> None:
    opened, _ = problem
    family = replace(opened.family, searched=frozenset({"skip", "precision", "float32"}))
    space = Space(family.genes, tuple(range(len(family.genes))))
    gene = space.genes[-2]
    layers = rounded_layers(family.network.model.graph)
    assert gene.labels == tuple(f"float{count}" for count in family.offers["float32"].counts)
    assert (gene.axis, gene.labels[0]) == ("float32", "float1")
    # Without int8 nothing is left in float32, and nothing is tried twice.
    assert space.taking([(len(space.genes) - 2, 1)]) == space.full
    everything = space.everything()
    assert len(everything) == len({*everything}) == 8 * (1 + gene.values)
    for search in ("surrogate", "beam", "stages", "nsga2", "exhaustive"):
        archive = Archive(
            lambda batch: ((genes, sum(genes) / 20) for genes in batch),
            lambda genes: 1 / (1 + sum(genes)),
            ReferencePoint(1.0, 0.0),
            200,
        )
        with suppress(EvaluationsSpentError):
            find_search(search)(space, archive, 0)
        assert set(archive.candidates) <= {*everything}
    one = space.taking([(len(space.genes) - 2, 1), (len(space.genes) - 1, 1)])
    assert names_of([one], space, by_stage=False) == {"float1-int8": one}
    network = family.network
    assert network.calibration is not None
    cases = network.calibration.cases[:4]
    int8 = quantized(network, Precision.INT8, (), keep=True)
    noise = layer_noise(network.model, int8, layers, cases)
    worst = layer_name(layers[int(np.argmax(noise))])
    told = {"skip": [], "precision": "int8", "float32": [worst]}
    assert recorded(family, one) == told
    assert family.subnet(family.decoded(one), "").network.floating == (worst,)
    # What is evaluated with a batch goes by the same layers.
    assert opened.evaluated.offers["float32"] is opened.family.offers["float32"]


def test_operations_do_not_tell_int8_from_float32(
    problem: tuple[Problem, SelectOptions],
) -> None:
    opened, options = problem
    with pytest.raises(SelectError, match=r"--axes skip,precision: int8 has as many"):
        price(opened, replace(options, cost=CostKind.MACS), Silent())


def test_without_data_nothing_is_decided() -> None:
    inputs = (TensorSpec("images", "float32", (1, 1, 8, 8)),)
    family = open_family(ExportedOnce(net(), inputs, (), None, "net", {}))
    searched = replace(family, searched=frozenset({"precision"}))
    assert searched.genes == ()
    assert Precision.INT8.is_int8

"""Searches on landscapes that are known everywhere."""

from __future__ import annotations

import itertools
import random

import pytest

from skipc.compiler.axes.axis import Gene
from skipc.compiler.errors import SelectError
from skipc.compiler.select.archive import Archive, EvaluationsSpentError
from skipc.compiler.select.pareto import ReferencePoint
from skipc.compiler.select.searches import find_search, search_names
from skipc.compiler.select.searches.stages import flags_text, stages_of
from skipc.compiler.select.space import Space

UNITS = 9


class Landscape:
    """Accuracy falls with what is skipped, and more where neighbours are skipped together."""

    def __init__(self, seed, units=UNITS):
        rng = random.Random(seed)
        self.loss = [rng.uniform(0, 0.06) for _ in range(units)]
        self.pairs = [rng.uniform(0, 0.05) for _ in range(units - 1)]
        self.cost_of = [rng.uniform(0.5, 1.5) for _ in range(units)]
        self.asked = []

    def score(self, batch):
        for genes in batch:
            self.asked.append(genes)
            alone = sum(loss for loss, value in zip(self.loss, genes, strict=True) if value)
            both = zip(self.pairs, itertools.pairwise(genes), strict=True)
            together = sum(loss for loss, (one, other) in both if one and other)
            yield genes, round(max(0.99 - alone - together, 0.1), 3)

    def cost(self, genes):
        return 2 + sum(c for c, value in zip(self.cost_of, genes, strict=True) if not value)


def space_of(names, free=None, stages=()):
    genes = tuple(Gene("skip", name, 2) for name in names)
    return Space(genes, free or tuple(range(len(genes))), stages)


def searched(name, landscape, budget, free=None, seed=0):
    units = len(landscape.loss)
    space = space_of([f"layer1.{i}" for i in range(units)], free)
    reference = ReferencePoint(landscape.cost(space.full), 0.1)
    archive = Archive(landscape.score, landscape.cost, reference, budget)
    try:
        archive([space.full])
        find_search(name)(space, archive, seed)
    except EvaluationsSpentError:
        pass
    return archive


@pytest.mark.parametrize("seed", range(5))
def test_default_search_comes_near_the_exhaustive_front(seed):
    best = searched("exhaustive", Landscape(seed), 512).hypervolume
    found = searched(search_names()[0], Landscape(seed), 60)
    assert len(found.candidates) <= 60
    assert found.hypervolume >= 0.99 * best


@pytest.mark.parametrize("name", search_names())
def test_search_keeps_to_free_units_and_evaluations(name):
    landscape, free = Landscape(3), (1, 3, 5, 7)
    archive = searched(name, landscape, 30, free)
    assert 2 <= len(archive.candidates) <= 30
    assert len(landscape.asked) == len(set(landscape.asked)) == len(archive.candidates)
    assert all(not genes[unit] for genes in landscape.asked for unit in (0, 2, 4, 6, 8))


@pytest.mark.parametrize("name", search_names())
def test_search_is_the_same_for_the_same_seed(name):
    first, second = Landscape(1), Landscape(1)
    budget = 512 if name == "exhaustive" else 60
    searched(name, first, budget, seed=7)
    searched(name, second, budget, seed=7)
    assert first.asked == second.asked


def test_few_evaluations_of_a_deep_network_give_a_spread_front():
    archive = searched("surrogate", Landscape(2, units=54), 120)
    sizes = sorted(sum(candidate.genes) for candidate in archive.front)
    assert len(archive.candidates) == 120
    assert sizes[0] <= 3
    assert sizes[-1] >= 40


def test_exhaustive_refuses_what_is_too_much():
    with pytest.raises(SelectError, match=r"13 units give 8192.*--keep"):
        searched("exhaustive", Landscape(0, units=13), 10**6)


def test_beam_says_how_many_evaluations_it_needs():
    for name in ("beam", "greedy"):
        with pytest.raises(SelectError, match="9 units need at least 45 evaluations"):
            searched(name, Landscape(0), 40)


def test_unknown_search_names_the_nearest():
    with pytest.raises(SelectError, match="Did you mean 'greedy'"):
        find_search("gredy")


def test_score_that_is_no_number_names_the_configuration():
    def score(batch):
        return ((genes, float("nan") if genes[0] else 0.9) for genes in batch)

    archive = Archive(score, sum, ReferencePoint(1.0, 0.0), 10)
    with pytest.raises(SelectError, match="configuration 10 is nan"):
        archive([(0, 1), (1, 0)])
    assert (0, 1) in archive.candidates


def test_what_was_scored_before_an_interruption_is_kept():
    def score(batch):
        yield batch[0], 0.5
        raise KeyboardInterrupt

    archive = Archive(score, sum, ReferencePoint(1.0, 0.0), 10)
    with pytest.raises(KeyboardInterrupt):
        archive([(0,), (1,)])
    assert list(archive.candidates) == [(0,)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"layer{s}.{b}" for s, n in ((1, 3), (2, 4)) for b in range(n)], ((2,), (5, 6))),
        ([f"layer1.{b}" for b in (1, 2)], ((1,),)),
        ([f"stages.{s}.{b}" for s in (0, 1) for b in range(2)], ((1,), (3,))),
        ([f"vit.layers.{b}.{p}" for b in range(6) for p in ("attention", "mlp")],
         ((4, 5), (10, 11))),
        ([f"resnet.encoder.stages.{s}.layers.{b}" for s in (0, 1) for b in (1, 2)],
         ((1,), (3,))),
    ],
)  # fmt: skip
def test_stages_are_the_second_halves_of_containers(names, expected):
    assert stages_of(space_of(names)) == expected


def test_stages_of_a_switching_network_are_its_own():
    space = space_of(["stage1", "stage2", "stage3"], stages=((0,), (1,), (2,)))
    assert stages_of(space) == ((0,), (1,), (2,))
    assert flags_text(stages_of(space), (1, 0, 1)) == "TFT"

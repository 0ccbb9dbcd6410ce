"""What a search may choose from: not the details of units, unless they are named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skipc.compiler.axes.units import Unit, Units
from skipc.compiler.errors import SelectError
from skipc.compiler.family import family_of
from skipc.compiler.select.data import DataOptions
from skipc.compiler.select.options import Constraints, SelectOptions
from skipc.compiler.select.problem import searched_space
from tests.zoo import exported

UNITS = (
    Unit("block.attention.local", "a", 0, "block.attention", 10, 10, within="block.attention"),
    Unit("block.attention", "b", 0, "block", 100, 100),
    Unit("block.mlp", "c", 0, "block", 100, 100),
)


def free(constraints: Constraints) -> tuple[list[str], list[str]]:
    """Returns the names of the units that are searched over, and what is told."""
    family = family_of(exported("forms")[0])
    family = replace(family, offers={**family.offers, "skip": Units(UNITS, (), 300, 300)})
    told: list[str] = []
    options = SelectOptions(DataOptions("digits"), constraints=constraints)
    space = searched_space(family, options, told.append)
    return [space.genes[place].name for place in space.free], told


def test_a_detail_of_a_unit_is_left_alone_and_told():
    names, told = free(Constraints())
    assert names == ["block.attention", "block.mlp"]
    assert "'block.attention.local'" in told[0]


def test_a_detail_that_is_named_is_searched_over():
    names, told = free(Constraints(keep=("block.mlp",), also=("block.attention",)))
    assert names == ["block.attention.local", "block.attention"]
    assert not told


def test_what_is_no_detail_is_refused():
    with pytest.raises(SelectError, match=r"--also 'block.mlp': no such unit"):
        free(Constraints(also=("block.mlp",)))

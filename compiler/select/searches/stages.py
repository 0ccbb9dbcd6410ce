"""Skippable sub-paths: one flag per stage (Adaptive Depth Networks, arXiv 2312.16392).

A stage is the blocks of one container (``layer3.0`` ... ``layer3.5``); its first half is
always run, at least the first block, the rest is skipped together. A network that is one long
stage, as a ViT, counts as groups of three blocks, of which the third is skipped.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError
from skipc.compiler.select.space import MAX_CONFIGURATIONS

if TYPE_CHECKING:
    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.archive import Archive
    from skipc.compiler.select.space import Space

_GROUP = 3


def stages(space: Space, evaluate: Archive, seed: int) -> None:
    """Evaluates every combination of the stages' flags and of what other axes offer.

    Raises:
        SelectError: There are no stages, or more than 2^12 combinations.
    """
    found = stages_of(space)
    flags = [((), tuple((unit, 1) for unit in stage)) for stage in found]
    others = [
        tuple(((gene, value),) for value in range(space.genes[gene].values))
        for gene in space.free
        if gene not in space.units
    ]
    size = math.prod(map(len, (*flags, *others)))
    if not found or size > MAX_CONFIGURATIONS:
        raise SelectError(
            f"--search stages: found {len(found)} stages with a skippable half, that is {size}"
            f" configurations; it takes 2 to {MAX_CONFIGURATIONS}. Use another search."
        )
    evaluate(
        [
            space.taking(itertools.chain.from_iterable(chosen))
            for chosen in itertools.product(*flags, *others)
        ]
    )


def flags_text(stages: tuple[tuple[int, ...], ...], genes: Genes) -> str:
    """Returns the flags of a configuration as the paper writes them, e.g. ``TTFF``."""
    return "".join("FT"[all(genes[unit] for unit in stage)] for stage in stages)


def stages_of(space: Space) -> tuple[tuple[int, ...], ...]:
    """Returns the skippable units of each stage, in network order."""
    if space.stages:
        free = set(space.free)
        return tuple(stage for stage in space.stages if free.issuperset(stage))
    containers: dict[str, dict[int, list[int]]] = {}
    places = _places([space.genes[unit].name for unit in space.units])
    for unit, (container, number) in zip(space.units, places, strict=True):
        containers.setdefault(container, {}).setdefault(number, []).append(unit)
    halves: list[list[int]] = []
    for blocks in containers.values():
        count = max(blocks) + 1
        if len(containers) == 1 and count >= 2 * _GROUP:
            halves += [units for n, units in blocks.items() if n % _GROUP == _GROUP - 1]
        else:
            mandatory = max(1, min(count - 1, (count + 1) // 2))
            halves.append([u for n, units in blocks.items() if n >= mandatory for u in units])
    free = set(space.free)
    found = [tuple(unit for unit in half if unit in free) for half in halves]
    return tuple(half for half in found if half)


def _places(names: list[str]) -> list[tuple[str, int]]:
    """Returns for each unit the container of its block, and the block's number in it.

    That is the innermost numbered part of its path of which there are several.
    """
    numbers: defaultdict[str, set[str]] = defaultdict(set)
    numbered: list[list[tuple[str, str]]] = []
    for name in names:
        parts = name.split(".")
        found = [
            (".".join(parts[:i]), part) for i, part in enumerate(parts) if part.isdecimal()
        ]
        numbered.append(found[::-1])
        for container, number in found:
            numbers[container].add(number)
    places = []
    for name, found in zip(names, numbered, strict=True):
        several = [place for place in found if len(numbers[place[0]]) > 1]
        container, number = (several or found or [(name, "0")])[0]
        places.append((container, int(number)))
    return places

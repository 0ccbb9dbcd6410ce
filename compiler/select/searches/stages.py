"""Skippable sub-paths: one flag per stage (Adaptive Depth Networks, arXiv 2312.16392).

A stage is the blocks of one container (``layer3.0`` ... ``layer3.5``); its first half is
always run, at least the first block, the rest is skipped together. A network that is one long
stage, as a ViT, counts as groups of three blocks, of which the third is skipped.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError
from skipc.compiler.select.searches.exhaustive import MAX_UNITS

if TYPE_CHECKING:
    from skipc.compiler.select.candidates import Bits, Evaluate, Space

_GROUP = 3


def search(space: Space, evaluate: Evaluate, seed: int) -> None:
    """Evaluates every combination of the stages' flags.

    Raises:
        SelectError: There are no stages, or more than twelve.
    """
    stages = stages_of(space)
    if not stages or len(stages) > MAX_UNITS:
        raise SelectError(
            f"--search stages: found {len(stages)} stages with a skippable half; it takes 1 to"
            f" {MAX_UNITS}. Use another search."
        )
    evaluate([configuration(space, stages, flags) for flags in all_flags(len(stages))])


def all_flags(stages: int) -> list[tuple[bool, ...]]:
    """Returns every combination of flags, nothing skipped first."""
    return list(itertools.product((False, True), repeat=stages))


def configuration(
    space: Space, stages: tuple[tuple[int, ...], ...], flags: tuple[bool, ...]
) -> Bits:
    """Returns the configuration that skips the stages whose flag is set."""
    skipped = itertools.chain.from_iterable(itertools.compress(stages, flags))
    return space.skipping(list(skipped))


def flags_text(stages: tuple[tuple[int, ...], ...], bits: Bits) -> str:
    """Returns the flags of a configuration as the paper writes them, e.g. ``TTFF``."""
    return "".join("FT"[all(bits[unit] for unit in stage)] for stage in stages)


def stages_of(space: Space) -> tuple[tuple[int, ...], ...]:
    """Returns the skippable units of each stage, in network order."""
    if space.stages:
        free = set(space.free)
        return tuple(stage for stage in space.stages if free.issuperset(stage))
    containers: dict[str, dict[int, list[int]]] = {}
    for unit, (container, number) in enumerate(_places(space.units)):
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


def _places(names: tuple[str, ...]) -> list[tuple[str, int]]:
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

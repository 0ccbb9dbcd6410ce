"""What a process of its own adds to a cache of scores; it imports little else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skipc.compiler.axes.axis import Gene
from skipc.compiler.select.evaluation_cache import EvaluationCache, EvaluationKey

if TYPE_CHECKING:
    from pathlib import Path


def genes_of(names: str) -> tuple[Gene, ...]:
    return tuple(Gene("skip", name, 2) for name in names)


KEY = EvaluationKey("c" * 64, "d" * 64, "full", "top1", "inverted", genes_of("abc"))
TEN = replace(KEY, genes=genes_of("0123456789"))


def refuse(note: str) -> None:
    raise AssertionError(note)


def append_some(folder: Path, start: int) -> None:
    """Adds every other one of 400 configurations of ten units."""
    cache = EvaluationCache(folder, TEN, refuse)
    for number in range(start, 400, 2):
        cache.add(tuple(number >> i & 1 for i in range(10)), number / 8)
    cache.close()

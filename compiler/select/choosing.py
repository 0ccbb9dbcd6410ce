"""From everything evaluated to the few configurations worth building."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.errors import SelectError
from skipc.compiler.select.pareto import ReferencePoint, front_of, thin
from skipc.compiler.select.searches.stages import flags_text, stages_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.select.options import Constraints
    from skipc.compiler.select.space import Candidate, Space

    Latency = Callable[[Genes], float | None]

# What rounding a sum of fractions may add to a drop.
_ROUNDING = 1e-9


def choose(
    candidates: Mapping[Genes, Candidate],
    space: Space,
    constraints: Constraints,
    latency: Latency,
    reference: ReferencePoint,
) -> tuple[Candidate, ...]:
    """Returns the configurations to build, of everything evaluated, the most expensive first.

    The full network is among them unless it is too slow: it is what the others are compared
    with. ``latency`` predicts milliseconds, ``reference`` bounds the hypervolume.

    Raises:
        SelectError: Nothing keeps the constraints; the message names the nearest.
    """
    full = candidates[space.full]
    best = full.score
    limit = float("inf") if constraints.max_drop is None else constraints.max_drop + _ROUNDING
    good = [c for c in candidates.values() if drop_points(c, best) <= limit]
    longest_ms = constraints.max_latency_ms
    kept = [c for c in good if longest_ms is None or _known(latency(c.genes)) <= longest_ms]
    if not kept:
        raise SelectError(_nearest_text(good, best, latency, constraints, space))
    front = front_of(kept)
    return thinned(front, full if full in kept else None, constraints.size, reference)


def thinned(
    front: tuple[Candidate, ...], full: Candidate | None, size: int, reference: ReferencePoint
) -> tuple[Candidate, ...]:
    """Returns ``size`` candidates of a front that cover most, the most expensive first.

    The full network is among them, where there is one.
    """
    others = thin(front, size, reference)
    if full is None:
        return others[::-1]
    if full not in others:
        others = thin(front, size - 1, reference) if size > 1 else ()
    chosen = {candidate.genes: candidate for candidate in (full, *others[::-1])}
    return tuple(chosen.values())


def drop_points(candidate: Candidate, full_score: float) -> float:
    """Returns what a configuration loses against the full network, in percentage points."""
    return 100 * (full_score - candidate.score)


def names_of(chosen: Sequence[Genes], space: Space, by_stage: bool) -> dict[str, Genes]:
    """Returns the configurations by name.

    Names are ``full``, ``skip3``, ``skip3-width1-int8``: by axis the sum of its genes, or what
    a gene's value is called; where that is the same for several, ``skip3a``, ``skip3b``.
    ``by_stage`` skip's part is the flags of the stages, ``TTFF``.
    """
    stages = stages_of(space) if by_stage else ()
    bases = [_name(genes, space, stages) for genes in chosen]
    counts = Counter(bases)
    seen: Counter[str] = Counter()
    names: dict[str, Genes] = {}
    for base, genes in zip(bases, chosen, strict=True):
        letter = _letters(seen[base]) if counts[base] > 1 else ""
        seen[base] += 1
        names[base + letter] = genes
    return names


def _name(genes: Genes, space: Space, stages: tuple[tuple[int, ...], ...]) -> str:
    taken: Counter[str] = Counter()
    labels: list[str] = []
    for gene, value in zip(space.genes, genes, strict=True):
        if gene.labels:
            labels += gene.labels[value - 1 : value]
        else:
            taken[gene.axis] += value
    if stages:
        taken.pop(SkipAxis.key)
    parts = [*(f"{axis}{count}" for axis, count in taken.items() if count), *labels]
    return "-".join([flags_text(stages, genes), *parts] if stages else parts) or "full"


def _letters(number: int) -> str:
    """Returns ``a`` for 0, ``z`` for 25, ``aa`` for 26."""
    text = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


def _known(latency_ms: float | None) -> float:
    assert latency_ms is not None  # asked for, so it was measured
    return latency_ms


def _nearest_text(
    good: Sequence[Candidate],
    best: float,
    latency: Latency,
    constraints: Constraints,
    space: Space,
) -> str:
    nearest = min(good, key=lambda c: (_known(latency(c.genes)), -c.score))
    drop = constraints.max_drop
    skipped = sum(space.skipped(nearest.genes))
    allowed = "" if drop is None else f" that loses at most {drop:g} points"
    return (
        f"--max-latency-ms {constraints.max_latency_ms:g}: no evaluated configuration{allowed}"
        f" is predicted to be that fast. The nearest skips {skipped} units:"
        f" {_known(latency(nearest.genes)):.3g} ms, {drop_points(nearest, best):.2f} points"
        " lost. Allow more latency, or a larger drop."
    )

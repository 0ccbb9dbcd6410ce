"""From everything evaluated to the few configurations worth building."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError
from skipc.compiler.select.pareto import ReferencePoint, front_of, thin
from skipc.compiler.select.searches.stages import flags_text, stages_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skipc.compiler.select.candidates import Bits, Candidate, Space
    from skipc.compiler.select.options import Constraints

    Latency = Callable[[Bits], float | None]

# What rounding a sum of fractions may add to a drop.
_ROUNDING = 1e-9


def choose(
    candidates: Mapping[Bits, Candidate],
    full: Bits,
    constraints: Constraints,
    latency: Latency,
    reference: ReferencePoint,
) -> tuple[Candidate, ...]:
    """Returns the configurations to build, the most expensive first.

    The full network is among them unless it is too slow: it is what the others are compared
    with.

    Args:
        candidates: Everything evaluated, the full network included.
        full: The full network.
        constraints: What the chosen have to keep.
        latency: Predicts a configuration's latency in ms.
        reference: Bounds the hypervolume.

    Raises:
        SelectError: Nothing keeps the constraints; the message names the nearest.
    """
    best = candidates[full].score
    limit = float("inf") if constraints.max_drop is None else constraints.max_drop + _ROUNDING
    good = [c for c in candidates.values() if drop_points(c, best) <= limit]
    longest_ms = constraints.max_latency_ms
    kept = [c for c in good if longest_ms is None or _known(latency(c.bits)) <= longest_ms]
    if not kept:
        raise SelectError(_nearest_text(good, best, latency, constraints))
    front = front_of(kept)
    if candidates[full] not in kept:
        return thin(front, constraints.size, reference)[::-1]
    others = thin(front, constraints.size, reference)
    if candidates[full] not in others:
        others = thin(front, constraints.size - 1, reference) if constraints.size > 1 else ()
    chosen = {candidate.bits: candidate for candidate in (candidates[full], *others[::-1])}
    return tuple(chosen.values())


def drop_points(candidate: Candidate, full_score: float) -> float:
    """Returns what a configuration loses against the full network, in percentage points."""
    return 100 * (full_score - candidate.score)


def names_of(chosen: Sequence[Bits], space: Space, by_stage: bool) -> dict[str, Bits]:
    """Returns the configurations by name.

    Names are ``full``, ``skip3``, and where several skip as many ``skip3a``, ``skip3b``;
    ``by_stage`` the flags of the stages, ``TTFF``.
    """
    if by_stage:
        stages = stages_of(space)
        return {flags_text(stages, bits): bits for bits in chosen}
    counts = Counter(sum(bits) for bits in chosen)
    seen: Counter[int] = Counter()
    names: dict[str, Bits] = {}
    for bits in chosen:
        size = sum(bits)
        letter = _letters(seen[size]) if counts[size] > 1 else ""
        seen[size] += 1
        names[f"skip{size}{letter}" if size else "full"] = bits
    return names


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
    good: Sequence[Candidate], best: float, latency: Latency, constraints: Constraints
) -> str:
    nearest = min(good, key=lambda c: (_known(latency(c.bits)), -c.score))
    drop = constraints.max_drop
    allowed = "" if drop is None else f" that loses at most {drop:g} points"
    return (
        f"--max-latency-ms {constraints.max_latency_ms:g}: no evaluated configuration{allowed}"
        f" is predicted to be that fast. The nearest skips {sum(nearest.bits)} units:"
        f" {_known(latency(nearest.bits)):.3g} ms, {drop_points(nearest, best):.2f} points"
        " lost. Allow more latency, or a larger drop."
    )

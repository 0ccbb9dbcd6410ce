"""What a graph with gates, and an engine of one, call what is theirs."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ..errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tensors import TensorSpec

DECISIONS = "skipc.decisions"
"""The output of a graph with gates: by row and unit, whether it ran."""
THRESHOLDS = "skipc.thresholds"
"""The input of its engine: by unit, what its gate's score must exceed."""
CAP = "skipc.cap"
"""The input of its engine: how many of these units run at most."""
EVERYTHING = -3.0e38
"""A threshold that every score exceeds."""


def by_unit(names: Sequence[str], parts: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    """Returns what gates decide about by unit, which have so many parts; no ``parts``: one."""
    left = iter(names)
    return tuple(tuple(islice(left, count)) for count in parts or [1] * len(names))


def check_gates(
    names: Sequence[str], parts: Sequence[int], outputs: Sequence[TensorSpec], where: str
) -> None:
    """Raises ``FormatError`` where a graph's gates and parts are not what it puts out."""
    decided = [spec for spec in outputs if spec.name == DECISIONS]
    sizes = [(*spec.shape[1:], spec.dtype) for spec in decided]
    if sizes != ([(len(names), "bool")] if names else []):
        raise FormatError(
            f"{where}: 'gates' names {len(names)} units, but its outputs are"
            f" {', '.join(spec.kind for spec in outputs)}. Expected {DECISIONS!r} exactly"
            " where there are gates: a boolean for each row and unit."
        )
    if parts and sum(parts) != len(names):
        raise FormatError(
            f"{where}: 'gate_parts' is {[*parts]}, expected parts that are the {len(names)} of"
            " 'gates' together."
        )

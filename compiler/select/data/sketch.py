"""Which samples something was made from, told in 64 numbers, so that none certifies it.

A sample's hash is as good as drawn by lot, so those with the smallest hashes are a fair draw
(min-wise sampling, Broder, 1997). Another part with some of the samples has their hashes, too:
about as many of the 64 as is their share in the first.
"""

from __future__ import annotations

import hashlib
from heapq import nsmallest
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.errors import SelectError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from skipc.compiler.select.samples import Samples

KEPT = 64
_DIGITS = 16


def sketch_of(parts: Iterable[Samples]) -> str:
    """Returns the smallest hashes of all samples' inputs, in order, as one text."""
    hashes = {one for samples in parts for one in _hashes(samples)}
    return "".join(nsmallest(KEPT, hashes))


def seen_before(
    parts: Sequence[Samples], seen: Mapping[str, str], wanted: str, text: str
) -> str:
    """Returns a sentence about samples that something was made from; empty where none were.

    Args:
        parts: The samples.
        seen: By what was trained or chosen, the sketch of the samples that were used for it.
        wanted: What the samples are for, to be named.
        text: ``--data``.
    """
    given = {one for samples in parts for one in _hashes(samples)} if seen else set()
    found, shared = [], 0
    for what, sketch in seen.items():
        drawn = {sketch[at : at + _DIGITS] for at in range(0, len(sketch), _DIGITS)}
        both = len(drawn & given)
        if both:
            found.append(f"{both} of {len(drawn)} samples drawn from those used for {what}")
            shared += both
    if not found:
        return ""
    are = "is" if shared == 1 else "are"
    return f"--data {text}: {' and '.join(found)} {are} among those for {wanted}."


def check_unseen(
    parts: Sequence[Samples], seen: Mapping[str, str], wanted: str, text: str
) -> None:
    """Refuses samples that something was made from; see ``seen_before``.

    Raises:
        SelectError: Some were.
    """
    told = seen_before(parts, seen, wanted, text)
    if told:
        raise SelectError(
            f"{told} What is certified must not have been seen before. Give data that nothing"
            " was trained or selected on, or leave the bound out."
        )


def _hashes(samples: Samples) -> Iterable[str]:
    arrays = [np.ascontiguousarray(samples.inputs[name]) for name in sorted(samples.inputs)]
    for row in range(len(samples)):
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(array[row].tobytes())
        yield digest.hexdigest()[:_DIGITS]

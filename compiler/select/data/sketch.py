"""Which samples chose something, told in 64 numbers, so that none of them certifies it.

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


def check_unseen(
    parts: Sequence[Samples], seen: Mapping[str, str], wanted: str, text: str
) -> None:
    """Refuses samples that something was chosen by.

    Args:
        parts: The samples.
        seen: By what was chosen, the sketch of the samples that it was chosen by.
        wanted: What the samples are for, to be named.
        text: ``--data``.

    Raises:
        SelectError: Some are in a sketch.
    """
    given = {one for samples in parts for one in _hashes(samples)} if seen else set()
    for what, sketch in seen.items():
        drawn = {sketch[at : at + _DIGITS] for at in range(0, len(sketch), _DIGITS)}
        shared = len(drawn & given)
        if shared:
            raise SelectError(
                f"--data {text}: of {len(drawn)} samples drawn from those that chose {what},"
                f" {shared} {'is' if shared == 1 else 'are'} among those for {wanted}. What"
                " is certified must not have been seen before. Give data that nothing was"
                " trained or selected on, or leave the bound out."
            )


def _hashes(samples: Samples) -> Iterable[str]:
    arrays = [np.ascontiguousarray(samples.inputs[name]) for name in sorted(samples.inputs)]
    for row in range(len(samples)):
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(array[row].tobytes())
        yield digest.hexdigest()[:_DIGITS]

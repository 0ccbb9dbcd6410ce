"""Everything there is."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError

if TYPE_CHECKING:
    from skipc.compiler.select.candidates import Evaluate, Space

MAX_UNITS = 12


def search(space: Space, evaluate: Evaluate, seed: int) -> None:
    """Evaluates every configuration.

    Raises:
        SelectError: There are more than 2^12.
    """
    if len(space.free) > MAX_UNITS:
        raise SelectError(
            f"--search exhaustive: {len(space.free)} units give {2 ** len(space.free)}"
            f" configurations, more than the {2**MAX_UNITS} that it takes. Keep some with"
            " --keep, or use another search."
        )
    flags = itertools.product((False, True), repeat=len(space.free))
    evaluate(
        [space.skipping(list(itertools.compress(space.free, chosen))) for chosen in flags]
    )

"""A bound that holds: fixed-sequence testing with the exact binomial.

Learn then Test (Angelopoulos et al., 2021, arXiv 2110.01052). Policies come in an order that
was fixed before their samples are looked at. Of each, "it loses more than the bound" is to be
refuted: losing so few samples must be less likely than 1 - confidence if it were true. The
first that is not refuted ends it, and the one before is used. Whatever the order, and however
the losses move along it, the chance to use one that loses more than the bound is at most
1 - confidence.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from skipc.compiler.extras import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def last_certified(
    failures: Sequence[int], samples: int, bound: float, confidence: float
) -> int | None:
    """Returns the last policy of a sequence that is certified; None if the first is not.

    Args:
        failures: By policy, how many samples it loses.
        samples: Of how many.
        bound: The largest share that may be lost.
        confidence: How sure that must be.
    """
    refuted = _refuted(failures, samples, bound, confidence)
    count = len(refuted) if refuted.all() else int(refuted.argmin())
    return count - 1 if count else None


def holds(failures: int, samples: int, bound: float, confidence: float) -> bool:
    """Tells whether so few failures would be too unlikely if a larger share were lost."""
    return bool(_refuted([failures], samples, bound, confidence)[0])


def _refuted(
    failures: Sequence[int], samples: int, bound: float, confidence: float
) -> NDArray[np.bool_]:
    binomial = require("scipy.special", "select").bdtr
    found: NDArray[np.bool_] = binomial(failures, samples, bound) <= 1 - confidence
    return found


def upper_limit(failures: int, samples: int, confidence: float) -> float:
    """Returns the share that is lost at most: Clopper and Pearson's limit (1934)."""
    if failures >= samples:
        return 1.0
    beta = require("scipy.special", "select").betaincinv
    return float(beta(failures + 1, samples - failures, confidence))


def samples_needed(rate: float, bound: float, confidence: float) -> int | None:
    """Returns how many samples certify a policy that loses a share ``rate`` of them.

    None where the rate is not below the bound: no number would.
    """
    if rate >= bound:
        return None
    enough = 1
    while not holds(ceil(rate * enough), enough, bound, confidence):
        enough *= 2
    low, high = enough // 2, enough
    while high - low > 1:
        middle = (low + high) // 2
        if holds(ceil(rate * middle), middle, bound, confidence):
            high = middle
        else:
            low = middle
    return high

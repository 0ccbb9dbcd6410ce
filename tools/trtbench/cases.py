"""The inputs that are measured unless others are given: one size of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.runtime.inputs import InputChecker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.runtime import Bundle
    from skipc.runtime.backends import Arrays


def typical_cases(bundle: Bundle) -> Sequence[Arrays]:
    """Returns the golden inputs at the typical batch; zeros where there is none of that size.

    With a dynamic batch there are golden inputs of its smallest and largest size, too: they
    would be measured as if they were one thing.
    """
    sample = _sample(bundle)
    return [case for case in bundle.golden_inputs() if _alike(case, sample)] or [sample]


def are_typical(bundle: Bundle, cases: Sequence[Arrays]) -> bool:
    """Tells whether all of ``cases`` have the typical batch."""
    sample = _sample(bundle)
    return all(_alike(case, sample) for case in cases)


def _sample(bundle: Bundle) -> Arrays:
    return InputChecker(bundle.manifest.inputs, bundle.manifest.batch).sample()


def _alike(case: Arrays, other: Arrays) -> bool:
    return all(case[name].shape == array.shape for name, array in other.items())

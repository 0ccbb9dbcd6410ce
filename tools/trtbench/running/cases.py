"""The inputs that are measured: given ones, or golden ones of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.bundle.array_files import read_arrays
from skipc.runtime.call.inputs import InputChecker
from skipc.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skipc.runtime import Bundle
    from skipc.runtime.backends import Arrays


def cases_from(bundle: Bundle, inputs: Path | None) -> Sequence[Arrays]:
    """Returns the inputs to measure with: those of a file, or ``typical_cases``.

    Raises:
        InputError: They do not fit the network.
    """
    specs = bundle.manifest.inputs
    checker = InputChecker(specs, bundle.manifest.batch)
    if inputs is None:
        given = typical_cases(bundle)
    else:
        given = [read_arrays(inputs, tuple(spec.name for spec in specs))]
    try:
        return [checker.check(case) for case in given]
    except InputError as cause:
        source = "the bundle's golden inputs" if inputs is None else str(inputs)
        raise InputError(f"{source}: {cause}") from cause


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

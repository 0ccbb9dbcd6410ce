"""The comparison that every engine must pass on the device before anyone sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import NumericsError
from skipc.compiler.verify.numerics import difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.runtime.bundle.manifest import ConfigurationEntry

    Case = dict[str, NDArray[Any]]


LEAST_TOLERANCES = {"tensorrt": 2e-3, "tensorrt-rtx": 2e-3}
"""Errors over the output's range that a GPU's float32 explains, by backend: products are
rounded to TF32's 10 bits, sums taken in another order. Half precision brings a larger one."""


def tolerance_on(backend: str, entry: ConfigurationEntry) -> float:
    """Returns the largest error that an engine of ``backend`` may have."""
    return max(entry.verification.tolerance, LEAST_TOLERANCES.get(backend, 0.0))


def check_golden(
    entry: ConfigurationEntry,
    found: list[Case],
    golden: list[Case],
    tolerance: float,
    here: str,
) -> None:
    """Checks that this device computes what the reference did when the bundle was built.

    Args:
        entry: The configuration.
        found: The engine's outputs, for each golden input.
        golden: The reference's.
        tolerance: Largest error over the range of the reference's output.
        here: What computed, e.g. ``this CPU``.

    Raises:
        NumericsError: They differ by more than the tolerance.
    """
    error = difference(found, golden)
    # Not <=: NaN must fail.
    if not error.relative_error <= tolerance:
        raise NumericsError(
            f"configuration {entry.name!r}: on {here} its outputs differ from"
            f" {entry.verification.reference} by {error.relative_error:.3g} of the output's"
            f" range ({error.max_abs_error:.3g} absolute), more than the tolerance of"
            f" {tolerance:.3g}. Build the bundle with a larger --tolerance, or try another"
            " version of the library that runs it."
        )

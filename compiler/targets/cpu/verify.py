"""The two comparisons that an engine must pass before anyone sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import NumericsError
from skipc.compiler.numerics import difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.runtime.manifest import ConfigurationEntry

    Case = dict[str, NDArray[Any]]


def check_same_bits(configuration: str, before: list[Case], after: list[Case]) -> None:
    """Checks that packing changed nothing: a wrong offset gives wrong numbers and no error.

    Args:
        configuration: The configuration's name.
        before: Outputs of the plain session, for each golden input.
        after: Outputs of the session on the packed store.

    Raises:
        NumericsError: An output has other bits.
    """
    for index, (expected, found) in enumerate(zip(before, after, strict=True)):
        for name, array in expected.items():
            same = (
                found[name].dtype == array.dtype
                and found[name].shape == array.shape
                and found[name].tobytes() == array.tobytes()
            )
            if not same:
                error = difference([{name: found[name]}], [{name: array}]).max_abs_error
                raise NumericsError(
                    f"configuration {configuration!r}: output {name!r} of golden input {index}"
                    f" changes by {error:.3g} when the weights are packed. Expected the same"
                    " bits; this onnxruntime version packs weights in a way that skipc does"
                    " not know. Try another version, and report it."
                )


def check_golden(entry: ConfigurationEntry, found: list[Case], golden: list[Case]) -> None:
    """Checks that this CPU computes what the reference did when the bundle was built.

    Args:
        entry: The configuration, with its tolerance.
        found: The engine's outputs, for each golden input.
        golden: The reference's.

    Raises:
        NumericsError: They differ by more than the tolerance.
    """
    tolerance = entry.verification.tolerance
    error = difference(found, golden)
    # Not <=: NaN must fail.
    if not error.relative_error <= tolerance:
        raise NumericsError(
            f"configuration {entry.name!r}: on this CPU its outputs differ from"
            f" {entry.verification.reference} by {error.relative_error:.3g} of the output's"
            f" range ({error.max_abs_error:.3g} absolute), more than the bundle's tolerance of"
            f" {tolerance:.3g}. Build the bundle with a larger --tolerance, or try another"
            " onnxruntime version."
        )

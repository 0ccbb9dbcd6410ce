"""The comparison that every engine must pass on the device before anyone sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import NumericsError
from skipc.compiler.verify.numerics import Difference, difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import ConfigurationEntry, GraphEntry, Manifest

    Case = dict[str, NDArray[Any]]


LEAST_TOLERANCES = {"tensorrt": 2e-3, "tensorrt-rtx": 2e-3}
"""Errors over the output's range that a GPU's float32 explains, by backend: products are
rounded to TF32's 10 bits, sums taken in another order. Half precision brings a larger one."""


def tolerance_on(backend: str, manifest: Manifest, entry: ConfigurationEntry) -> float:
    """Returns the largest error that a configuration may have with engines of ``backend``."""
    allowed = manifest.verification(entry).tolerance
    return max(allowed, LEAST_TOLERANCES.get(backend, 0.0))


def advice(error: Difference) -> str:
    """Returns what to do about outputs that are not within the tolerance."""
    if error.unlike:
        return "Build the engines again: skipc finish."
    return (
        "Build the bundle with a larger --tolerance, or try another version of the library"
        " that runs it."
    )


def check_golden(
    bundle: Bundle, graph: GraphEntry, found: list[Case], backend: str, here: str
) -> None:
    """Checks that this device computes what the reference did when the bundle was built.

    Args:
        bundle: The bundle.
        graph: The graph whose engine ran; every configuration that it runs alone is checked.
        found: The engine's outputs, for each golden input.
        backend: The backend that ran it.
        here: What computed, e.g. ``this CPU``.

    Raises:
        NumericsError: They differ by more than the tolerance.
    """
    for entry in bundle.manifest.configurations:
        if entry.only_graph != graph.name:
            continue
        checked = graph.verification
        error = difference(found, bundle.golden_outputs(entry.name), checked.ranges)
        tolerance = tolerance_on(backend, bundle.manifest, entry)
        if not error.within(tolerance):
            raise NumericsError(
                f"configuration {entry.name!r}: on {here}"
                f" {error.text(checked.reference, tolerance)} {advice(error)}"
            )

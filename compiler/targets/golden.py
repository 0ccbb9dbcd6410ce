"""The comparisons that every engine must pass on the device before anyone sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import NumericsError
from skipc.compiler.verify.numerics import difference
from skipc.runtime.bundle.tensors import misfit
from skipc.runtime.errors import IntegrityError

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


def check_outputs(graph: GraphEntry, found: list[Case]) -> None:
    """Checks that a graph answers what the manifest says.

    Args:
        graph: The graph.
        found: Its outputs, for each golden input.

    Raises:
        IntegrityError: It answers something else.
    """
    for case in found:
        unfit = misfit(case, graph.outputs)
        if unfit is not None:
            raise IntegrityError(
                f"graph {graph.name!r}: {unfit}. {graph.file} is not the graph that the"
                " manifest describes; copy the bundle again."
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
        IntegrityError: They are not those of the graph.
        NumericsError: They differ by more than the tolerance.
    """
    check_outputs(graph, found)
    for entry in bundle.manifest.configurations:
        if entry.only_graph != graph.name:
            continue
        checked = graph.verification
        error = difference(found, bundle.golden_outputs(entry.name), checked.ranges)
        tolerance = tolerance_on(backend, bundle.manifest, entry)
        if not error.within(tolerance):
            advice = (
                "Build the engines again: skipc finish."
                if error.unlike
                else "Build the bundle with a larger --tolerance, or try another version of"
                " the library that runs it."
            )
            raise NumericsError(
                f"configuration {entry.name!r}: on {here}"
                f" {error.text(checked.reference, tolerance)} {advice}"
            )


def check_same_bits(graph: str, before: list[Case], after: list[Case]) -> None:
    """Checks that packing changed nothing: a wrong offset gives wrong numbers and no error.

    Args:
        graph: The graph's name.
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
                error = difference([{name: found[name]}], [{name: array}], {name: 1.0})
                how = f"({error.unlike})" if error.unlike else f"by {error.max_abs_error:.3g}"
                raise NumericsError(
                    f"graph {graph!r}: output {name!r} of golden input {index}"
                    f" changes {how} when the weights are packed. Expected the same"
                    " bits; this onnxruntime version packs weights in a way that skipc does"
                    " not know. Try another version, and report it."
                )

"""Verification: every subnet against the reference running the same configuration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.errors import NumericsError
from skipc.compiler.graph.index import MODULE_KEY
from skipc.compiler.network import Arithmetic
from skipc.compiler.verify.numerics import Difference, difference
from skipc.compiler.verify.onnx_reference import expose_all
from skipc.compiler.verify.rounding import RoundInsteadPass, rounding_graph
from skipc.compiler.verify.sessions import GraphRunner, Optimise
from skipc.runtime.bundle.manifest import Verification

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.network import Network
    from skipc.compiler.verify.numerics import Case

# A configuration's name cannot start with "_", so no graph of the family is called this.
_PROBE = "_probe.onnx"


_RUN_AS: dict[Arithmetic, Callable[[Path], AbstractContextManager[Path]]] = {
    Arithmetic.AS_WRITTEN: nullcontext,
    Arithmetic.ROUNDED: rounding_graph,
}


@dataclass(frozen=True, slots=True)
class Verified:
    """A subnet that passed, with the reference's outputs per case."""

    verification: Verification
    expected: tuple[Case, ...]


def verify_subnet(
    graph: Path, configuration: str, network: Network, cases: list[Case]
) -> Verified:
    """Compares the subnet in ``graph`` with the network's reference.

    Args:
        graph: The subnet's ONNX file, beside its weights.
        configuration: The name of the configuration that it belongs to.
        network: The network that was written to ``graph``.
        cases: The inputs to compare on.

    Raises:
        NumericsError: The error is larger; the message names the first tensor that differs.
    """
    reference, limit = network.reference, network.tolerance.relative
    expected = reference.run(cases)
    _refuse_nan(expected, configuration, reference.name)
    actual, found = _worst_run(graph, cases, expected, network.tolerance.runs)
    # Not <=: NaN must fail.
    if not found.relative_error <= limit:
        worst = _worst_case(cases, actual, expected, limit)
        advice = [_first_different(graph, network, worst), network.tolerance.advice]
        raise NumericsError(
            f"configuration {configuration!r}: its outputs differ from {reference.name} by"
            f" {found.relative_error:.3g} of the output's range ({found.max_abs_error:.3g}"
            f" absolute), more than the tolerance of {limit:.3g}."
            f" {' '.join(advice).strip()}"
        )
    return Verified(
        Verification(
            reference=reference.name,
            inputs=len(cases),
            max_abs_error=found.max_abs_error,
            relative_error=found.relative_error,
            tolerance=limit,
        ),
        tuple(expected),
    )


def _worst_run(
    graph: Path, cases: list[Case], expected: list[Case], runs: tuple[Arithmetic, ...]
) -> tuple[list[Case], Difference]:
    """Returns the outputs that are furthest from ``expected``, and how far."""
    found = []
    for arithmetic in runs:
        with _RUN_AS[arithmetic](graph) as path:
            runner = GraphRunner(path)
            outputs = [runner.run(case) for case in cases]
        found.append((outputs, difference(outputs, expected)))
    # NaN is worse than anything.
    return max(found, key=lambda pair: (isnan(pair[1].relative_error), pair[1].relative_error))


def _refuse_nan(expected: list[Case], configuration: str, reference: str) -> None:
    """Refuses inputs on which the network says nothing: NaN would equal NaN."""
    for case in expected:
        for name, array in case.items():
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise NumericsError(
                    f"configuration {configuration!r}: the output {name!r} of {reference} is"
                    " itself NaN on the inputs to verify with, so nothing can be compared."
                    " Check the checkpoint's weights, or give real inputs with --data."
                )


def _worst_case(
    cases: list[Case], actual: list[Case], expected: list[Case], tolerance: float
) -> Case:
    for case, found, wanted in zip(cases, actual, expected, strict=True):
        if not difference([found], [wanted]).relative_error <= tolerance:
            return case
    # Every case alone is within its own range.
    return cases[0]


def _first_different(graph: Path, network: Network, case: Case) -> str:
    """Returns a sentence that names the first intermediate tensor that differs."""
    model = ir.load(graph)
    if Arithmetic.ROUNDED in network.tolerance.runs:
        RoundInsteadPass()(model)
    modules = {
        str(value.name): node.metadata_props.get(MODULE_KEY, "")
        for node in model.graph
        for value in node.outputs
    }
    expose_all(model)
    probe = graph.with_name(_PROBE)
    try:
        ir.save(model, probe)
        actual = GraphRunner(probe, Optimise.NOTHING).run(case)
    finally:
        probe.unlink(missing_ok=True)
    for name, expected in network.reference.trace(case):
        found = actual.get(name)
        if found is None or found.shape != expected.shape:
            continue
        error = difference([{name: found}], [{name: expected}]).relative_error
        if not error <= network.tolerance.relative:
            return (
                f"The first tensor that differs is {name!r} in module {modules[name]!r}"
                f" ({error:.3g} of its range)."
            )
    return (
        "No intermediate tensor differs when ONNX Runtime runs the graph unoptimised: its"
        " optimisations make the difference. Try another onnxruntime version, or allow it with"
        " --tolerance."
    )

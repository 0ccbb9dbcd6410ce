"""Verification: every subnet against the reference running the same configuration."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.axes.precision.mode import Precision, advice
from skipc.compiler.errors import NumericsError
from skipc.compiler.graph.index import MODULE_KEY
from skipc.compiler.verify.numerics import Difference, difference
from skipc.compiler.verify.onnx_reference import expose_all
from skipc.compiler.verify.rounding import RoundInsteadPass, rounding_graph
from skipc.compiler.verify.sessions import GraphRunner, Optimise
from skipc.runtime.bundle.manifest import Verification

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.front import Configuration
    from skipc.compiler.verify.golden import Case
    from skipc.compiler.verify.torch_reference import Reference
    from skipc.runtime.bundle.manifest import TensorSpec

TOLERANCE = 1e-4
"""Largest error that subnets may have, as a fraction of the output's range."""

HALF_TOLERANCE = 1e-2
"""The same in float16, whose own rounding is 5e-4 of a value."""

BFLOAT16_TOLERANCE = 3e-2
"""The same in bfloat16, whose own rounding is 4e-3 of a value."""

# A configuration's name cannot start with "_", so no graph of the family is called this.
_PROBE = "_probe.onnx"


@dataclass(frozen=True, slots=True)
class Verified:
    """A subnet that passed, with the reference's outputs per case."""

    verification: Verification
    expected: tuple[Case, ...]


def default_tolerance(
    outputs: tuple[TensorSpec, ...], precision: Precision | None = None
) -> float:
    """Returns the largest error that a network with these outputs may have."""
    if precision is Precision.BF16:
        return BFLOAT16_TOLERANCE
    if precision is Precision.FP16:
        return HALF_TOLERANCE
    return HALF_TOLERANCE if any(o.dtype == "float16" for o in outputs) else TOLERANCE


def verify_subnet(
    graph: Path,
    configuration: Configuration,
    reference: Reference,
    cases: list[Case],
    tolerance: float,
    precision: Precision | None = None,
) -> Verified:
    """Compares the subnet in ``graph`` with the reference.

    Half precision is run with every tensor rounded as a device rounds it; float16 also as
    ONNX Runtime's CPU runs it. The larger error counts.

    Args:
        graph: The subnet's ONNX file, beside its weights.
        configuration: The configuration that it was pruned for.
        reference: Runs the same configuration by other means.
        cases: The inputs to compare on.
        tolerance: Largest allowed error over the range of the reference's output.
        precision: What the subnet was cast to, if it was.

    Raises:
        NumericsError: The error is larger; the message names the first tensor that differs.
    """
    expected = reference.run(configuration.units, cases)
    _refuse_nan(expected, configuration.name, reference.name)
    actual, found = _worst_run(graph, cases, expected, precision)
    # Not <=: NaN must fail.
    if not found.relative_error <= tolerance:
        worst = _first_different(
            graph,
            configuration,
            reference,
            _worst_case(cases, actual, expected, tolerance),
            tolerance,
            precision,
        )
        raise NumericsError(
            f"configuration {configuration.name!r}: its outputs differ from {reference.name}"
            f" by {found.relative_error:.3g} of the output's range ({found.max_abs_error:.3g}"
            f" absolute), more than the tolerance of {tolerance:.3g}."
            f" {worst}{advice(precision)}"
        )
    return Verified(
        Verification(
            reference=reference.name,
            inputs=len(cases),
            max_abs_error=found.max_abs_error,
            relative_error=found.relative_error,
            tolerance=tolerance,
        ),
        tuple(expected),
    )


def _worst_run(
    graph: Path, cases: list[Case], expected: list[Case], precision: Precision | None
) -> tuple[list[Case], Difference]:
    """Returns the outputs that are furthest from ``expected``, and how far."""
    runs = []
    # There are no kernels for bfloat16.
    if precision is not Precision.BF16:
        runner = GraphRunner(graph)
        runs.append([runner.run(case) for case in cases])
    if precision is not None and precision.is_half:
        with rounding_graph(graph) as path:
            runner = GraphRunner(path)
            runs.append([runner.run(case) for case in cases])
    found = [(run, difference(run, expected)) for run in runs]
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


def _first_different(
    graph: Path,
    configuration: Configuration,
    reference: Reference,
    case: Case,
    tolerance: float,
    precision: Precision | None,
) -> str:
    """Returns a sentence that names the first intermediate tensor that differs."""
    model = ir.load(graph)
    if precision is not None and precision.is_half:
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
    for name, expected in reference.trace(configuration.units, case):
        found = actual.get(name)
        if found is None or found.shape != expected.shape:
            continue
        error = difference([{name: found}], [{name: expected}]).relative_error
        if not error <= tolerance:
            return (
                f"The first tensor that differs is {name!r} in module {modules[name]!r}"
                f" ({error:.3g} of its range)."
            )
    return (
        "No intermediate tensor differs when ONNX Runtime runs the graph unoptimised: its"
        " optimisations make the difference. Try another onnxruntime version, or allow it with"
        " --tolerance."
    )

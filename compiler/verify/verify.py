"""Verification: every subnet against the reference running the same configuration."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.errors import NumericsError
from skipc.compiler.gating import MARGINS
from skipc.compiler.network import Arithmetic
from skipc.compiler.verify.numerics import (
    Difference,
    Ranges,
    difference,
    least_around_one,
    ranges_of,
    spread,
)
from skipc.compiler.verify.rounding import rounding_graph
from skipc.compiler.verify.sessions import GraphRunner, Optimise
from skipc.compiler.verify.tensors import Tensors, hides
from skipc.runtime.bundle.gates import DECISIONS
from skipc.runtime.bundle.manifest import Verification
from skipc.runtime.bundle.tensors import sizes_of

if TYPE_CHECKING:
    from skipc.compiler.network import Network
    from skipc.compiler.verify.numerics import Case

_RUN_AS: dict[Arithmetic, tuple[Callable[[Path], AbstractContextManager[Path]], Optimise]] = {
    Arithmetic.AS_WRITTEN: (nullcontext, Optimise.EVERYTHING),
    Arithmetic.ROUNDED: (rounding_graph, Optimise.EVERYTHING),
    Arithmetic.SIMULATED: (nullcontext, Optimise.NOTHING),
}


_TIE = 1e-5
"""A gate's score so near to its threshold may be on either side of it."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A subnet that passed.

    Attributes:
        verification: How close it is, for the manifest.
        expected: The reference's outputs per case.
        notes: What the user should know of the comparison, a sentence each.
    """

    verification: Verification
    expected: tuple[Case, ...]
    notes: tuple[str, ...]


def verify_subnet(
    graph: Path, configuration: str, network: Network, cases: list[Case]
) -> Verified:
    """Compares the subnet in ``graph`` with the network's reference.

    An error is a share of its output's range. What counts as the range of an output that
    hardly varies, and what is compared beside it, is told in ``tensors``.

    Args:
        graph: The subnet's ONNX file, beside its weights.
        configuration: The name of the configuration that it belongs to.
        network: The network that was written to ``graph``.
        cases: The inputs to compare on.

    Raises:
        NumericsError: The error is larger; the message names the first tensor that differs.
    """
    reference, limit = network.reference, network.tolerance.relative
    ran = reference.run(cases)
    expected = [{n: a for n, a in c.items() if n not in (DECISIONS, MARGINS)} for c in ran]
    _refuse_nan(expected, configuration, reference.name)
    _refuse_other_sizes(expected, cases, configuration, network)
    ranges = ranges_of(expected, dict.fromkeys(expected[0], 0.0))
    actual, found = _worst_run(graph, cases, expected, ranges, network.tolerance.runs)
    notes: list[str] = []
    fault = found.text(reference.name, limit) if found.unlike else ""
    fault = fault or _decided_otherwise(actual, ran, network)
    if not fault and (not found.within(limit) or _may_hide(network, expected)):
        tensors = Tensors(graph, network, _worst_case(cases, actual, expected, ranges))
        least = {name: tensors.least_range(name) for name in ranges}
        ranges = ranges_of(expected, least)
        found = difference(actual, expected, ranges)
        notes = [_note(name) for name in ranges if spread(expected, name) < least[name]]
        fault = _fault(found, tensors, network)
    if fault:
        advice = network.tolerance.advice
        raise NumericsError(f"configuration {configuration!r}: {fault} {advice}".strip())
    return Verified(
        Verification(
            reference=reference.name,
            inputs=len(cases),
            max_abs_error=found.max_abs_error,
            relative_error=found.relative_error,
            tolerance=limit,
            ranges=ranges,
        ),
        tuple(expected),
        tuple(notes),
    )


def verify_network(configuration: str, network: Network, cases: list[Case]) -> None:
    """Compares a network that is not written anywhere with its reference."""
    with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
        graph = Path(folder) / "network.onnx"
        ir.save(network.model, graph, external_data=f"{graph.name}.data")
        verify_subnet(graph, configuration, network, cases)


def _worst_run(
    graph: Path,
    cases: list[Case],
    expected: list[Case],
    ranges: Ranges,
    runs: tuple[Arithmetic, ...],
) -> tuple[list[Case], Difference]:
    """Returns the outputs that are furthest from ``expected``, and how far."""
    found = []
    for arithmetic in runs:
        prepared, optimise = _RUN_AS[arithmetic]
        with prepared(graph) as path:
            runner = GraphRunner(path, optimise)
            outputs = [runner.run(case) for case in cases]
        found.append((outputs, difference(outputs, expected, ranges)))
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


def _refuse_other_sizes(
    expected: list[Case], cases: list[Case], configuration: str, network: Network
) -> None:
    """Refuses outputs of other sizes than the network is said to have, from its inputs'."""
    for inputs, case in zip(cases, expected, strict=True):
        sizes = sizes_of(inputs, network.inputs)
        given = ", ".join(f"{name}={size}" for name, size in sizes.items())
        for spec in network.outputs if sizes else ():
            found = case[spec.name].shape if spec.name in case else ()
            wanted = spec.shape_at(sizes)
            if found and (len(found) != len(wanted) or any(
                size not in (-1, own) for own, size in zip(found, wanted, strict=True)
            )):  # fmt: skip
                raise NumericsError(
                    f"configuration {configuration!r}: at {given} the output"
                    f" {spec.name!r} is {found}, expected {spec.kind}: its size does not"
                    " follow from these alone. Fix a dimension in --input."
                )


def _decided_otherwise(actual: list[Case], ran: list[Case], network: Network) -> str:
    """Returns where gates do not decide as the reference's do, "" where they do."""
    if network.gating is None:
        return ""
    for found, wanted in zip(actual, ran, strict=True):
        other = np.argwhere(found[DECISIONS] != wanted[DECISIONS])
        if len(other):
            row, number = other[0].tolist()
            name, margin = network.gating.decided[number], wanted[MARGINS][row, number]
            tie = bool(abs(margin) < _TIE)
            return (
                f"its gate decides otherwise about the unit {name!r} than"
                f" {network.reference.name}, where its score is {abs(margin):.3g} from its"
                " threshold."
            ) + " That is rounding: build with another 'bias'." * tie
    return ""


def _worst_case(
    cases: list[Case], actual: list[Case], expected: list[Case], ranges: Ranges
) -> Case:
    """Returns the inputs on which the outputs are furthest apart."""

    def error(number: int) -> tuple[bool, float]:
        apart = difference([actual[number]], [expected[number]], ranges).relative_error
        return isnan(apart), apart

    return cases[max(range(len(cases)), key=error)]


def _may_hide(network: Network, expected: list[Case]) -> bool:
    """Tells whether an output may tell little of what it is computed from."""
    least = least_around_one(expected, network.tolerance.least_range)
    answers = (o for o in network.model.graph.outputs if o.name != DECISIONS)
    hidden = any(hides(output.producer()) for output in answers)
    return hidden or any(spread(expected, name) < least[name] for name in least)


def _fault(found: Difference, tensors: Tensors, network: Network) -> str:
    """Returns what is wrong with a subnet, "" where nothing is."""
    reference, limit = network.reference.name, network.tolerance.relative
    if not found.within(limit):
        return f"{found.text(reference, limit)} {tensors.first_different()}"
    for output in (str(value.name) for value in network.model.graph.outputs):
        if output != DECISIONS and tensors.hides_a_fault(output):
            return (
                f"its output {output!r} agrees with {reference}, but only because it tells"
                " little on these inputs: what it is computed from differs."
                f" {tensors.first_different()}"
            )
    return ""


def _note(output: str) -> str:
    return (
        f"the output {output!r} hardly varies on the inputs that were compared, so what it is"
        " computed from was compared, too. An engine is compared by its outputs alone: inputs"
        " on which they vary, given with --data, tell more."
    )

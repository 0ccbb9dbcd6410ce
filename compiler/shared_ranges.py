"""Ranges of activations that all int8 configurations of a network share, for one session.

Each tensor has the range that holds what it is in any configuration. A unit's stream has one
range before and behind the unit: without the unit nothing is rounded anew, and what reads the
stream is the same node, so that the session need only leave nodes out. Where the stream falls
below 0 before the unit, as behind a projection, and an activation follows the unit, ranges
differ; then the stream is rounded to both, one after the other, in every configuration.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from skipc.compiler.axes.precision import Precision, PrecisionAxis
from skipc.compiler.axes.skip import units_of
from skipc.compiler.graph.passes.quantize import observed_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import onnx_ir as ir

    from skipc.compiler.axes.units import Unit
    from skipc.compiler.configurations import Configuration
    from skipc.compiler.family import Family
    from skipc.compiler.graph.passes.quantize import Ranges


def with_shared_ranges(
    families: Mapping[str, Family],
    configurations: Sequence[Configuration],
    asked: Precision | None,
    progress: Callable[[str], None],
) -> dict[str, Family]:
    """Returns families whose int8 configurations have the same ranges.

    Args:
        families: The families by network, with norm statistics.
        configurations: What is to be built.
        asked: The precision of what names none.
        progress: Told what is being done.
    """
    observed: dict[str, list[Ranges]] = {}
    for one in configurations:
        for part in one.parts:
            if part.choices.get(PrecisionAxis.key, asked) is not Precision.INT8:
                continue
            progress(f"observing ranges of {one.name}")
            choices = {**part.choices, PrecisionAxis.key: Precision.FP32}
            network = families[part.network].subnet(choices, part.statistics).network
            assert network.calibration is not None
            ranges = observed_ranges(network.model, network.calibration.cases)
            observed.setdefault(part.network, []).append(ranges)
    found = dict(families)
    for name, several in observed.items():
        family = families[name]
        calibration = family.network.calibration
        assert calibration is not None
        ranges, rounded = shared_ranges(family.network.model, units_of(family).units, several)
        calibration = replace(calibration, ranges=ranges, rounded=rounded)
        network = replace(family.network, calibration=calibration)
        found[name] = replace(family, network=network)
    return found


def shared_ranges(
    model: ir.Model, units: Iterable[Unit], observed: Sequence[Ranges]
) -> tuple[Ranges, frozenset[str]]:
    """Returns ranges that hold what was observed, and what is rounded whoever reads it.

    Args:
        model: The full network's graph.
        units: What may be skipped.
        observed: The ranges of each.
    """
    found, rounded = dict(_together(observed)), set()
    # Network order: what ends one unit begins the next.
    tied: dict[str, set[str]] = {}
    for before, behind, activated in _streams(model, units):
        if activated and before in found and found[before][0] < 0:
            rounded.add(before)  # its activation is rounding to a range that begins at 0
            continue
        group = tied.get(before, {before}) | tied.get(behind, {behind})
        tied |= dict.fromkeys(group, group)
    for group in tied.values():
        known = [found[name] for name in group if name in found]
        if known:
            both = min(low for low, _ in known), max(high for _, high in known)
            found |= dict.fromkeys((name for name in group if name in found), both)
    return found, frozenset(rounded)


def _together(
    observed: Sequence[Ranges],
) -> Iterator[tuple[str, tuple[np.float32, np.float32]]]:
    for name in dict.fromkeys(name for ranges in observed for name in ranges):
        known = [ranges[name] for ranges in observed if name in ranges]
        low = min(np.min(each) for each, _ in known)
        high = max(np.max(each) for _, each in known)
        yield name, (np.float32(low), np.float32(high))


def _streams(model: ir.Model, units: Iterable[Unit]) -> Iterator[tuple[str, str, bool]]:
    """Yields the tensors that are read before and behind the place where a unit is added.

    Each with whether an activation stands between.
    """
    nodes = {str(node.outputs[0].name): node for node in model.graph}
    for unit in units:
        for cut in unit.cuts:
            node = nodes.get(cut.node)
            if node is None or node.op_type != "Add":
                continue
            shortcut = node.inputs[1 - cut.operand]
            result = node.outputs[0]
            users = {user for user, _ in result.uses()}
            # Rounding to a range takes an activation along: its result is what has the range.
            activated = len(users) == 1 and next(iter(users)).op_type in ("Clip", "Relu")
            if activated:
                result = next(iter(users)).outputs[0]
            if shortcut is not None:
                yield str(shortcut.name), str(result.name), activated

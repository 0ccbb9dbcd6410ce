"""An engine in which gates decide, input by input, which units run.

The portable graph computes every branch and leaves out what does not count. Taken apart again
(``ungated``) it is a network whose further outputs are its gates' scores: that is optimised,
and what a unit needs is put into an ``If`` on what its gate decides.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.errors import NumericsError
from skipc.compiler.extras import require
from skipc.compiler.targets.cpu.gated_parts import split_parts
from skipc.compiler.targets.cpu.one import Cutter, assembled
from skipc.compiler.targets.cpu.optimized import (
    UnsuitedError,
    loadable,
    plain_outputs,
)
from skipc.compiler.targets.cpu.switched import Conditions, taken_apart
from skipc.compiler.targets.golden import check_same_bits
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from skipc.runtime.backends.onnxruntime.rows import by_row
from skipc.runtime.bundle.gates import CAP, DECISIONS, EVERYTHING, THRESHOLDS
from skipc.runtime.bundle.tensors import row_axes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.compiler.graph.passes.gate_units import Ungated
    from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeEngine
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import GraphEntry

    Case = dict[str, NDArray[Any]]
    Settings = Mapping[str, tuple[bool | float, ...]]

_NOTHING = -EVERYTHING
_RANDOM_MASKS = 4
"""How many sets of units are compared with a graph of those units alone."""


@dataclass(frozen=True, slots=True)
class GatedSession:
    """A graph whose gates decide.

    Attributes:
        graph: The graph; refers to ``data``.
        data: Its tensors and prepacked blobs.
    """

    graph: Path
    data: Path


def gated_settings(bundle: Bundle, graph: GraphEntry) -> dict[str, tuple[bool | float, ...]]:
    """Returns the inputs by which an engine decides as a graph's gates do."""
    found = _apart(bundle, graph)
    return {THRESHOLDS: tuple(chain(*found.thresholds)), CAP: (found.cap,)}


def same_but_for_settings(bundle: Bundle, one: GraphEntry, other: GraphEntry) -> bool:
    """Tells whether one engine can run both graphs."""
    from skipc.compiler.graph.index import structure

    if (one.network, one.gates) != (other.network, other.gates):
        return False
    a, b = (_apart(bundle, graph).model for graph in (one, other))
    return structure(a) == structure(b) and _weights(a) == _weights(b)


def gated_session(
    bundle: Bundle,
    graph: GraphEntry,
    inputs: Sequence[Case],
    folder: Path,
    progress: Callable[[str], None],
) -> GatedSession:
    """Returns the engine's graph for a graph with gates, its settings still inputs.

    Args:
        bundle: The bundle.
        graph: One of its graphs, with gates.
        inputs: The golden inputs.
        folder: An empty folder to write to.
        progress: Called with a short line before each step.

    Raises:
        UnsuitedError: ONNX Runtime fuses units, or gives other bits when they are switched.
        TargetError: ONNX Runtime cannot load or run a graph.
    """
    require("onnx_ir", "finish")
    import onnx_ir as ir

    found = _apart(bundle, graph)
    whole = folder / "whole.onnx"
    if found.inner:
        model, known = split_parts(found, graph.gated_units)
        ir.save(model, whole, external_data="whole.data")
        weights = folder
    else:
        known, weights = None, bundle.path
        ir.save(found.model, whole)
    cutter = Cutter(whole, folder, weights, known)
    units = cutter.units(graph.gates)
    progress(f"packing {graph.name}")
    full = loadable(whole, folder, inputs, weights)
    answers = onnx.load(str(full.graph), load_external_data=False).graph.output
    outputs = [value for value in answers if value.name not in found.scores]
    conditions = _conditions(graph.gated_units, found.scores, outputs)
    path = assembled(full, cutter, units, conditions, progress)
    progress("comparing it with sessions of some of its units")
    _compare(path, full.data.name, cutter, graph, inputs)
    return GatedSession(path, full.data)


def _conditions(
    gated: Sequence[Sequence[str]],
    scores: Sequence[str],
    outputs: Sequence[onnx.ValueInfoProto],
) -> Conditions:
    """Returns the conditions: a score above its threshold, and fewer before than the cap.

    ``gated`` are by unit the names of what is decided: its own, and those of further parts.
    """
    names = [f"{THRESHOLDS}.{number}" for number in range(len(gated))]
    split, sizes = taken_apart(THRESHOLDS, names, [*map(len, gated)])
    zero = numpy_helper.from_array(np.zeros(1, np.int64), f"{CAP}.none")
    nodes, left, runs, weights = [split], CAP, [], [sizes, zero]
    values: dict[str, str] = {}
    for number, (parts, score, threshold) in enumerate(zip(gated, scores, names, strict=True)):
        opened, room, run, one, after = (
            f"{DECISIONS}.{number}.{what}" for what in ("open", "room", "runs", "one", "left")
        )
        own = [run]
        nodes += [
            helper.make_node("Greater", [score, threshold], [opened]),
            helper.make_node("Greater", [left, zero.name], [room]),
            helper.make_node("And", [opened, room], [run]),
        ]
        if len(parts) > 1:
            own = [f"{run}.{part}" for part in range(len(parts))]
            apart, ones = taken_apart(run, own, [1] * len(parts), axis=1)
            nodes.append(apart)
            weights.append(ones)
        nodes += [
            helper.make_node("Cast", [own[0]], [one], to=TensorProto.INT64),
            helper.make_node("Sub", [left, one], [after]),
        ]
        left = after
        runs.append(run)
        values |= zip(parts, own, strict=True)
    # The last unit leaves room for none.
    del nodes[-2:]
    nodes.append(helper.make_node("Concat", runs, [DECISIONS], axis=1))
    make = helper.make_tensor_value_info
    given = [
        make(THRESHOLDS, TensorProto.FLOAT, [len(values)]),
        make(CAP, TensorProto.INT64, [1]),
    ]
    decided = make(DECISIONS, TensorProto.BOOL, [_rows(outputs), len(values)])
    return Conditions(values, nodes, weights, given, [*outputs, decided])


def _rows(outputs: Sequence[onnx.ValueInfoProto]) -> str | int:
    first = outputs[0].type.tensor_type.shape.dim[0]
    return str(first.dim_param) or int(first.dim_value)


def _compare(
    path: Path, data: str, cutter: Cutter, graph: GraphEntry, inputs: Sequence[Case]
) -> None:
    """Compares the graph, told what to run, with sessions of networks of these units alone."""
    drawn, units = random.Random(0), graph.gates
    masks = {(True,) * len(units), (False,) * len(units)}
    masks |= {tuple(drawn.random() < 0.5 for _ in units) for _ in range(_RANDOM_MASKS)}
    rows = _rows_of(inputs, graph)
    engine = _loaded(path, data, {CAP: (len(graph.gated_units),)})
    for mask in sorted(masks):
        skipped = [unit for unit, runs in zip(units, mask, strict=True) if not runs]
        told = [EVERYTHING if runs else _NOTHING for runs in mask]
        setting = {THRESHOLDS: np.array(told, np.float32)}
        found = [engine.run({**row, **setting}) for row in rows]
        expected = [
            {name: array for name, array in case.items() if name in found[0]}
            for case in cutter.outputs(skipped, rows)
        ]
        try:
            check_same_bits(graph.name, expected, found)
        except NumericsError as cause:
            what = f"skipping {', '.join(skipped)}" if skipped else "skipping nothing"
            raise UnsuitedError(
                f"{what} gives other bits than a session of its own"
            ) from cause
    engine.close()


def check_decisions(
    session: GatedSession, bundle: Bundle, graph: GraphEntry, inputs: Sequence[Case]
) -> None:
    """Checks that an engine decides as its portable graph does.

    Raises:
        NumericsError: It does not.
    """
    engine = _loaded(session.graph, session.data.name, gated_settings(bundle, graph))
    rows = _rows_of(inputs, graph)
    wanted = plain_outputs(bundle.graph_file(graph), rows, bundle.path)
    for row, expected in zip(rows, wanted, strict=True):
        if not np.array_equal(engine.run(row)[DECISIONS], expected[DECISIONS]):
            raise NumericsError(
                f"graph {graph.name!r}: on a golden input its gates decide otherwise once ONNX"
                " Runtime has optimised it: a score lies on its threshold. Build with another"
                " 'bias'."
            )
    engine.close()


def _loaded(path: Path, data: str, settings: Settings) -> OnnxRuntimeEngine:
    return OnnxRuntimeCpu({"one": path}, data, 1, {"one": settings}).load("one")


def _rows_of(inputs: Sequence[Case], graph: GraphEntry) -> list[Case]:
    """Returns the inputs of each row of some batches."""
    axes = row_axes(graph.inputs)
    return [row for case in inputs for row in by_row(case, axes)]


def _apart(bundle: Bundle, graph: GraphEntry) -> Ungated:
    import onnx_ir as ir

    from skipc.compiler.graph.passes.gate_units import ungated

    units = [unit for unit, *_ in graph.gated_units]
    return ungated(ir.load(bundle.graph_file(graph)), units)


def _weights(model: Any) -> dict[str, object]:
    """Returns what tells the weights of two graphs of one bundle apart."""
    found: dict[str, object] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        place = getattr(tensor, "offset", None)
        found[name] = (place, tensor.nbytes) if place is not None else tensor.tobytes()
    return found

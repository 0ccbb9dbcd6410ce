"""A graph of a bundle that runs with other weights than its own, from where they differ.

It is cut at the tensors that all of its data passes. Each segment is loaded twice: with its
weights as inputs, which any can be put into, and with them as they are, which is faster. What
the intact graph computes at the cuts is kept, so that a run begins at the first segment that
reads a damaged tensor.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from skipc.compiler.errors import TolerateError
from skipc.compiler.graph.index import node_inputs
from skipc.compiler.graph.pieces import constant_values, extracted
from skipc.compiler.verify.sessions import GraphRunner
from skipc.runtime.bundle.tensors import BATCH
from skipc.runtime.errors import reason_of, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import GraphEntry

    Arrays = Mapping[str, NDArray[Any]]
    Rows = NDArray[np.intp]

_MOST_SEGMENTS = 8
_MOST_ROWS = 256
"""So many samples run in a call: more of them save nothing, and take memory."""
_KEPT_BYTES = 1 << 28
_CHECKED_ROWS = 3
_SAME = 1e-3
"""Rows may differ by this share of the largest output when they run together."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A part of the graph between two cuts.

    Attributes:
        plain: Runs it with its own weights.
        injected: Runs it with weights as inputs.
        intact: Its own weights, by the initializers' names.
    """

    plain: GraphRunner
    injected: GraphRunner
    intact: Arrays

    def run(self, inputs: Arrays, damaged: Arrays) -> dict[str, NDArray[Any]]:
        own = {name: damaged[name] for name in damaged.keys() & self.intact.keys()}
        if not own:
            return self.plain.run(inputs)
        try:
            return self.injected.run({**inputs, **self.intact, **own})
        # ONNX Runtime's exceptions share no base class below Exception.
        except Exception as cause:
            raise TolerateError(
                f"with errors in {', '.join(sorted(own))} the graph cannot be run:"
                f" {sentence(reason_of(cause))} Such tensors need memory without errors;"
                " skipc cannot tell them from weights."
            ) from cause


class InjectedGraph:
    """A graph, or a piece of one, that takes other weights.

    Args:
        bundle: The bundle.
        graph: The graph.
        exposed: The initializers that may be damaged.
        inputs: Arrays of some rows, by which it is seen whether rows can run together.

    Raises:
        TolerateError: Its rows do not lie in the first dimension.
        SupernetError: ONNX Runtime cannot load it.
    """

    def __init__(
        self, bundle: Bundle, graph: GraphEntry, exposed: frozenset[str], inputs: Arrays
    ) -> None:
        self.name = graph.name
        begins = [spec.name for spec in graph.inputs]
        self._ends = [spec.name for spec in graph.outputs]
        for spec in (*graph.inputs, *graph.outputs):
            if spec.shape[:1] not in ((1,), (BATCH,)):
                raise TolerateError(
                    f"graph {graph.name!r}: {spec.kind} does not begin with one row per"
                    " sample. Samples are looked at one by one: build it for a batch of 1."
                )
        model = extracted(ir.load(bundle.graph_file(graph)), begins, self._ends)
        with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
            self._segments = _segments(model, exposed, graph.inputs[0].shape[0], Path(folder))
        self._together = True
        self._together = self._rows_agree(inputs)

    def intact(self, inputs: Arrays) -> list[Arrays]:
        """Returns what each segment reads of some rows, and at last what the graph gives.

        Where that is too much to be kept, a place holds nothing; the first and last never do.
        """
        found: list[Arrays] = [inputs]
        kept_bytes = 0
        for number, segment in enumerate(self._segments):
            found.append(self._run([segment], found[-1], {}))
            size_bytes = sum(array.nbytes for array in found[-1].values())
            if number and kept_bytes > _KEPT_BYTES:
                found[-2] = {}
            kept_bytes += size_bytes
        return found

    def run(self, kept: Sequence[Arrays], rows: Rows, damaged: Arrays) -> Arrays:
        """Returns what the graph gives for some rows with damaged weights.

        Args:
            kept: What ``intact`` returned for all rows.
            rows: Which ones.
            damaged: By initializer.
        """
        hit = [number for number, s in enumerate(self._segments) if damaged.keys() & s.intact]
        first = hit[0] if hit else len(self._segments)
        while not kept[first]:
            first -= 1
        begun = {name: array[rows] for name, array in kept[first].items()}
        return self._run(self._segments[first:], begun, damaged)

    def again(self, inputs: Arrays, damaged: Arrays) -> Arrays:
        """Returns what the graph gives for inputs that are damaged themselves."""
        return self._run(self._segments, inputs, damaged)

    def _run(
        self, segments: Sequence[_Segment], inputs: Arrays, damaged: Arrays
    ) -> dict[str, NDArray[Any]]:
        made: list[Arrays] = []
        for chunk in _chunks(inputs, _MOST_ROWS if self._together else 1):
            for segment in segments:
                chunk = segment.run(chunk, damaged)
            made.append(chunk)
        return {name: np.concatenate([each[name] for each in made]) for name in made[0]}

    def _rows_agree(self, inputs: Arrays) -> bool:
        """Tells whether some rows give together what each gives alone."""
        few = {name: array[:_CHECKED_ROWS] for name, array in inputs.items()}
        self._together = False
        alone = self._run(self._segments, few, {})
        self._together = True
        try:
            found = self._run(self._segments, few, {})
        # ONNX Runtime's exceptions share no base class below Exception.
        except Exception:
            return False
        for name, array in alone.items():
            other = found[name]
            if other.shape != array.shape:
                return False
            apart = np.abs(other.astype(float) - array.astype(float)).max(initial=0)
            if not apart <= _SAME * max(float(np.abs(array).max(initial=0)), 1e-9):
                return False
        return True


def _chunks(inputs: Arrays, rows: int) -> Iterator[Arrays]:
    total = len(next(iter(inputs.values())))
    if total <= rows:
        yield inputs
        return
    for start in range(0, total, rows):
        yield {name: array[start : start + rows] for name, array in inputs.items()}


def _segments(
    model: ir.Model, exposed: frozenset[str], batch: int | str | None, folder: Path
) -> list[_Segment]:
    """Returns the segments of a graph, any number of rows of which may run together."""
    begins = [str(value.name) for value in model.graph.inputs]
    ends = [str(value.name) for value in model.graph.outputs]
    _free_batch(model.graph, batch)
    cuts = _cuts(model.graph)
    found = []
    for number, (first, last) in enumerate(
        zip([begins, *([cut] for cut in cuts)], [*([cut] for cut in cuts), ends], strict=True)
    ):
        part = extracted(model, first, last)
        paths = [folder / f"{number}.onnx", folder / f"{number}.injected.onnx"]
        ir.save(part, paths[0], external_data=f"{number}.data")
        intact = _as_inputs(part.graph, exposed)
        ir.save(part, paths[1], external_data=f"{number}.injected.data")
        plain, injected = (GraphRunner(path, threads=1) for path in paths)
        found.append(_Segment(plain, injected, intact))
    return found


def _free_batch(graph: ir.Graph, batch: int | str | None) -> None:
    """Lets a graph of batch 1 take any number of rows, as far as its operators do."""
    if batch != 1:
        return
    ends = {*graph.inputs, *graph.outputs}
    for value in (*ends, *(value for node in graph for value in node.outputs)):
        if value in ends and value.shape is not None:
            value.shape = ir.Shape([BATCH, *list(value.shape)[1:]])
        elif not value.is_initializer():
            value.shape = None


def _as_inputs(graph: ir.Graph, exposed: frozenset[str]) -> dict[str, NDArray[Any]]:
    """Makes the exposed initializers of a graph inputs; returns what they hold."""
    found = {}
    for name, value in [*graph.initializers.items()]:
        if name in exposed and value.const_value is not None:
            found[name] = value.const_value.numpy().copy()
            value.shape = ir.Shape(found[name].shape)
            value.type = ir.TensorType(value.const_value.dtype)
            graph.initializers.pop(name)
            value.const_value = None
            graph.inputs.append(value)
    return found


def _cuts(graph: ir.Graph) -> list[str]:
    """Returns the tensors to cut at, all of which all data passes, evenly spread."""
    constant, uses = constant_values(graph), {}
    nodes = list(graph)
    for place, node in enumerate(nodes):
        for value in node_inputs(node):
            uses[value] = place
    for value in graph.outputs:
        uses[value] = len(nodes)
    live = set(graph.inputs)
    passed = []
    for place, node in enumerate(nodes[:-1]):
        live |= {value for value in node.outputs if value not in constant}
        live = {value for value in live if uses.get(value, -1) > place}
        if len(live) == 1 and not live & set(graph.outputs):
            passed += [str(value.name) for value in live if str(value.name) not in passed]
    count = min(_MOST_SEGMENTS, len(passed) + 1)
    return [passed[len(passed) * number // count] for number in range(1, count)]

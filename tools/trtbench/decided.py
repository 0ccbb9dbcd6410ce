"""What gates and routers decided about the inputs: how often each unit, or graph, ran.

Inputs are told apart by what was answered, and by how sure that was: what is hard for a
network is answered less surely, with no label at hand.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from skipc.runtime.bundle.route import Test
from skipc.runtime.bundle.tensors import row_axes
from skipc.runtime.call.tests import score
from skipc.tools.trtbench.report import Decided

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from skipc.runtime.backends import Arrays
    from skipc.runtime.bundle.manifest import ConfigurationEntry, Manifest
    from skipc.runtime.call.chain import Reached

ALL = "all inputs"
_QUARTERS = ("surest quarter", "second quarter", "third quarter", "least sure quarter")
_LEAST = 4
"""A group of fewer inputs tells nothing."""
_MOST_ROWS = 500


def deciding(manifest: Manifest) -> list[ConfigurationEntry]:
    """Returns the configurations in which gates or a router decide."""
    return [
        entry
        for entry in manifest.configurations
        if entry.routed is not None or any(g.gates for g in manifest.graphs_of(entry))
    ]


def decided(rows: Sequence[Reached], manifest: Manifest, routed: bool) -> tuple[Decided, ...]:
    """Returns what was decided about inputs.

    Args:
        rows: What each of them came to.
        manifest: The bundle's.
        routed: Whether a router decided; else gates.
    """
    ran = [dict(reached.units) for reached in rows]
    if routed:
        graphs = dict.fromkeys(graph for reached in rows for graph in reached.route)
        ran = [{g: r.route.count(g) / len(r.route) for g in graphs} for r in rows]
    groups = {ALL: [*range(len(rows))], **_groups(manifest, rows)}
    return tuple(
        Decided(name, len(own), {u: float(np.mean([ran[n][u] for n in own])) for u in ran[0]})
        for name, own in groups.items()
        if name == ALL or len(own) >= _LEAST
    )


def rows_of(manifest: Manifest, cases: Sequence[Arrays]) -> list[Arrays]:
    """Returns the rows of cases, 500 at most; a batch that cannot be taken apart is one."""
    return [*islice(_rows(manifest, cases), _MOST_ROWS)]


def _rows(manifest: Manifest, cases: Sequence[Arrays]) -> Iterator[Arrays]:
    batch, axes = manifest.batch, row_axes(manifest.inputs)
    for case in cases:
        if batch is None or batch.minimum > 1 or not axes:
            yield case
            continue
        count = next(case[name].shape[axis] for name, axis in axes.items())
        for row in range(count):
            yield {
                name: np.take(array, [row], axes[name]) if name in axes else array
                for name, array in case.items()
            }


def _groups(manifest: Manifest, rows: Sequence[Reached]) -> dict[str, list[int]]:
    """Returns the numbers of inputs by answer and by sureness, of what scores classes."""
    spec, *more = manifest.outputs
    answers: list[NDArray[np.float32]] = [reached.outputs[spec.name] for reached in rows]
    if more or any(answer.ndim != 2 or answer.shape[1] < 2 for answer in answers):
        return {}
    test = Test(spec.name, {"max-softmax": 1.0}, 0.0)
    sure = np.array([float(np.mean(score(test, answer))) for answer in answers])
    classes = [int(answer.mean(0).argmax()) for answer in answers]
    found: dict[str, list[int]] = {}
    for number in sorted({*classes}):
        found[f"answer {number}"] = [n for n, each in enumerate(classes) if each == number]
    quarters = np.array_split(np.argsort(-sure, kind="stable"), len(_QUARTERS))
    return {
        **found,
        **{name: part.tolist() for name, part in zip(_QUARTERS, quarters, strict=True)},
    }

"""Running a graph on data, from one end to the other."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.select.samples import chunks_of
from skipc.compiler.verify.sessions import GraphRunner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipc.compiler.network import Network
    from skipc.compiler.select.samples import Samples
    from skipc.compiler.verify.numerics import Case


def run_on(
    network: Network, parts: Sequence[Samples], rows: int, model: ir.Model | None = None
) -> list[Case]:
    """Returns what a network gives for all samples of each part, by output.

    Args:
        network: The network.
        parts: The samples.
        rows: So many in a call, where the batch is dynamic.
        model: What to run instead of its graph.
    """
    first = network.inputs[0].shape[0]
    fixed = first if isinstance(first, int) else None
    with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
        path = Path(folder) / "graph.onnx"
        ir.save(model or network.model, path, external_data="graph.data")
        runner = GraphRunner(path)
        return [_whole(runner, samples, fixed or rows, fixed is not None) for samples in parts]


def _whole(runner: GraphRunner, samples: Samples, rows: int, padded: bool) -> Case:
    chunks = chunks_of(samples.inputs, rows, padded)
    ran = [
        runner.run({name: arrays[n] for name, arrays in chunks.inputs.items()})
        for n in range(len(chunks.counts))
    ]
    return {
        name: np.concatenate(chunks.real([one[name] for one in ran]))
        for name in runner.outputs
    }

"""What heads see of every sample: the mean over all positions of the stream, by place."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from skipc.compiler.select.samples import chunks_of
from skipc.compiler.verify.onnx_reference import expose
from skipc.compiler.verify.sessions import GraphRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from skipc.compiler.axes.exit_places import Place
    from skipc.compiler.network import Network
    from skipc.compiler.select.samples import Samples

    Floats = NDArray[np.float32]

_FILE = "features.onnx"


def features_of(
    network: Network,
    places: Sequence[Place],
    samples: Samples,
    advance: Callable[[int, int], None],
) -> tuple[dict[str, Floats], Floats]:
    """Returns the features by place, (N, channels) each, and the network's own answers.

    Args:
        network: The network; a batch of 1, or a dynamic one.
        places: Where heads may go.
        samples: What it runs on.
        advance: Told how many samples are done, of how many.
    """
    model = network.model.clone()
    (end,) = (str(value.name) for value in model.graph.outputs)
    expose(model, {place.at for place in places})
    rows = 1 if network.batch is None else network.batch.maximum
    found: dict[str, list[Floats]] = {place.name: [] for place in places}
    answers: list[Floats] = []
    with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
        path = Path(folder) / _FILE
        ir.save(model, path, external_data=f"{_FILE}.data")
        runner = GraphRunner(path)
        chunks = chunks_of(samples.inputs, rows, padded=False)
        for number in range(len(chunks.counts)):
            case = {name: arrays[number] for name, arrays in chunks.inputs.items()}
            outputs = runner.run(case)
            answers.append(outputs[end].astype(np.float32))
            for place in places:
                array = outputs[place.at]
                positions = tuple(a for a in range(1, array.ndim) if a != place.axis)
                mean = array.mean(positions, dtype=np.float64) if positions else array
                found[place.name].append(mean.astype(np.float32))
            advance(min((number + 1) * rows, len(samples)), len(samples))
    joined = {name: np.concatenate(arrays) for name, arrays in found.items()}
    return joined, np.concatenate(answers)

"""Putting the weights into a stripped plan: from the bundle's one store, mapped.

A plan built with ``STRIP_PLAN`` and ``REFIT_IDENTICAL`` holds no weights that a refit can
give (NVIDIA's ``sample_weight_stripping``). The ONNX parser's refitter knows which layer each
initializer belongs to. From TensorRT 10.13 on it takes addresses, so the mapped store is
read once, by the copy to the device; before, it reads the store itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...bundle.onnx_graph import external_tensors
from ...errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from .library import Library


def refit(library: Library, engine: Any, name: str, graph: Path, store: Path) -> None:
    """Gives a stripped engine the weights of the graph it was built from.

    The ``store`` is the only file that the ``graph`` may take tensors from, wherever the
    graph's own file lies.

    Raises:
        DeviceMemoryError: The device is full.
        IntegrityError: The graph takes a tensor from elsewhere.
        EngineError: TensorRT refused a tensor, or weights are missing.
    """
    # Mapped until the copy to the device is done: the parser keeps addresses only.
    memory = (
        np.memmap(store, np.uint8, mode="r") if store.stat().st_size else np.empty(0, "u1")
    )
    _refit(library, engine, name, graph, store, _addresses(graph, store, memory))
    del memory  # the parser and the refitter are gone by now


def _refit(
    library: Library,
    engine: Any,
    name: str,
    graph: Path,
    store: Path,
    tensors: list[tuple[str, int, int]],
) -> None:
    trt = library.module
    model, beside_store = graph.read_bytes(), str(store.parent / graph.name)
    with library.listening() as heard:
        refitter = trt.Refitter(engine, library.logger)
        parser = trt.OnnxParserRefitter(refitter, library.logger)
        if hasattr(parser, "load_initializer"):
            taken = (
                parser.load_model_proto(model, beside_store)
                and all(parser.load_initializer(*tensor) for tensor in tensors)
                and parser.refit_model_proto()
            )
        else:
            taken = parser.refit_from_bytes(model, beside_store)
        if taken and refitter.refit_cuda_engine():
            return
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        missing = list(refitter.get_missing_weights())
        lacking = (
            f" {len(missing)} weights are missing, {missing[0]!r} first." if missing else ""
        )
        raise heard.error(
            f"graph {name!r}: TensorRT cannot put the weights of {graph} into its engine:"
            f" {' '.join(errors) or heard.text()}.{lacking} Build the engines again with"
            " `skipc finish`."
        )


def _addresses(
    graph: Path, store: Path, memory: NDArray[np.uint8]
) -> list[tuple[str, int, int]]:
    """Returns name, address and size of every tensor that ``graph`` takes from ``store``."""
    found = []
    for tensor in external_tensors(graph):
        end_bytes = tensor.offset_bytes + tensor.size_bytes
        if (
            tensor.location != store.name
            or not 0 <= tensor.offset_bytes <= end_bytes <= memory.size
        ):
            raise IntegrityError(
                f"{graph}: the tensor {tensor.name!r} is to lie in {tensor.location!r}, bytes"
                f" {tensor.offset_bytes} to {end_bytes}; expected a place in {store.name!r},"
                f" which has {memory.size} bytes. Copy the bundle again."
            )
        address = memory.ctypes.data + tensor.offset_bytes
        found.append((tensor.name, address, tensor.size_bytes))
    return found

"""The optimised files of one graph file: one for each graph that is a piece of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skipc.compiler.extras import require
from skipc.compiler.targets.cpu.optimized import optimize_graph
from skipc.compiler.targets.golden import check_outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.runtime.backends.onnxruntime.devices import Device
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import GraphEntry

    Case = dict[str, NDArray[Any]]
    Part = tuple[Path, Path]


def optimized_parts(
    bundle: Bundle,
    graphs: list[GraphEntry],
    inputs: list[Case],
    folder: Path,
    progress: Callable[[str], None],
    device: Device | None = None,
) -> tuple[list[Part], list[Case]]:
    """Returns each graph's optimised file with its data, and what the whole file gives.

    Args:
        bundle: The bundle.
        graphs: The graphs of one of its files, in the order in which they run.
        inputs: What to run the whole on.
        folder: An empty folder to write to.
        progress: Told where a cut has no place behind the optimiser.
        device: What is optimised for; None for the CPU, with packed weights.

    Returns:
        Outputs are missing where each piece was optimised by itself: its bits are its own.

    Raises:
        TargetError: ONNX Runtime cannot load or run the graph.
        IntegrityError: It answers something else than the manifest says.
    """
    whole = bundle.graph_file(graphs[0])
    made = optimize_graph(whole, folder, inputs, device=device)
    if len(graphs) == 1:
        check_outputs(graphs[0], made.outputs)
        return [(made.graph, made.data)], made.outputs
    require("onnx_ir", "finish")
    from skipc.compiler.targets.cpu.cut import cut_optimized, cut_portable

    parts = [(path, made.data) for path in cut_optimized(made.graph, graphs, folder)]
    if parts:
        return parts, made.outputs
    file = graphs[0].file
    progress(f"cutting {file} before it is optimised: fusions reach over an exit")
    cut = cut_portable(whole, graphs, folder)
    apart = [optimize_graph(path, path.parent, [], device=device) for path in cut]
    return [(each.graph, each.data) for each in apart], []

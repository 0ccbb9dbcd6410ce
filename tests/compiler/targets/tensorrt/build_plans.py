"""Run in a process of its own, once per TensorRT-RTX: parses graphs, builds every so-manyth.

Prints JSON: per graph the plan's size in bytes, 0 where none was built, or what went wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from skipc.compiler.errors import TargetError
from skipc.compiler.targets.options import TargetOptions
from skipc.compiler.targets.tensorrt.plan import PlanSettings, build_plan, parse
from skipc.runtime.backends.tensorrt.library import open_library
from skipc.runtime.bundle.tensors import Dimension

BATCH = (Dimension("N", 1, 2, 4),)


def main(every: int, graphs: list[Path]) -> None:
    library = open_library("tensorrt-rtx")
    settings = PlanSettings(
        TargetOptions(), BATCH, stripped=False, capabilities=("8.6", "12.0")
    )
    found: dict[str, int | str] = {}
    for number, graph in enumerate(graphs):
        try:
            network = parse(library, graph.stem, graph)
            if number % every:
                found[str(graph)] = 0
                continue
            plan = build_plan(library, graph.stem, network, settings, b"", lambda text: None)
            found[str(graph)] = memoryview(plan.data).nbytes
        except TargetError as cause:
            found[str(graph)] = str(cause)
    print(json.dumps({"version": library.version, "plans": found}))


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(word) for word in sys.argv[2:]])

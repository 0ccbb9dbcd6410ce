"""Run in a process of its own, once per TensorRT-RTX: builds a folder's graphs of a name.

Prints JSON: per graph the plan's size in bytes, or what went wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from skipc.compiler.errors import TargetError
from skipc.compiler.targets.options import TargetOptions
from skipc.compiler.targets.tensorrt.plan import PlanSettings, build_plan, parse
from skipc.runtime.backends.tensorrt.library import open_library
from skipc.runtime.bundle.tensors import BatchRange

BATCH = BatchRange(1, 2, 4)


def main(folder: Path, name: str) -> None:
    library = open_library("tensorrt-rtx")
    settings = PlanSettings(
        TargetOptions(), BATCH, stripped=False, capabilities=("8.6", "12.0")
    )
    found: dict[str, int | str] = {}
    for graph in sorted(folder.rglob(f"{name}.onnx")):
        place = graph.relative_to(folder).as_posix()
        try:
            network = parse(library, graph.stem, graph)
            plan = build_plan(library, graph.stem, network, settings, b"", lambda text: None)
            found[place] = memoryview(plan.data).nbytes
        except TargetError as cause:
            found[place] = str(cause)
    print(json.dumps({"version": library.version, "plans": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

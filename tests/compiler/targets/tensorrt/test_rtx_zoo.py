"""Real plans on a machine without a GPU: every network of the zoo, by two TensorRT-RTX."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from skipc.compiler.axes.precision import Precision
from tests.zoo import WITH_UNITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.zoo.files import Files

FP32, FP16, BF16 = Precision.FP32, Precision.FP16, Precision.BF16
OLDER = Path(sys.prefix) / "bindings/rtx-1.4.0.76"
SCRIPT = Path(__file__).with_name("build_plans.py")
SOME_IN_BF16 = ("torchvision-resnet", "linknet")


# Each parser sees every network, each network comes in both precisions. A plan takes a third
# of a second: the newer builds every other network, the older every third.
IN_NEWER = [(name, (FP32, FP16)[at // 2 % 2], "half") for at, name in enumerate(WITH_UNITS)]
IN_NEWER += [(name, FP32, "none") for name in SOME_IN_BF16]
IN_NEWER += [(name, BF16, "full") for name in SOME_IN_BF16]
IN_OLDER = [(name, (FP16, FP32)[at // 2 % 2], "half") for at, name in enumerate(WITH_UNITS)]
IN_OLDER += [(name, BF16, "half") for name in SOME_IN_BF16]


@pytest.mark.parametrize(
    ("version", "path", "subnets", "every"),
    [("1.7.1.116", None, IN_NEWER, 2), ("1.4.0.76", OLDER, IN_OLDER, 3)],
    ids=["newer", "older"],
)
def test_every_network_builds(
    version: str,
    path: Path | None,
    subnets: list[tuple[str, Precision, str]],
    every: int,
    zoo_files: Callable[[str, Precision], Files],
) -> None:
    graphs = [zoo_files(name, half).folder / f"{key}.onnx" for name, half, key in subnets]
    ended = subprocess.run(
        [sys.executable, SCRIPT, str(every), *graphs],
        env={**os.environ, "PYTHONPATH": "" if path is None else str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["version"] == version
    failed = {name: said for name, said in found["plans"].items() if isinstance(said, str)}
    assert failed == {}
    assert set(found["plans"]) == {str(graph) for graph in graphs}
    built = [graph for graph in graphs if found["plans"][str(graph)] > 0]
    assert built == graphs[::every]


def test_the_zoo_has_what_bf16_is_tried_on() -> None:
    assert set(SOME_IN_BF16) <= set(WITH_UNITS)

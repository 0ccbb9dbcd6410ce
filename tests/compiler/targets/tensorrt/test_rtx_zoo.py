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


# Each parser and builder sees every network; a plan takes a third of a second.
IN_NEWER = [(name, FP32, "half") for name in WITH_UNITS]
IN_NEWER += [(name, FP16, "full") for name in WITH_UNITS]
IN_NEWER += [(name, FP32, "none") for name in SOME_IN_BF16]
IN_NEWER += [(name, BF16, key) for name in SOME_IN_BF16 for key in ("full", "half")]
IN_OLDER = [(name, FP16, "half") for name in WITH_UNITS]
IN_OLDER += [(name, half, "half") for name in SOME_IN_BF16 for half in (FP32, BF16)]


@pytest.mark.parametrize(
    ("version", "path", "subnets"),
    [("1.7.1.116", None, IN_NEWER), ("1.4.0.76", OLDER, IN_OLDER)],
    ids=["newer", "older"],
)
def test_every_network_builds(
    version: str,
    path: Path | None,
    subnets: list[tuple[str, Precision, str]],
    zoo_files: Callable[[str, Precision], Files],
) -> None:
    graphs = [zoo_files(name, half).folder / f"{key}.onnx" for name, half, key in subnets]
    ended = subprocess.run(
        [sys.executable, SCRIPT, *graphs],
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


def test_the_zoo_has_what_bf16_is_tried_on() -> None:
    assert set(SOME_IN_BF16) <= set(WITH_UNITS)

"""Real plans on a machine without a GPU: every network of the zoo, by two TensorRT-RTX."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skipc.compiler.axes.precision import Precision
from skipc.compiler.bundle.weights import WeightStoreWriter
from skipc.compiler.bundle.writer import write_graph
from skipc.compiler.family import family_of
from tests.zoo import WITH_UNITS, exported

OLDER = Path(sys.prefix) / "bindings/rtx-1.4.0.76"
SCRIPT = Path(__file__).with_name("build_plans.py")
SOME_IN_BF16 = ("torchvision-resnet", "linknet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Subnets of the zoo: full, every second unit skipped, all of them; per precision."""
    root = tmp_path_factory.mktemp("zoo")
    for name in WITH_UNITS:
        graph, search = exported(name)
        family = family_of(graph)
        precisions = [Precision.FP32, Precision.FP16]
        precisions += [Precision.BF16] if name in SOME_IN_BF16 else []
        for precision in precisions:
            place = root / name / precision.value
            place.mkdir(parents=True)
            skips = {"full": (), "half": search.units[::2], "all": search.units}
            with WeightStoreWriter(place / "weights.bin") as store:
                for key, skipped in skips.items():
                    choices = {"skip": skipped, "precision": precision}
                    subnet = family.subnet(choices, key)
                    write_graph(subnet, key, store, place)
    return root


@pytest.mark.parametrize(
    ("version", "path", "graphs", "each"),
    [("1.7.1.116", None, "*", 3), ("1.4.0.76", OLDER, "half", 1)],
)
def test_every_network_builds(
    folder: Path, version: str, path: Path | None, graphs: str, each: int
) -> None:
    ended = subprocess.run(
        [sys.executable, SCRIPT, folder, graphs],
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
    assert len(found["plans"]) == each * (2 * len(WITH_UNITS) + len(SOME_IN_BF16))


def test_the_zoo_has_what_bf16_is_tried_on() -> None:
    assert set(SOME_IN_BF16) <= set(WITH_UNITS)

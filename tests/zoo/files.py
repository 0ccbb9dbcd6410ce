"""Subnets of the zoo's networks as files, written once for the tests of a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from skipc.compiler.axes.precision import Precision
from skipc.compiler.bundle.weights import WeightStoreWriter
from skipc.compiler.bundle.writer import write_graph
from skipc.compiler.family import family_of
from tests.zoo import exported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from skipc.compiler.family import Subnet


@dataclass(frozen=True)
class Files:
    """``NAME.onnx`` for each subnet: ``full``, ``half`` its units, in float32 ``none``."""

    folder: Path
    subnets: Mapping[str, Subnet]


def files_below(root: Path) -> Callable[[str, Precision], Files]:
    """Returns what writes a network's subnets in a precision, where it has not yet."""

    @cache
    def files(name: str, precision: Precision) -> Files:
        graph, search = exported(name)
        skips = {"full": ()}
        if search.units:
            skips["half"] = search.units[::2]
        if search.units and precision is Precision.FP32:
            skips["none"] = search.units
        family = family_of(graph)
        folder = root / name / precision.value
        folder.mkdir(parents=True)
        subnets = {}
        with WeightStoreWriter(folder / "weights.bin") as store:
            for key, units in skips.items():
                subnets[key] = family.subnet({"skip": units, "precision": precision}, key)
                write_graph(subnets[key], key, store, folder)
        return Files(folder, subnets)

    return files

"""One session for a family in int8: its configurations have one range for each stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest

from skipc.compiler.axes.precision import Precision
from skipc.compiler.axes.skip import SkipAxis, units_of
from skipc.compiler.configurations import Configuration, Part
from skipc.compiler.shared_ranges import shared_ranges, with_shared_ranges
from skipc.compiler.targets.cpu.numbered import NumberedGraph
from skipc.compiler.targets.cpu.one import Cutter, assembled
from skipc.compiler.targets.cpu.optimized import loadable, plain_outputs
from skipc.compiler.targets.cpu.switched import MASK, mask_of
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from tests.compiler.axes.test_int8 import calibrated, in_int8

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "precision", "some"),
    [
        ("torchvision-resnet", Precision.INT8, ()),  # one's stream goes through a projection
        ("bert-any-batch", Precision.INT8, ()),
        ("bert-any-batch", Precision.INT8_DYNAMIC, ()),
    ],
)
def test_a_mask_gives_the_bits_of_the_configurations_own_int8_graph(
    name: str, precision: Precision, some: tuple[str, ...], tmp_path: Path
) -> None:
    family, cases = calibrated(name)
    units = list(some or units_of(family).names)
    skips = {"full": [], "some": units[:1], "less": units[1:]}
    axis, offer = SkipAxis(), family.offers[SkipAxis.key]
    choices = {key: {"skip": axis.read(names, offer, "")} for key, names in skips.items()}
    configurations = [Configuration(n, (Part("", c, n),)) for n, c in choices.items()]
    told: list[str] = []
    shared = with_shared_ranges({"": family}, configurations, precision, told.append)
    assert len(told) == (3 if precision is Precision.INT8 else 0)
    for key, each in choices.items():
        model = in_int8(shared[""], each["skip"], precision).model
        ir.save(model, tmp_path / f"{key}.onnx")
    cutter = Cutter(tmp_path / "full.onnx", tmp_path)
    found = cutter.units(units)
    with cutter.without(skips["less"]) as cut:
        assert NumberedGraph(tmp_path / "less.onnx").same(NumberedGraph(cut))
    (tmp_path / "one").mkdir()
    full = loadable(cutter.whole, tmp_path / "one", cases[:1])
    one = assembled(full, cutter, found, mask_of(units), told.append)
    engine = OnnxRuntimeCpu({"one": one}, full.data.name, 1).load("one")
    for key, names in skips.items():
        mask = np.array([unit not in names for unit in units])
        (expected,) = plain_outputs(tmp_path / f"{key}.onnx", cases[:1], tmp_path)
        for output, array in engine.run({**cases[0], MASK: mask}).items():
            np.testing.assert_array_equal(array, expected[output])


def test_a_stream_has_one_range_and_tensors_that_hold_all_configurations() -> None:
    family, _ = calibrated("torchvision-resnet")
    (unit, *_) = units_of(family).units
    nodes = {str(node.outputs[0].name): node for node in family.network.model.graph}
    join = nodes[unit.join]
    shortcut = join.inputs[unit.shortcut]
    (relu,) = (user for user, _ in join.outputs[0].uses())
    assert shortcut is not None
    before, behind = str(shortcut.name), str(relu.outputs[0].name)
    a, b = np.float32(-1), np.float32(3)
    first = {before: (a * 0, b), behind: (a * 0, b * 2), "other": (a, b), "apart": (a, b)}
    found, rounded = shared_ranges(
        family.network.model, [unit], [first, {"other": (a * 4, b / 3)}]
    )
    assert found == {before: (0, 6), behind: (0, 6), "other": (-4, 3), "apart": (-1, 3)}
    assert not rounded
    # Rounding behind the join is its Relu, too: the range has to begin at 0.
    negative = {before: (a, b), behind: (a * 0, b * 2)}
    assert shared_ranges(family.network.model, [unit], [negative]) == (negative, {before})

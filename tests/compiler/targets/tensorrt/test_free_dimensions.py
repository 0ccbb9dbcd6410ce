"""TensorRT-RTX is given the ranges of free dimensions, told apart by the graph's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.errors import TargetError
from skipc.compiler.targets.options import TargetOptions
from skipc.compiler.targets.tensorrt.finish import build_engines
from skipc.compiler.targets.tensorrt.plan import PlanSettings, build_plan, parse, profile_of
from skipc.profiles import load_profile
from skipc.runtime import Bundle, Dimension, TensorSpec
from skipc.runtime.backends.tensorrt.library import open_library
from tests.bundles import write_bundle

if TYPE_CHECKING:
    from pathlib import Path

FREE = Dimension("N", 1, 2, 4), Dimension("H", 16, 32, 64), Dimension("W", 8, 8, 24)


def test_a_plan_is_built_for_the_range_of_every_dimension(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.full((4, 3, 3, 3), 0.1, np.float32), "w")
    conv = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, strides=[2, 2])
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 3, "H", "W"]), ("y", ["N", 4, "h", "w"]))
    ]
    graph = helper.make_graph([conv], "g", tensors[:1], tensors[1:], [weights])
    opset = [helper.make_opsetid("", 17)]
    path = tmp_path / "g.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    library = open_library("tensorrt-rtx")
    network = parse(library, "g", path)
    profile = profile_of(network, FREE)
    assert [*map(tuple, profile.get_shape("x"))] == [
        *((1, 3, 16, 8), (2, 3, 32, 8), (4, 3, 64, 24)),
    ]
    settings = PlanSettings(TargetOptions(), FREE, stripped=False, capabilities=("8.6",))
    assert memoryview(build_plan(library, "g", network, settings, b"", print).data).nbytes > 0


def test_an_output_of_unknown_size_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    images, found = (
        TensorSpec(name, "float32", (1, 3, size)) for name, size in (("x", "W"), ("y", "?"))
    )
    path = write_bundle(
        tmp_path / "b.skipc", inputs=(images,), outputs=(found,), dimensions=FREE[2:]
    )
    with pytest.raises(
        TargetError, match=r"'y' is float32 1x3x\[\?\], and with TensorRT a fr"
    ):
        build_engines(
            *(Bundle.open(path), load_profile("rtx"), TargetOptions()),
            *(tmp_path, print),
        )

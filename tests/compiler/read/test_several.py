"""Networks of one family: other names and sizes of inputs, other names of outputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from skipc.compiler.build import BuildOptions, build, plan_build
from skipc.compiler.errors import SupernetError
from skipc.compiler.graph.passes.feed_inputs import resizing
from skipc.compiler.network import Feed
from skipc.compiler.read import ModelOptions, Supernet, read_checkpoint
from skipc.compiler.read.several import fed_alike
from skipc.compiler.targets import finish
from skipc.runtime import AdaptiveEngine

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WEIGHTS = np.random.default_rng(0).normal(size=(3, 36)).astype(np.float32)


def _save(
    path: Path, names: tuple[str, str], shape: tuple[int, int, int, int], pooled: str = "p"
) -> Supernet:
    """Writes, and reads, a network with one layer on six columns and rows of each image."""
    taken, given = names
    pool = (shape[2] // 6, shape[3] // 6)
    nodes = [
        helper.make_node("AveragePool", [taken], [pooled], kernel_shape=pool, strides=pool),
        helper.make_node("Flatten", [pooled], ["f"]),
        helper.make_node("Gemm", ["f", "w"], [given], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info(taken, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(np.tile(WEIGHTS, (1, shape[1])), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opset), str(path))
    return read_checkpoint(path, ModelOptions())


@pytest.mark.parametrize(("found", "wanted"), [(16, 8), (15, 6), (7, 12), (9, 9)])
def test_what_graph_and_reference_resize_by_is_pytorchs(found: int, wanted: int) -> None:
    image = np.random.default_rng(0).normal(size=(2, 3, found, found + 1)).astype(np.float32)
    size = (wanted, 5)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image), size, mode="bilinear", antialias=True
    ).numpy()
    read = Feed("x", "y", size).read({"y": image})
    np.testing.assert_allclose(read, expected, atol=1e-5)
    product = resizing(found, wanted) @ image @ resizing(found + 1, 5).T
    np.testing.assert_allclose(product, expected, atol=1e-5)


def test_one_input_and_one_output_may_have_other_names(tmp_path: Path) -> None:
    sizes = {"a": (("x", "y"), (1, 1, 6, 12)), "b": (("images", "scores"), (1, 1, 24, 24))}
    files = {name: tmp_path / f"{name}.onnx" for name in sizes}
    read = {name: _save(files[name], *sizes[name]) for name in sizes}
    parts = [{"network": "a"}, {"network": "b"}]
    entries = [
        {"name": "first", "network": "a"},
        {"name": "both", "parts": parts, "tests": [{"threshold": 2.0}]},
    ]
    front = {"format": "skipc.front/2", "configurations": entries}
    (tmp_path / "front.json").write_text(json.dumps(front))
    made = build(plan_build(files, tmp_path / "front.json", BuildOptions()), read)
    finish(made, "cpu", lambda _: None)
    image = np.random.default_rng(1).normal(size=(1, 1, 24, 24)).astype(np.float32)

    def answer(side: tuple[int, int]) -> NDArray[np.float32]:
        smaller = torch.nn.functional.interpolate(
            torch.from_numpy(image), side, mode="bilinear", antialias=True
        )
        pool = torch.nn.functional.adaptive_avg_pool2d(smaller, 6)
        return pool.flatten(1).numpy() @ WEIGHTS.T

    with AdaptiveEngine.open(made, threads=1) as engine:
        for name, side in (("first", (6, 12)), ("both", (24, 24))):
            engine.pin(name)
            (given,) = engine({"images": image}).items()
            assert given[0] == "y"
            np.testing.assert_allclose(given[1], answer(side), atol=1e-5)


def test_a_name_that_a_tensor_inside_has_is_refused(tmp_path: Path) -> None:
    a = _save(tmp_path / "a.onnx", ("x", "y"), (1, 1, 6, 6))
    b = _save(tmp_path / "b.onnx", ("p", "y"), (1, 1, 12, 12), "q")
    fed = fed_alike({"a": a, "b": b})["a"]
    with pytest.raises(SupernetError, match="its input 'x' is to be called 'p' as the other"):
        fed.exported()

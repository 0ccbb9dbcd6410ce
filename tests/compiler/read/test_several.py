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
from skipc.compiler.errors import FrontError, SupernetError
from skipc.compiler.front import read_front
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
    path: Path,
    names: tuple[str, str],
    shape: tuple[int, int, int, int],
    pooled: str = "p",
    sure: bool = False,
) -> Supernet:
    """Writes, and reads, a network with one layer on six columns and rows of each image.

    ``sure`` adds an output of that name, of one number: the mean of the image.
    """
    taken, given = names
    pool = (shape[2] // 6, shape[3] // 6)
    nodes = [
        helper.make_node("AveragePool", [taken], [pooled], kernel_shape=pool, strides=pool),
        helper.make_node("Flatten", [pooled], ["f"]),
        helper.make_node("Gemm", ["f", "w"], [given], transB=1),
    ]
    ends = [helper.make_tensor_value_info(given, TensorProto.FLOAT, (1, 3))]
    if sure:
        nodes.append(helper.make_node("GlobalAveragePool", [taken], ["sure"]))
        ends.append(helper.make_tensor_value_info("sure", TensorProto.FLOAT, (1, 1, 1, 1)))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info(taken, TensorProto.FLOAT, shape)],
        ends,
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


def _of_value(tmp_path: Path, test: dict[str, object]) -> Path:
    """Builds a cascade of two networks with an output beside the scores."""
    names = {"a": (1, 1, 6, 12), "b": (1, 1, 24, 24)}
    files = {name: tmp_path / f"{name}.onnx" for name in names}
    read = {name: _save(files[name], ("x", "y"), shape, sure=True)
            for name, shape in names.items()}  # fmt: skip
    parts = [{"network": "a"}, {"network": "b"}]
    entries = [{"name": "both", "parts": parts, "tests": [test]}]
    front = {"format": "skipc.front/2", "configurations": entries}
    (tmp_path / "front.json").write_text(json.dumps(front))
    return build(plan_build(files, tmp_path / "front.json", BuildOptions()), read)


def test_a_cascade_may_stop_by_an_output_that_is_one_number(tmp_path: Path) -> None:
    test = {"output": "sure", "scores": {"value": -2.0}, "threshold": -1.0}
    made = _of_value(tmp_path, test)
    assert read_front(tmp_path / "front.json").configurations[0].tests[0].output == "sure"
    finish(made, "cpu", lambda _: None)
    image = np.random.default_rng(1).normal(size=(1, 1, 24, 24)).astype(np.float32)
    image -= image.mean()
    with AdaptiveEngine.open(made, threads=1) as engine:
        # Resizing keeps the mean of these, and -2 times it is compared with -1.
        for mean, stage in ((0.3, 0), (0.7, 1)):
            found = engine({"x": image + mean})
            assert engine.last is not None
            assert engine.last.stage == stage
            assert found["sure"].reshape(-1) == pytest.approx([mean], abs=0.05)


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ({"output": "shure", "scores": {"value": 1.0}}, "'shure' is no output. Did you mean"),
        ({"scores": {"value": 1.0}}, "value is of one number in each row, but 'y' is"),
        ({"output": "sure", "scores": {"margin": 1.0}}, "for each class in each row, but"),
        ({"scores": {"value": 1.0, "margin": 1.0}}, "or of 'value' alone, found"),
        ({"scores": {"agreement": 1.0}}, "'agreement' is with the answer before"),
    ],
)
def test_what_a_test_cannot_look_at_is_told(
    tmp_path: Path, test: dict[str, object], says: str
) -> None:
    with pytest.raises(FrontError, match=says):
        _of_value(tmp_path, {"threshold": 0.5, **test})


def test_a_name_that_a_tensor_inside_has_is_refused(tmp_path: Path) -> None:
    a = _save(tmp_path / "a.onnx", ("x", "y"), (1, 1, 6, 6))
    b = _save(tmp_path / "b.onnx", ("p", "y"), (1, 1, 12, 12), "q")
    fed = fed_alike({"a": a, "b": b})["a"]
    with pytest.raises(SupernetError, match="its input 'x' is to be called 'p' as the other"):
        fed.exported()

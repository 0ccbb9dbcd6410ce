"""ONNX files as others write them: old ones, open sizes, sizes that they compute, links."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from skipc.compiler.axes.units import find_units
from skipc.compiler.errors import CheckpointError, SupernetError
from skipc.compiler.network import Tolerance
from skipc.compiler.read import ModelOptions, read_checkpoint
from skipc.compiler.read.export import _same_as_file
from skipc.compiler.read.inputs import input_text, parse_input
from skipc.runtime.bundle.tensors import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.network import Network

FIXED = TensorSpec("x", "float32", (1, 4, 8, 8))
WEIGHT = np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32) * 0.2
BLOCK = [
    helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
    helper.make_node("Relu", ["c"], ["r"]),
    helper.make_node("Add", ["x", "r"], ["j"]),
]


def written(path: Path, sizes: Any, *more: Any, **parts: Any) -> Path:
    """Writes a residual block of a convolution, and what follows it, with some input sizes."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
    out = more[-1].output[0] if more else "j"
    y = helper.make_tensor_value_info(out, TensorProto.FLOAT, parts.get("out"))
    graph = helper.make_graph(
        [*BLOCK, *more],
        "g",
        [x, *parts.get("inputs", ())],
        [y],
        [numpy_helper.from_array(WEIGHT, "w"), *parts.get("constants", ())],
    )
    opset = helper.make_opsetid("", parts.get("opset", 13))
    model = helper.make_model(graph, ir_version=parts.get("ir", 8), opset_imports=[opset])
    save(model, path, **parts.get("saving", {}))
    return path


def network(path: Path, *inputs: TensorSpec) -> Network:
    return read_checkpoint(path, ModelOptions(inputs=inputs)).exported()


def answers(made: Network) -> np.ndarray[Any, Any]:
    case = {"x": np.ones((1, 4, 8, 8), np.float32)}
    return next(iter(made.reference.run([case])[0].values()))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray[Any, Any]:
    return answers(network(written(tmp_path_factory.mktemp("x") / "m.onnx", [1, 4, 8, 8])))


@pytest.mark.parametrize(
    "sizes",
    [[-1, 4, 8, 8], [0, 4, 0, -2], ["?", 4, "?", ""], [None, 4, None, 8], None, ["N"] * 4],
)
def test_open_sizes_are_given_however_they_are_written(
    tmp_path: Path, sizes: Any, expected: np.ndarray[Any, Any]
) -> None:
    path = written(tmp_path / "m.onnx", sizes)
    if sizes == ["N"] * 4:
        with pytest.raises(SupernetError, match="one size for every dimension called 'N'"):
            network(path, FIXED)
        return
    with pytest.raises(CheckpointError, match=r"--input x="):
        network(path)
    made = network(path, FIXED)
    assert len(find_units(made.model).units) == 1
    assert made.outputs[0].shape == (1, 4, 8, 8)
    assert np.array_equal(answers(made), expected)


def test_weights_that_are_inputs_are_none(
    tmp_path: Path, expected: np.ndarray[Any, Any]
) -> None:
    weight = helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4, 3, 3])
    old = written(tmp_path / "m.onnx", [1, 4, 8, 8], inputs=[weight], ir=3, opset=9)
    made = network(old)
    assert [spec.name for spec in made.inputs] == ["x"]
    assert np.array_equal(answers(made), expected)
    ir.save(made.model, tmp_path / "again.onnx")
    assert [value.name for value in ir.load(tmp_path / "again.onnx").graph.inputs] == ["x"]


def flattening() -> tuple[list[Any], list[Any]]:
    numbers = {"zero": 0, "one": 1, "rest": -1}
    constants = [numpy_helper.from_array(np.array([n]), name) for name, n in numbers.items()]
    return constants, [
        helper.make_node("Shape", ["j"], ["s"]),
        helper.make_node("Slice", ["s", "zero", "one"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["j", "t"], ["y"]),
    ]


def test_sizes_that_the_file_computes_are_known_once_the_inputs_are(tmp_path: Path) -> None:
    constants, nodes = flattening()
    path = written(
        tmp_path / "m.onnx",
        ["d0", 4, "d1", "w"],
        *nodes,
        constants=constants,
        out=["d2", "d3"],
    )
    made = network(path, FIXED)
    assert made.outputs == (TensorSpec("y", "float32", (1, 256)),)
    assert len(find_units(made.model).units) == 1
    assert "Shape" not in [node.op_type for node in made.model.graph]


def test_sizes_of_an_earlier_input_are_not_believed(tmp_path: Path) -> None:
    made = network(written(tmp_path / "m.onnx", ["n", 4, 8, 8], out=[9, 4, 8, 8]), FIXED)
    assert made.outputs[0].shape == (1, 4, 8, 8)


def test_a_single_number_is_an_input(tmp_path: Path) -> None:
    rate = helper.make_tensor_value_info("rate", TensorProto.FLOAT, [])
    path = written(
        tmp_path / "m.onnx", [1, 4, 8, 8], helper.make_node("Mul", ["j", "rate"], ["y"]),
        inputs=[rate],
    )  # fmt: skip
    spec = parse_input("rate=:float32")
    assert (spec.shape, input_text(spec)) == ((), "rate=:float32")
    made = network(path, FIXED, spec)
    (case,) = made.reference.run(
        [{"x": np.ones((1, 4, 8, 8), "f4"), "rate": np.zeros((), "f4")}]
    )
    assert not case["y"].any()


# --- weights beside the file


def beside(folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True)
    saving = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0}
    return written(folder / "m.onnx", [1, 4, 8, 8], saving=saving), folder / "m.data"


def test_weights_may_be_linked_to_as_a_hub_keeps_them(
    tmp_path: Path, expected: np.ndarray[Any, Any]
) -> None:
    model, data = beside(tmp_path / "snapshots" / "abc")
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for path, blob in ((model, "11"), (data, "22")):
        path.rename(blobs / blob)
        path.symlink_to(f"../../blobs/{blob}")
    assert np.array_equal(answers(network(model)), expected)


def test_weights_may_have_several_names(
    tmp_path: Path, expected: np.ndarray[Any, Any]
) -> None:
    model, data = beside(tmp_path / "a")
    os.link(data, tmp_path / "other")
    assert np.array_equal(answers(network(model)), expected)


def missing(data: Path) -> None:
    data.unlink()


def elsewhere(data: Path) -> None:
    data.rename(data.parent.parent / "m.data")
    data.symlink_to("../m.data")


def truncated(data: Path) -> None:
    data.write_bytes(data.read_bytes()[:100])


def a_folder(data: Path) -> None:
    data.unlink()
    data.mkdir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (missing, r"there is no such file. Copy it, too"),
        (elsewhere, "outside of the model's folder"),
        (truncated, "whose 100 bytes do not hold it"),
        (a_folder, "which is no file"),
    ],
)
def test_weights_that_cannot_be_read_are_told_apart(
    tmp_path: Path, change: Any, said: str
) -> None:
    model, data = beside(tmp_path / "a")
    change(data)
    with pytest.raises(CheckpointError, match=said):
        network(model)


def test_a_form_that_answers_otherwise_stops(tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", [1, 4, 8, 8])
    original, other = ir.load(path), ir.load(path)
    other.graph.initializers["w"].const_value = ir.tensor(WEIGHT * 1.01)
    case = {"x": np.ones((1, 4, 8, 8), np.float32)}
    _same_as_file(original, ir.load(path), path, Tolerance(1e-4))([case])
    with pytest.raises(
        SupernetError, match=r"m.onnx: brought into .* differ from the file itself"
    ):
        _same_as_file(original, other, path, Tolerance(1e-4))([case])

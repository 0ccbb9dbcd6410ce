"""A route over pieces of a real network, on ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skipc.runtime import AdaptiveEngine, Dimension, OperatingPoint, TensorSpec
from skipc.runtime.backends.onnxruntime.cpu import OnnxRuntimeCpu
from skipc.runtime.bundle.route import Stage, Test
from skipc.runtime.call.tests import score
from skipc.runtime.errors import ChoiceError
from skipc.runtime.load.opening import Family

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

INPUTS = (TensorSpec("images", "float32", ("N", 3, 8, 8)),)
OUTPUTS = (TensorSpec("logits", "float32", ("N", 4)),)
HIDDEN = (TensorSpec("hidden", "float32", ("N", 6, 8, 8)),)
LOGITS = {n: (TensorSpec(f"logits{n}", "float32", ("N", 4)),) for n in (0, 1)}


class Graph(NamedTuple):
    """What a graph takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


GRAPHS = {
    "start": Graph(INPUTS, LOGITS[0] + HIDDEN),
    "rest": Graph(HIDDEN, LOGITS[1]),
    "whole": Graph(INPUTS, LOGITS[1]),
}
RNG = np.random.default_rng(0)
WEIGHTS = {
    "stem": RNG.normal(0, 0.5, (6, 3, 3, 3)).astype(np.float32),
    "body": RNG.normal(0, 0.5, (6, 6, 3, 3)).astype(np.float32),
    "head0": RNG.normal(0, 2.0, (6, 4)).astype(np.float32),
    "head1": RNG.normal(0, 2.0, (6, 4)).astype(np.float32),
}
SURE = Test("logits0", {"max-softmax": 1.0}, 0.8)
PIECES = (
    Stage("start", answers={"logits": "logits0"}, test=SURE),
    Stage("rest", {"hidden": "0.hidden"}, answers={"logits": "logits1"}),
)


def head(value: str, number: int) -> list[onnx.NodeProto]:
    return [
        helper.make_node("GlobalAveragePool", [value], [f"pooled{number}"]),
        helper.make_node("Flatten", [f"pooled{number}"], [f"flat{number}"]),
        helper.make_node("MatMul", [f"flat{number}", f"head{number}"], [f"logits{number}"]),
    ]


def conv(value: str, weight: str, result: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Conv", [value, weight], [f"{weight}ed"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", [f"{weight}ed"], [result]),
    ]


def write(path: Path, nodes: list[onnx.NodeProto], given: Sequence[TensorSpec], *gives: str):
    read = {name for node in nodes for name in node.input}
    shapes = {"hidden": ["N", 6, 8, 8], "logits0": ["N", 4], "logits1": ["N", 4]}
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(s.name, TensorProto.FLOAT, s.shape) for s in given],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in gives],
        [numpy_helper.from_array(a, n) for n, a in WEIGHTS.items() if n in read],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pieces")
    start, rest = conv("images", "stem", "hidden"), conv("hidden", "body", "deep")
    found = {name: folder / f"{name}.onnx" for name in ("start", "rest", "whole")}
    write(found["start"], [*start, *head("hidden", 0)], INPUTS, "logits0", "hidden")
    write(found["rest"], [*rest, *head("deep", 1)], HIDDEN, "logits1")
    write(found["whole"], [*start, *rest, *head("deep", 1)], INPUTS, "logits1")
    return found


def opened(files: dict[str, Path]) -> AdaptiveEngine:
    points = [
        OperatingPoint("pieces", 0.9, 1.0, 2.0, upto_ms=(1.0, 2.0)),
        OperatingPoint("whole", 0.8, 2.0, 2.0),
        OperatingPoint("early", 0.7, 1.0, 1.0),
    ]
    early = Stage("start", answers={"logits": "logits0"})
    whole = Stage("whole", answers={"logits": "logits1"})
    routes = {"pieces": PIECES, "whole": (whole,), "early": (early,)}
    family = Family(routes, OUTPUTS, GRAPHS)
    backend = OnnxRuntimeCpu(files, "", 1)
    return AdaptiveEngine(
        points, INPUTS, backend, dimensions=(Dimension("N", 1, 1, 16),), family=family
    )


def test_a_point_must_know_the_stages_of_its_route(files: dict[str, Path]) -> None:
    family = Family({"pieces": PIECES}, OUTPUTS, GRAPHS)
    points = [OperatingPoint("pieces", 0.9, 1.0, 2.0)]
    backend = OnnxRuntimeCpu(files, "", 1)
    with pytest.raises(ChoiceError, match=r"'pieces': upto_ms has 0 numbers, .* 2 stages"):
        AdaptiveEngine(
            points, INPUTS, backend, dimensions=(Dimension("N", 1, 1, 16),), family=family
        )


def answers(engine: AdaptiveEngine, configuration: str, images: np.ndarray) -> np.ndarray:
    engine.pin(configuration)
    found: np.ndarray = engine(images)
    return found


def test_every_row_gets_the_answer_of_the_stage_that_it_stops_at(
    files: dict[str, Path],
) -> None:
    images = np.random.default_rng(1).normal(size=(16, 3, 8, 8)).astype(np.float32)
    images *= np.linspace(0.01, 1, 16, dtype=np.float32)[:, None, None, None]
    with opened(files) as engine:
        early = answers(engine, "early", images)
        late = answers(engine, "whole", images)
        stops = score(SURE, early) >= SURE.threshold
        assert 2 < stops.sum() < 14
        found = answers(engine, "pieces", images)
        assert found.shape == (16, 4)
        np.testing.assert_allclose(
            found, np.where(stops[:, None], early, late), rtol=1e-4, atol=1e-5
        )
        for row in range(16):
            alone = answers(engine, "pieces", images[row : row + 1])
            np.testing.assert_array_equal(alone[0], found[row])
            assert engine.last is not None
            assert engine.last.stage == (0 if stops[row] else 1)


def test_a_renamed_answer_is_the_graphs_own_array(files: dict[str, Path]) -> None:
    images = np.zeros((2, 3, 8, 8), np.float32)
    with opened(files) as engine:
        engine.pin("whole")
        assert list(engine({"images": images})) == ["logits"]
        engine.pin("early")
        assert list(engine({"images": images})) == ["logits"]  # and not what it hands on

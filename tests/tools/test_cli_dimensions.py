"""Free dimensions from the command line to a call: an ONNX supernet of open sizes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from skipc.runtime import AdaptiveEngine, Bundle, InputError
from skipc.runtime.load.points import operating_points
from skipc.tools.report.sections import sizes
from skipc.tools.report.study import read_study
from tests.command_line import skipc, told, trtbench

if TYPE_CHECKING:
    from pathlib import Path

DIMS = ("--dim", "H=6:9:15", "--dim", "W=6:8:12")
FREE = ("--input", "Nx2xHxW", "--batch", "1:1:3", *DIMS)


def write_net(path: Path) -> None:
    """Writes two residual convolutions behind one that halves height and width."""
    random, nodes, weights = np.random.default_rng(0), [], []

    def convolved(x: str, name: str, *shape: int, **attributes: object) -> str:
        kernel = random.normal(size=shape).astype(np.float32) / 4
        weights.append(numpy_helper.from_array(kernel, f"{name}.weight"))
        inputs = [x, f"{name}.weight"]
        nodes.append(helper.make_node("Conv", inputs, [name], f"/{name}/Conv", **attributes))
        return name

    x = convolved("images", "stem", 8, 2, 3, 3, pads=[1] * 4, strides=[2, 2])
    for unit in ("a", "b"):
        branch = convolved(x, unit, 8, 8, 3, 3, pads=[1] * 4)
        nodes.append(helper.make_node("Relu", [branch], [f"{unit}.relu"], f"/{unit}/Relu"))
        nodes.append(helper.make_node("Add", [x, f"{unit}.relu"], [f"{unit}.sum"]))
        x = f"{unit}.sum"
    nodes.append(helper.make_node("Identity", [x], ["map"]))
    nodes.append(helper.make_node("ReduceMean", [x], ["mean"], axes=[2, 3], keepdims=0))
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 2, "h", "w"])
    made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("map", "mean")]
    graph = helper.make_graph(nodes, "net", [given], made, weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dims")
    write_net(folder / "net.onnx")
    entries = [{"name": "full"}, {"name": "fast", "skip": ["a"]}]
    document = {"format": "skipc.front/2", "configurations": entries}
    (folder / "front.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def built(folder: Path) -> Path:
    words = ("build", folder / "net.onnx", "--front", folder / "front.json", *FREE)
    ended = skipc(*words, "--target", "cpu", "--out", folder / "net.skipc")
    assert ended.code == 0, ended.err
    return folder / "net.skipc"


def test_every_size_of_the_ranges_runs_as_the_file_does(built: Path, folder: Path) -> None:
    session = onnxruntime.InferenceSession(folder / "net.onnx")
    random = np.random.default_rng(1)
    with AdaptiveEngine.open(built) as engine:
        for shape in ((1, 2, 6, 6), (3, 2, 15, 12), (2, 2, 11, 7), (1, 2, 9, 8)):
            images = random.normal(size=shape).astype(np.float32)
            found = engine({"images": images})
            for name, wanted in zip(
                ("map", "mean"), session.run(None, {"images": images}), strict=True
            ):
                assert found[name].shape == wanted.shape
                np.testing.assert_allclose(found[name], wanted, atol=1e-5)
        with pytest.raises(InputError, match=r"N from 1 to 3 and H from 6 to 15 and W from"):
            engine(np.zeros((1, 2, 16, 8), np.float32))


def test_the_manifest_names_what_is_free_and_the_tables_have_their_ends(built: Path) -> None:
    bundle = Bundle.open(built)
    manifest = bundle.manifest
    assert [each.range for each in manifest.dimensions] == ["1:1:3", "6:9:15", "6:8:12"]
    shapes = {spec.name: spec.shape for spec in manifest.outputs}
    assert shapes == {"map": ("N", 8, "?", "?"), "mean": ("N", 8)}
    assert {graph.verification.inputs for graph in manifest.graphs} == {5}
    macs = {graph.name: graph.macs for graph in manifest.graphs}
    assert macs["full"] == 5 * 4 * 8 * 9 * (2 + 8 + 8)  # typical: 9 x 8, halved
    (full, fast) = operating_points(manifest, bundle.engine_set("cpu"), 1)
    ends = [(3, 9, 8), (1, 6, 8), (1, 9, 6), (1, 15, 8), (1, 9, 12), (1, 6, 6), (3, 15, 12)]
    assert sorted(at.sizes for at in full.by_size) == sorted(ends)
    assert {at.sizes for at in fast.by_size} == set(ends)
    shown = skipc("show", built)
    assert "size H   6 to 15, typically 9" in shown.out
    told = " ".join(shown.out.split())
    assert "at NxHxW 1x6x8 1x9x6 3x9x8 1x15x8 1x9x12 1x6x6 3x15x12" in told


def test_check_and_trtbench_take_them(built: Path) -> None:
    assert skipc("check", built).code == 0
    shape = ("--shapes", "2x2x7x12", "--iterations", "2", "--duration", "0", "--warmUp", "0")
    assert trtbench(built, *shape).code == 0


def test_the_report_has_a_table_of_sizes(built: Path) -> None:
    study = read_study(built, (), built.with_suffix(".html"))
    page = str(sizes.section(study).content)
    assert "cpu, 1 thread: median in ms by NxHxW" in page
    assert "1x9x8, typical" in page
    assert "3x15x12" in page


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("--input", "1x2xHx8"),
            "'H', but its sizes are not given. Add --dim H=",
        ),
        (("--dim", "T=1:2:3", *FREE), "no input has a dimension 'T': Nx2xHxW"),
        ((*FREE, "--dim", "H=1:2:3"), "--dim H, given twice"),
        ((*FREE, "--dim", "N=1:2:3"), "--batch and --dim N are the same, given twice"),
        (("--dim", "H=9:6:15"), "needs 1 <= MIN <= TYPICAL <= MAX, found 9, 6, 15"),
        (("--dim", "H=8:12:18:4"), "must be multiples of STEP, found 8, 12, 18 and 4"),
        (
            ("--dim", "H=8"),
            "numbers. Write it as H=MIN:TYPICAL:MAX, e.g. H=16",
        ),
        (("--dim", "16:32:64"), "'16:32:64' is no name of a dimension"),
        (("--input", "1x2x1xN"), "'N' is the batch and stands first"),
    ],
)
def test_mistakes_are_told(folder: Path, words: tuple[str, ...], says: str) -> None:
    ended = skipc("units", folder / "net.onnx", *words)
    assert says in told(ended)


def test_an_onnx_file_that_does_not_run_at_the_ends_is_told(tmp_path: Path) -> None:
    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, "w"]), ("y", None))
    )
    table = numpy_helper.from_array(np.ones((1, 8), np.float32), "places")
    node = helper.make_node("Add", ["x", "places"], ["y"])
    graph = helper.make_graph([node], "net", [given], [made], [table])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "n.onnx")
    said = told(skipc("units", tmp_path / "n.onnx", "--dim", "w=4:8:12"))
    assert "n.onnx: does not run at all ends of --dim w=4:8:12: " in said
    assert "a fourth number is a step" in said

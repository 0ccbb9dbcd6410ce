"""``skipc build --prologue``: bundles that take a camera's bytes, or what a client sends."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn.functional import interpolate

from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from skipc.runtime.errors import ChoiceError
from skipc.tools.report.page import page_of
from skipc.tools.report.study import read_study
from tests.command_line import mistake, skipc

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

STEPS = "uint8-nhwc,mean=0.2,std=0.5,resize=12x10"
ROUTED = "routed-0.3"


@pytest.fixture(scope="module")
def camera(with_exits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose bundle takes bytes, 12 by 10; its network is that of ``with_exits``."""
    here = shutil.copytree(with_exits, tmp_path_factory.mktemp("camera") / "here")
    path, bundle = here / "front.json", here / "ckpt.skipc"
    front = json.loads(path.read_text())
    front["configurations"] = [
        one for one in front["configurations"] if one["name"] in ("full", "early")
    ]
    path.write_text(json.dumps(front))
    asked = ("--samples", 60, "--ways", "full,early", "--drop", "0.3")
    found = skipc("router", bundle, "--front", path, "--data", "digits", *asked)
    assert found.code == 0, found.err
    more = ("--overwrite", "--prologue", STEPS)
    ended = skipc("build", here / "ckpt.pt", "--front", path, "--target", "cpu", *more)
    assert ended.code == 0, ended.err
    return here


def _prepared(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns what a user would compute before the call, with PyTorch."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    small = interpolate(images, (8, 8), mode="bilinear", antialias=True, align_corners=False)
    prepared: NDArray[np.float32] = ((small - 0.2) / 0.5).numpy()
    return prepared


def test_an_engine_takes_bytes(camera: Path, with_exits: Path) -> None:
    bundle = Bundle.open(camera / "ckpt.skipc")
    assert [spec.kind for spec in bundle.manifest.inputs] == ["uint8 1x12x10x1"]
    random = np.random.default_rng(0)
    with (
        AdaptiveEngine.open(camera / "ckpt.skipc") as engine,
        AdaptiveEngine.open(with_exits / "ckpt.skipc") as plain,
    ):
        for _ in range(5):
            pixels = random.integers(0, 256, (1, 12, 10, 1), np.uint8)
            answers, ways = {}, {}
            for name in engine.configurations:
                engine.pin(name)
                answers[name] = engine(pixels)
                assert engine.last is not None
                ways[name] = engine.last.route[0]
            for name in ("full", "early"):
                plain.pin(name)
                expected = plain(_prepared(pixels))
                np.testing.assert_allclose(answers[name], expected, rtol=1e-3, atol=1e-3)
                assert plain.last is not None
                assert plain.last.route[0] == ways[name]
            way = answers["full" if ways[ROUTED] == "full.later" else "early"]
            np.testing.assert_allclose(answers[ROUTED], way, rtol=1e-5, atol=1e-5)


def test_it_is_computed_once_a_call(camera: Path) -> None:
    manifest = Bundle.open(camera / "ckpt.skipc").manifest
    for entry in manifest.configurations:
        first, *others = (manifest.graph(stage.graph) for stage in entry.route)
        assert first.inputs == manifest.inputs
        assert all(spec.dtype == "float32" for graph in others for spec in graph.inputs)
    assert manifest.configuration(ROUTED).route[1].feeds == {
        "images.prologue": "0.images.prologue"
    }
    assert skipc("check", camera / "ckpt.skipc").code == 0


def test_it_is_told(camera: Path, tmp_path: Path) -> None:
    manifest = Bundle.open(camera / "ckpt.skipc").manifest
    assert manifest.prologue is not None
    assert manifest.prologue.text == STEPS
    said = f"{STEPS}, gives float32 1x1x8x8, in the graphs"
    assert said in skipc("show", camera / "ckpt.skipc", columns=200).out
    page = page_of(read_study(camera / "ckpt.skipc", [], tmp_path / "page.html"))
    assert said in "".join(str(each.content) for each in page.sections)


def test_int8_is_calibrated_on_what_the_network_takes(
    with_exits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8.skipc"
    front = tmp_path / "front.json"
    front.write_text('{"format": "skipc.front/2", "configurations": [{"name": "full"}]}')
    asked = (
        "build",
        with_exits / "ckpt.pt",
        "--front",
        front,
        "--target",
        "cpu",
        "--out",
        out,
    )
    int8 = ("--precision", "int8", "--calibrate", "digits")
    ended = skipc(*asked, *int8, "--prologue", "uint8-nchw,scale=16")
    assert ended.code == 0, ended.err
    pixels = np.random.default_rng(1).integers(0, 17, (1, 1, 8, 8), np.uint8)
    with (
        AdaptiveEngine.open(out) as engine,
        AdaptiveEngine.open(with_exits / "ckpt.skipc") as plain,
    ):
        plain.pin("full")
        wanted = plain(pixels.astype(np.float32) / 16)
        assert np.abs(engine(pixels) - wanted).max() < 0.1 * np.ptp(wanted)
    _write(tmp_path / "own.onnx", "Relu")
    again = ("--overwrite", "--prologue", tmp_path / "own.onnx")
    assert "--data" in mistake(*asked, *int8, *again)


def _write(path: Path, operator: str, size: int = 8, **attributes: Any) -> None:
    """Writes images plus what an operator makes of a weight of theirs; an old opset."""
    kind = ("N", 1, size, size)
    weight = np.random.default_rng(2).random((1, 1, size, size), np.float32)
    nodes = [
        helper.make_node("Mul", ["pixels", "weight"], ["product"]),
        helper.make_node(operator, ["product"], ["made"], **attributes),
        helper.make_node("Add", ["pixels", "made"], ["given"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, kind)
        for name in ("pixels", "given")
    ]
    held = [numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph(nodes, "own", ends[:1], ends[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)


def test_any_graph_goes_in_front(made: Path, tmp_path: Path) -> None:
    own, out, front = (tmp_path / name for name in ("own.onnx", "own.skipc", "front.json"))
    _write(own, "HardSigmoid", alpha=0.5)
    fine = {"name": "fine", "parts": [{"resolution": 6}, {}], "tests": [{"threshold": 0.5}]}
    document = {"format": "skipc.front/2", "configurations": [{"name": "full"}, fine]}
    front.write_text(json.dumps(document))
    asked = ("--front", front, "--target", "cpu", "--out", out, "--prologue", own)
    rows = ("--input", "Nx1x8x8", "--batch", "1:2:3")
    ended = skipc("build", made / "ckpt.pt", *asked, *rows)
    assert ended.code == 0, ended.err
    pixels = np.random.default_rng(3).random((3, 1, 8, 8), np.float32)
    (given,) = onnxruntime.InferenceSession(own).run(None, {"pixels": pixels})
    with AdaptiveEngine.open(out) as engine, AdaptiveEngine.open(made / "ckpt.skipc") as plain:
        plain.pin("full")
        wanted = np.concatenate([plain(row[None]) for row in given])
        engine.pin("full")
        found = engine({"pixels": pixels})["output"]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
        engine.pin("fine")
        for name, answer, row in zip(*_ways(engine, pixels), wanted, strict=True):
            if name == "full.later":
                np.testing.assert_allclose(answer, row, rtol=1e-3, atol=1e-3)
    assert skipc("check", out).code == 0


def _ways(engine: AdaptiveEngine, pixels: NDArray[np.float32]) -> tuple[list[str], Any]:
    """Returns by row of a batch what answered it, and the answers."""
    answers = engine({"pixels": pixels})["output"]
    assert engine.last is not None
    ways = list(engine.last.route)
    assert "full.later" in ways
    return ways, answers


@pytest.fixture(scope="module")
def apart(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose prologue, apart, adds noise to images."""
    here = tmp_path_factory.mktemp("apart")
    _write(here / "noise.onnx", "RandomNormalLike", mean=1.0, scale=0.5)
    ended = skipc(
        *("build", made / "ckpt.pt", "--front", made / "front.json", "--target", "cpu"),
        *(
            "--prologue",
            here / "noise.onnx",
            "--prologue-apart",
            "--out",
            here / "apart.skipc",
        ),
    )
    assert ended.code == 0, ended.err
    return here / "apart.skipc"


def test_a_client_draws_what_the_server_never_sees(apart: Path, made: Path) -> None:
    images = np.random.default_rng(4).random((1, 1, 8, 8), np.float32)
    with (
        AdaptiveEngine.open(apart, part="client") as client,
        AdaptiveEngine.open(apart, part="server") as server,
        AdaptiveEngine.open(made / "ckpt.skipc") as plain,
    ):
        noise = np.full_like(images, 0.25)
        fixed = client({"pixels": images, "noise.0": noise})["given"]
        np.testing.assert_array_equal(fixed, images + noise)
        sent = np.stack([client(images) for _ in range(100)]) - images
        assert abs(sent.mean() - 1.0) < 0.05
        assert abs(sent.std() - 0.5) < 0.05
        assert not np.array_equal(sent[0], sent[1])
        for name in server.configurations:
            server.pin(name)
            plain.pin(name)
            np.testing.assert_array_equal(server(fixed), plain(fixed))
    for path in (apart, apart / "client"):
        assert skipc("check", path).code == 0
    np.save(apart.parent / "images.npy", images)
    assert skipc("run", apart / "client", apart.parent / "images.npy").code == 0
    assert "by the client: client/" in skipc("show", apart).out
    assert "with normal noise" in skipc("show", apart / "client").out


def test_which_part_is_said(apart: Path, made: Path) -> None:
    with pytest.raises(ChoiceError, match="part='client' where inputs are"):
        AdaptiveEngine.open(apart)
    with pytest.raises(ChoiceError, match="has one part alone"):
        AdaptiveEngine.open(made / "ckpt.skipc", part="client")


@pytest.mark.parametrize(
    ("prologue", "said"),
    [
        (["uint8-hwc"], "no layout"),
        (["uint8-nhwc,imagenets"], "'imagenets' is no step"),
        (["uint8-nhwc,imagenet,std=1"], "'std=1' says 'std' once more"),
        (["uint8-nhwc,std=0"], "numbers above 0"),
        (["uint8-nhwc,mean=a"], "one or one for each channel"),
        (["uint8-nhwc,resize=12"], "resize=480x640"),
        (["uint8-nhwc,imagenet"], "3 numbers of 'mean', but the network's images have 1"),
        (["nowhere.onnx"], "no such file"),
        (["front.json.onnx"], "is a JSON text"),
        (["large.onnx"], "gives 'given' as float32 1x1x9x9, but the network takes 'images'"),
        (["noise.onnx"], "--prologue-apart"),
        (["seeded.onnx", "--prologue-apart"], "draws from the fixed seed 3"),
        (["dropped.onnx", "--prologue-apart"], "draws random numbers (Multinomial)"),
    ],
)
def test_what_is_no_prologue_is_told(
    prologue: list[str], said: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "front.json.onnx").write_text("{}")
    _write(tmp_path / "large.onnx", "Relu", size=9)
    _write(tmp_path / "noise.onnx", "RandomUniformLike")
    _write(tmp_path / "seeded.onnx", "RandomUniformLike", seed=3.0)
    _write(tmp_path / "dropped.onnx", "Multinomial")
    asked = ("build", made / "ckpt.pt", "--front", made / "front.json", "--target", "cpu")
    asked = (*asked, "--out", tmp_path / "out.skipc")
    assert said in mistake(*asked, "--prologue", *prologue)
    assert not (tmp_path / "out.skipc").exists()


def test_what_is_apart_is_something(made: Path, tmp_path: Path) -> None:
    asked = ("build", made / "ckpt.pt", "--front", made / "front.json", "--target", "cpu")
    out = ("--out", tmp_path / "out.skipc")
    assert "there is no prologue" in mistake(*asked, *out, "--prologue-apart")

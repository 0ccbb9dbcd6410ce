"""Resolutions: what a configuration answers is the network's answer to a smaller image."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from skipc.compiler.axes.resolution import ResolutionAxis
from skipc.compiler.errors import FrontError, SupernetError
from skipc.compiler.family import open_family
from skipc.compiler.heads import Head, write_heads
from skipc.compiler.read import OnnxSupernet, ProgramSupernet, TorchSupernet
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.read.resized import resized
from skipc.compiler.recipes.resnet import ResNet
from skipc.compiler.recipes.vit import ViT
from skipc.compiler.select.data import DataOptions, read_data
from skipc.compiler.verify.onnx_reference import run_graph
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.command_line import mistake, skipc
from tests.zoo.library_nets import build

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HEAD = "stages.0.0"
CONFIGURATIONS: list[dict[str, Any]] = [
    {"name": "full"},
    {"name": "mid", "resolution": 6},
    {"name": "low", "resolution": [6, 6], "skip": ["stages.1.1"]},
    {"name": "half", "resolution": 6, "precision": "fp16"},
    {"name": "ends", "resolution": 6, "exits": [HEAD]},
    {
        "name": "route",
        "parts": [{"resolution": 6}, {}],
        "tests": [{"threshold": 0.18}],
    },
]
ARGUMENTS: dict[str, Any] = {"widths": [4, 8], "depths": [1, 2], "drop": 0.0}
INPUTS = (TensorSpec("images", "float32", ("N", 1, 8, 8)),)
BATCH = (Dimension("N", 1, 2, 400),)


@pytest.fixture(scope="module")
def network() -> ResNet:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        found = ResNet(**ARGUMENTS).eval()
        for parameter in found.parameters():
            parameter.normal_(std=0.3)
    return found


@pytest.fixture(scope="module")
def folder(network: ResNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, its head, and a bundle with statistics of its own for each resolution."""
    folder = tmp_path_factory.mktemp("resolution")
    file = CheckpointFile("skipc:resnet", ARGUMENTS, network.state_dict(), INPUTS, BATCH)
    save_checkpoint(folder / "ckpt.pt", file)
    weight = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    head = Head(HEAD, weight, np.zeros(10, np.float32), 0.5, 1.0)
    write_heads(folder / "ckpt.pt", [head])
    _write_front(folder, CONFIGURATIONS)
    ended = skipc(
        *("build", folder / "ckpt.pt", "--front", folder / "front.json", "--target", "cpu"),
        *("--norm", "full", "--reestimate", "digits"),
    )
    assert ended.code == 0, ended.err
    return folder


def _write_front(folder: Path, configurations: list[dict[str, Any]]) -> None:
    front = {"format": "skipc.front/2", "configurations": configurations}
    (folder / "front.json").write_text(json.dumps(front))


def _torch(module: nn.Module, inputs: tuple[TensorSpec, ...] = INPUTS) -> TorchSupernet:
    batch = BATCH if inputs[0].shape[0] == "N" else ()
    return TorchSupernet(module.eval(), inputs, batch, None, "net", {})


def _family(module: nn.Module) -> Any:
    return open_family(_torch(module))


def _at(images: NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
    return interpolate(torch.from_numpy(images), size, mode="bilinear", antialias=True)


def _estimated(network: ResNet, size: tuple[int, int]) -> ResNet:
    """Returns the network with the statistics that PyTorch itself finds at a size."""
    samples = read_data(DataOptions("digits"), INPUTS).parts.reestimate.inputs["images"]
    made = ResNet(**ARGUMENTS)
    made.load_state_dict(network.state_dict())
    seen: dict[nn.Module, int] = {}

    def count(module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        seen[module] = inputs[0].numel() // inputs[0].shape[1]

    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.register_forward_pre_hook(count)
    with torch.no_grad():
        made.train()(_at(samples, size))
        for module, numbers in seen.items():
            # PyTorch normalises with the biased variance, and keeps the unbiased one.
            module.running_var *= (numbers - 1) / numbers
    return made.eval()


def test_each_answers_as_the_network_does_at_its_resolution(
    network: ResNet, folder: Path
) -> None:
    images = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)
    mid, full = _estimated(network, (6, 6)), _estimated(network, (8, 8))
    with torch.no_grad():
        wanted = {"mid": mid(_at(images, (6, 6))), "full": full(torch.from_numpy(images))}
    with AdaptiveEngine.open(folder / "ckpt.skipc", threads=1) as engine:
        for name, answer in wanted.items():
            engine.pin(name)
            found = torch.from_numpy(engine(images))
            assert (found - answer).abs().max() <= 2e-5 * (answer.max() - answer.min())
        engine.pin("half")
        apart = engine(images) - wanted["mid"].numpy()
        assert 0 < np.abs(apart).max() <= 1e-2 * np.ptp(wanted["mid"].numpy())


def test_route_goes_from_coarse_to_fine(folder: Path) -> None:
    images = np.random.default_rng(1).random((8, 1, 8, 8), np.float32)
    with AdaptiveEngine.open(folder / "ckpt.skipc", threads=1) as engine:
        engine.pin("route")
        found, stops = [], []
        for image in images:
            found.append(engine(image[None]))
            assert engine.last is not None
            stops.append(engine.last.stage)
        assert len({*stops}) > 1
        alone = {}
        for name in ("mid", "full"):
            engine.pin(name)
            alone[name] = [engine(image[None]) for image in images]
    for number, (answer, stop) in enumerate(zip(found, stops, strict=True)):
        if stop == 0:
            assert np.array_equal(answer, alone["mid"][number])
        else:
            assert np.array_equal(answer, alone["full"][number])


def test_weights_are_stored_once(folder: Path) -> None:
    manifest = Bundle.open(folder / "ckpt.skipc").manifest
    kernels = {
        name: {
            key: value.const_value.tobytes()
            for key, value in model.graph.initializers.items()
            if "resize" not in key and value.const_value.nbytes >= 256
        }
        for name, model in _graphs(folder, ("full", "mid", "low"))
    }
    assert kernels["mid"] == kernels["full"]
    assert kernels["low"].items() <= kernels["full"].items()
    assert [option.name for option in manifest.options("resolution")] == ["6x6"]
    whole = manifest.graph("full").macs
    assert manifest.options("resolution")[0].macs == whole - manifest.graph("mid").macs
    assert manifest.graph("mid").macs < 0.7 * whole


def _graphs(folder: Path, names: tuple[str, ...]) -> Any:
    import onnx_ir as ir

    for name in names:
        yield name, ir.load(folder / "ckpt.skipc" / f"{name}.onnx")


def test_shown(folder: Path) -> None:
    shown = skipc("show", folder / "ckpt.skipc").out
    rows = [line.split() for line in shown.splitlines()]
    assert ["6x6", "end"] in [row[:2] for row in rows]
    assert "resolution: 1 option" in shown
    assert skipc("check", folder / "ckpt.skipc").code == 0


def test_policy_solves_and_certifies_the_route(folder: Path) -> None:
    ended = skipc(
        *("policy", folder / "ckpt.skipc", "--data", "digits", "--max-disagreement", 0.9)
    )
    assert ended.code == 0, ended.err
    assert Bundle.open(folder / "ckpt.skipc").manifest.configuration("route").certificate


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"resolution": 0}, "'resolution' is 0, expected pixels"),
        ({"resolution": 6.0}, "'resolution' is 6.0, expected pixels"),
        ({"resolution": True}, "'resolution' is True, expected pixels"),
        ({"resolution": [6]}, "'resolution' is [6], expected pixels"),
        ({"resolution": "half"}, "'resolution' is 'half', expected pixels"),
        ({"resolution": 12}, "12x12, larger than the images that go in, 8x8"),
        ({"resolution": [6, 9]}, "6x9, larger than the images that go in, 8x8"),
    ],
)
def test_no_resolution(entry: dict[str, Any], told: str, folder: Path, tmp_path: Path) -> None:
    _write_front(tmp_path, [{"name": "a", **entry}])
    arguments = ("--front", tmp_path / "front.json", "--target", "cpu")
    said = mistake("build", folder / "ckpt.pt", *arguments, "--out", tmp_path / "out.skipc")
    assert told in said


def test_twice_the_same(folder: Path, tmp_path: Path) -> None:
    _write_front(
        tmp_path, [{"name": "a", "resolution": 6}, {"name": "b", "resolution": [6, 6]}]
    )
    arguments = ("--front", tmp_path / "front.json", "--target", "cpu")
    said = mistake("build", folder / "ckpt.pt", *arguments, "--out", tmp_path / "out.skipc")
    assert "'a' and 'b' choose the same (resolution: 6x6)" in said


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 4, 4, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.embed(images).mean((2, 3))


class Map(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.relu()


class Branching(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean((2, 3))
        return means.sigmoid() if images.shape[2] < 8 else means.tanh()


@pytest.mark.parametrize(
    ("module", "size", "told"),
    [
        (Patches(), 6, "its layer 'embed' cuts 6 rows or columns into patches of 4, and"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), 4, "does not run at 4x4"),
        (ViT(patch=4), 6, "its layer 'embedding.project' cuts 6 rows or columns into"),
    ],
)
def test_what_a_network_cannot_is_told_before_its_export(
    module: nn.Module, size: int, told: str
) -> None:
    supernet = _torch(module)
    with pytest.raises(SupernetError) as error:
        supernet.at((size, size))
    assert told in str(error.value)


def _own_positions() -> tuple[nn.Module, nn.Module]:
    """Returns our ViT, and one that was made for 4x4 pixels with the same weights."""
    wide, small = ViT(width=8, depth=1, heads=2), ViT(image=4, width=8, depth=1, heads=2)
    wide.embedding.position.normal_()
    weights = wide.state_dict()
    token, table = weights["embedding.position"].split([1, 16], dim=1)
    square = table.reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    fewer = interpolate(square, (2, 2), mode="bicubic", antialias=True)
    weights["embedding.position"] = torch.cat(
        [token, fewer.permute(0, 2, 3, 1).reshape(1, 4, 8)], dim=1
    )
    small.load_state_dict(weights)
    return wide, small.eval()


def _transformers_positions() -> tuple[nn.Module, nn.Module]:
    """Returns a ViT of transformers, and itself told to interpolate at each call."""
    made = build(
        "ViTForImageClassification",
        image_size=8,
        patch_size=2,
        num_channels=1,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    ).eval()
    made.vit.embeddings.position_embeddings.normal_()

    class Interpolating(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = made(images, interpolate_pos_encoding=True).logits
            return answer

    return made, Interpolating()


@pytest.mark.parametrize("networks", [_own_positions, _transformers_positions])
def test_positions_are_interpolated_as_their_library_does(networks: Any) -> None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        wide, small = networks()
    source = "pixel_values" if networks is _transformers_positions else "images"
    supernet = _torch(wide, (TensorSpec(source, "float32", ("N", 1, 8, 8)),))
    family = open_family(supernet)
    choice = ResolutionAxis().read(4, family.offers["resolution"], "a")
    made = family.subnet({"resolution": choice}, "a").network
    images = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    with torch.no_grad():
        wanted = small(_at(images, (4, 4))).numpy()
    (told,) = made.reference.run([{source: images}])
    (ran,) = run_graph(made.model, [{source: images}])
    (answer,) = (spec.name for spec in made.outputs)
    np.testing.assert_allclose(told[answer], wanted, atol=1e-6 * np.ptp(wanted))
    np.testing.assert_allclose(ran[answer], wanted, atol=2e-6 * np.ptp(wanted))
    # The network itself is what it was, and all its other weights are shared.
    assert family.network.inputs[0].shape == ("N", 1, 8, 8)
    own, shared = (_weights(each) for each in (made, family.network))
    assert len(own - shared) == 1


def _weights(network: Any) -> set[bytes]:
    """Returns the contents of a graph's weights, but what resizes images."""
    return {
        value.const_value.tobytes()
        for name, value in network.model.graph.initializers.items()
        if ".resize" not in name and value.const_value.nbytes >= 64
    }


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (Map(), "it answers 'output' as float32 Nx1x6x6"),
        (Branching(), "its graph is another one"),
    ],
)
def test_network_that_is_another_one(module: nn.Module, told: str) -> None:
    family = _family(module)
    choice = ResolutionAxis().read(6, family.offers["resolution"], "")
    with pytest.raises(SupernetError) as error:
        family.subnet({"resolution": choice}, "a")
    assert told in str(error.value)


def test_program_is_exported_for_one_size() -> None:
    supernet = ProgramSupernet(None, INPUTS, (), None, "a.pt2")
    with pytest.raises(SupernetError, match="was exported for one size"):
        resized(supernet, (6, 6))


def test_images_that_are_no_squares_or_none(network: ResNet) -> None:
    axis, made = ResolutionAxis(), _family(network).network
    wide = replace(made, inputs=(replace(INPUTS[0], shape=(1, 1, 8, 16)),))
    with pytest.raises(FrontError, match=r"the images are 8x16. .* such as \[4, 8\]"):
        axis.read(6, axis.offer(wide), "a")
    assert axis.read([4, 8], axis.offer(wide), "a").size == (4, 8)
    tokens = replace(made, inputs=(TensorSpec("ids", "int64", ("N", 16)),))
    with pytest.raises(FrontError, match="'resolution' is of networks of images: its inputs"):
        axis.read(6, axis.offer(tokens), "a")
    assert axis.genes(axis.offer(tokens)) == ()


ONNX = """<ir_version: 9, opset_import: ["" : 17]>
net (float[1,1,8,8] x) => (float[1,3] y)
<float[3,1,3,3] w = {WEIGHTS}, int64[2] shape = {1, 3}, int64[2] axes = {2, 3}{MORE}>
{
  c = Conv<pads = [1,1,1,1]>(x, w)
  r = Relu(c)
  {STEP}
  m = GlobalAveragePool(s)
  y = Reshape(m, shape)
}"""


def _onnx(path: Path, more: str = "", step: str = "s = Identity(r)") -> OnnxSupernet:
    weights = np.random.default_rng(0).normal(size=27).round(3).tolist()
    text = ONNX.replace("{WEIGHTS}", str(weights).replace("[", "{").replace("]", "}"))
    text = text.replace("{MORE}", more).replace("{STEP}", step)
    onnx.save(onnx.parser.parse_model(text), path)
    return OnnxSupernet(path, (TensorSpec("x", "float32", (1, 1, 8, 8)),), (), None, "a.onnx")


def test_onnx_file_at_another_size(tmp_path: Path) -> None:
    supernet = _onnx(tmp_path / "a.onnx")
    family = open_family(supernet)
    axis = ResolutionAxis()
    choice = axis.read([5, 6], family.offers["resolution"], "a")
    made = family.subnet({"resolution": choice}, "a").network
    image = np.random.default_rng(1).random((1, 1, 8, 8), np.float32)
    small = _at(image, (5, 6)).numpy()
    (direct,) = resized(supernet, (5, 6)).supernet.exported().reference.run([{"x": small}])
    (found,) = made.reference.run([{"x": image}])
    np.testing.assert_allclose(found["y"], direct["y"], atol=1e-6)


@pytest.mark.parametrize(
    ("more", "step", "told"),
    [
        (
            ", int64[4] to = {1, 3, 16, 16}",
            "s = Resize(r, , , to)",
            "'s' resizes to a size that is written into the file",
        ),
        (", int64[3] flat = {3, 8, 8}", "s = Reshape(r, flat)", "does not run at 5x6"),
    ],
)
def test_onnx_file_that_holds_its_size(
    more: str, step: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(SupernetError) as error:
        resized(_onnx(tmp_path / "a.onnx", more, step), (5, 6)).exported()
    assert told in str(error.value)

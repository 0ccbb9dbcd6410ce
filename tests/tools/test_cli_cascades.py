"""Cascades from the command line: several checkpoints, one bundle, routes through them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from skipc.compiler.front import read_front
from skipc.compiler.heads import Head, read_heads, write_heads
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes.resnet import ResNet
from skipc.compiler.select.data import POLICY_PARTS, DataOptions, read_parts
from skipc.compiler.targets import finish
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.command_line import mistake, skipc
from tests.doubles.gpu import fake_gpu
from tests.exits import heads_for
from tests.exports import kept_export

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Name: widths, and the size of the images.
NETWORKS = {"small": ([4], 8), "mid": ([4, 6], 12), "large": ([6, 8], 16)}
HEAD = "stages.0.1"
CONFIGURATIONS: list[dict[str, Any]] = [
    {"name": "small", "network": "small"},
    {"name": "large", "network": "large"},
    {
        "name": "two",
        "parts": [{"network": "small"}, {"network": "large"}],
        "tests": [{"threshold": 0.9985}],
        "stops": [0.6, 0.4],
        "metrics": {"accuracy": 0.9},
    },
    {
        "name": "three",
        "parts": [
            {"network": "small", "skip": ["stages.0.0"]},
            {"network": "mid"},
            {"network": "large", "exits": [HEAD, "end"]},
        ],
        "tests": [
            {"threshold": 0.8, "jump": {"below": 0.6, "stage": 2}},
            {"threshold": 0.8735, "scores": {"margin": 1.0}, "temperature": 2.0},
            {"threshold": 0.65},
        ],
    },
]


def _arguments(name: str) -> dict[str, Any]:
    widths, _ = NETWORKS[name]
    return {"widths": widths, "depths": [2] * len(widths), "classes": 5}


@pytest.fixture(scope="module")
def networks() -> dict[str, ResNet]:
    found = {}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for name in NETWORKS:
            found[name] = ResNet(**_arguments(name)).eval()
            for parameter in found[name].parameters():
                parameter.normal_(std=0.3)
            found[name].head.weight *= 30
            found[name].head.bias.zero_()
    return found


@pytest.fixture(scope="module")
def folder(networks: dict[str, ResNet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints, heads of one, a front and the bundle; not to be changed."""
    folder = tmp_path_factory.mktemp("cascades")
    for name, network in networks.items():
        _save(folder / f"{name}.pt", name, network, NETWORKS[name][1])
    write_heads(folder / "large.pt", heads_for(kept_export(folder / "large.pt"), [HEAD]))
    front = {"format": "skipc.front/2", "configurations": CONFIGURATIONS}
    (folder / "front.json").write_text(json.dumps(front))
    ended = _build(folder)
    assert ended.code == 0, ended.err
    return folder


def _save(path: Path, name: str, network: ResNet, size: int) -> None:
    inputs = (TensorSpec("images", "float32", ("N", 1, size, size)),)
    file = CheckpointFile(
        "skipc:resnet",
        _arguments(name),
        network.state_dict(),
        inputs,
        (Dimension("N", 1, 2, 3),),
    )
    save_checkpoint(path, file)


def _checkpoints(folder: Path) -> list[str]:
    return [f"{name}={folder / name}.pt" for name in NETWORKS]


def _build(folder: Path) -> Any:
    front = folder / "front.json"
    return skipc("build", *_checkpoints(folder), "--front", front, "--target", "cpu")


def test_on_a_gpu_every_stage_is_an_engine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(folder / "small-mid-large.skipc", tmp_path / "gpu.skipc")
    images = np.random.default_rng(5).normal(size=(3, 1, 16, 16)).astype(np.float32)
    with AdaptiveEngine.open(path, target="cpu") as engine:
        engine.pin("three")
        expected = [engine(image[None]) for image in images]
    with fake_gpu(monkeypatch) as gpu:
        finish(path, "tensorrt")
        with AdaptiveEngine.open(path, target="tensorrt") as engine:
            engine.pin("three")
            for image, wanted in zip(images, expected, strict=True):
                assert np.abs(engine(image[None]) - wanted).max() <= 1e-4 * np.ptp(wanted)
        gpu.check()


def test_a_graph_is_there_once_whatever_runs_it(folder: Path) -> None:
    manifest = Bundle.open(folder / "small-mid-large.skipc").manifest
    assert [graph.name for graph in manifest.graphs] == [
        *("small", "large", "three.0", "three.1", "three.2.0", "three.2.1")
    ]
    assert [network.name for network in manifest.networks] == [*NETWORKS]
    assert [network.checkpoint for network in manifest.networks] == [
        f"{name}.pt" for name in NETWORKS
    ]
    assert manifest.inputs[0].shape == ("N", 1, 16, 16)
    two = manifest.configuration("two")
    assert [stage.graph for stage in two.route] == ["small", "large"]
    assert two.stops == (0.6, 0.4)
    assert [len(stage.feeds) for stage in manifest.configuration("three").route] == [
        0,
        0,
        0,
        1,
    ]
    # What the first part keeps of its network is stored for the network, too.
    sizes = {graph.name: graph.own_bytes for graph in manifest.graphs}
    assert sizes["three.0"] == 0


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(24, 1, 16, 16)) + rng.normal(size=(24, 1, 1, 1))
    return (noise * rng.uniform(0, 6, (24, 1, 1, 1))).astype(np.float32)


def _answers(
    networks: dict[str, ResNet], head: Head, images: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Returns what eager PyTorch answers, by network; ``skip`` and ``head`` are further."""
    found = {}
    with torch.no_grad():
        for name, network in networks.items():
            side = (NETWORKS[name][1],) * 2
            resized = interpolate(
                torch.from_numpy(images), side, mode="bilinear", antialias=True
            )
            found[name] = network(resized).numpy()
        small, large = networks["small"], networks["large"]
        resized = interpolate(
            torch.from_numpy(images), (8, 8), mode="bilinear", antialias=True
        )
        kept = [block for name, block in small.named_children() if name != "stages"]
        stream = small.stem(resized)
        first, second = small.stages[0]  # type: ignore[index, misc]
        stream = second(first.relu(first.shortcut(stream)))
        found["skip"] = kept[-1](stream.mean((2, 3))).numpy()
        stream = large.stages[0](large.stem(torch.from_numpy(images)))  # type: ignore[index]
        weights = torch.from_numpy(head.weight), torch.from_numpy(head.bias)
        found["head"] = torch.nn.functional.linear(stream.mean((2, 3)), *weights).numpy()
    return found


def _probabilities(logits: NDArray[np.float32], temperature: float = 1.0) -> Any:
    exp = np.exp(logits.astype(np.float64) / temperature)
    return np.sort(exp / exp.sum(1, keepdims=True))[:, ::-1]


def test_samples_are_answered_by_the_network_that_eager_pytorch_decides_on(
    folder: Path, networks: dict[str, ResNet], images: NDArray[np.float32]
) -> None:
    (head,) = read_heads(folder / "large.pt")
    wanted = _answers(networks, head, images)
    sure = {name: _probabilities(logits)[:, 0] for name, logits in wanted.items()}
    soft = _probabilities(wanted["mid"], 2.0)
    routes = {
        "two": (("small", "large"), [sure["small"] >= 0.9985]),
        "three": (
            ("skip", "mid", "head", "large"),
            [sure["skip"] >= 0.8, soft[:, 0] - soft[:, 1] >= 0.8735, sure["head"] >= 0.65],
        ),
    }
    with AdaptiveEngine.open(folder / "small-mid-large.skipc", threads=1) as engine:
        for name, (stages, tests) in routes.items():
            engine.pin(name)
            passed = np.array([*tests, np.ones(len(images), bool)])
            if name == "three":  # not sure at all: straight to the last network
                passed[1] &= sure["skip"] >= 0.6
            expected = passed.argmax(0)
            assert len(set(expected)) > 1
            for number, image in enumerate(images):
                ((answer,),) = engine({"images": image[None]}).values()
                assert engine.last is not None
                assert engine.last.stage == expected[number]
                own = wanted[stages[expected[number]]][number]
                np.testing.assert_allclose(answer, own, rtol=1e-4, atol=1e-4)
            (together,) = engine({"images": images[:3]}).values()
            own = [wanted[stages[stage]][row] for row, stage in enumerate(expected[:3])]
            np.testing.assert_allclose(together, own, rtol=1e-4, atol=1e-4)


def test_tests_that_jump_are_solved(folder: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(folder / "small-mid-large.skipc", tmp_path / "made.skipc")
    front = shutil.copy(folder / "front.json", tmp_path / "front.json")
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(400, 1, 16, 16)) * rng.uniform(0, 6, (400, 1, 1, 1))).astype("f")
    np.savez(tmp_path / "data.npz", x=x, y=rng.integers(0, 5, 400))
    ended = skipc(
        *("policy", bundle, "--data", tmp_path / "data.npz", "--configuration", "three"),
        *("--max-disagreement", 0.5, "--front", front, "--json"),
    )
    found = ended.json()
    assert "gates that jump" in found["policies"]
    entry = Bundle.open(bundle).manifest.configuration("three")
    assert entry.certificate is not None
    written = next(one for one in read_front(front).configurations if one.name == "three")
    assert [test.jump for test in written.tests] == [
        stage.test.jump for stage in entry.route if stage.test is not None
    ]
    options = DataOptions(str(tmp_path / "data.npz"), 20000, POLICY_PARTS)
    report = read_parts(options, Bundle.open(bundle).manifest.inputs)[-1].inputs["images"]
    stops = np.zeros(4)
    with AdaptiveEngine.open(bundle) as engine:
        engine.pin("three")
        for image in report:
            engine({"images": image[None]})
            assert engine.last is not None
            stops[engine.last.stage] += 1
    assert tuple(stops / len(report)) == pytest.approx(entry.stops)


def test_what_was_built_checks_and_shows(folder: Path) -> None:
    bundle = folder / "small-mid-large.skipc"
    checked = skipc("check", bundle)
    assert checked.code == 0, checked.err
    shown = skipc("show", bundle).out
    assert "small > mid > large" in shown
    assert "model large" in shown


JUMP = {
    "parts": [{"network": "small"}, {"network": "large"}],
    "tests": [{"threshold": 0.5, "jump": {"below": 0.1, "stage": 1}}],
}
FRONT = {"format": "skipc.front/2"}


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"network": "smal"}, "'network' is none: 'smal'. Did you mean 'small'?"),
        ({}, "its 'network' is not named"),
        ({"parts": [{"network": "small"}, {}], "tests": [{"threshold": 1}]}, "is not named"),
        ({"parts": [{"network": "small"}, {"network": "large"}]}, "its parts answer 2 times"),
        ({"parts": [{"network": "small"}], "skip": []}, "'skip' stands beside 'parts'"),
        ({"parts": [{"network": "small", "skips": []}]}, "unknown key 'skips'"),
        ({"network": "small", "exits": [HEAD]}, "is no head"),
        (JUMP, "tests[0] jumps to answer 1, expected the first one of a part behind the next"),
    ],
)
def test_mistakes_in_a_front_are_told(
    folder: Path, tmp_path: Path, entry: dict[str, Any], says: str
) -> None:
    front = FRONT | {"configurations": [{"name": "one", **entry}]}
    (tmp_path / "front.json").write_text(json.dumps(front))
    told = mistake(
        *("build", *_checkpoints(folder), "--front", tmp_path / "front.json"),
        *("--target", "cpu", "--out", tmp_path / "made.skipc"),
    )
    assert says in told
    assert not (tmp_path / "made.skipc").exists()


def test_networks_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    front = FRONT | {"configurations": [{"name": "one", "network": "small"}]}
    (tmp_path / "front.json").write_text(json.dumps(front))
    shutil.copy(folder / "small.pt", tmp_path)

    def told(*options: object) -> str:
        return mistake(
            *("build", f"small={tmp_path / 'small.pt'}", f"large={tmp_path / 'large.pt'}"),
            *("--front", tmp_path / "front.json", "--target", "cpu", *options),
        )

    def save(channels: int, **more: Any) -> None:
        arguments = _arguments("large") | {"channels": channels} | more
        inputs = (TensorSpec("images", "float32", ("N", channels, 16, 16)),)
        weights = ResNet(**arguments).state_dict()
        made = CheckpointFile(
            "skipc:resnet", arguments, weights, inputs, (Dimension("N", 1, 2, 3),)
        )
        save_checkpoint(tmp_path / "large.pt", made)

    save(1, classes=4, depths=[1, 1])
    assert "'small' answers output (float32 Nx5), 'large' output (float32 Nx4)" in told()
    save(3)
    assert "is float32 Nx1x8x8, the other's float32 Nx3x16x16" in told()
    one = ("--input", "small=Nx1x8x8", "--batch", "small=1:1:1")
    assert "those of 'large' are N=1:2:3, of 'small' N=1:1:1" in told(*one)


@pytest.mark.parametrize(
    ("networks", "says"),
    [
        (("a.pt", "b.pt"), "name each of several networks, e.g. small=a.pt"),
        (("a=x.pt", "a=y.pt"), "two networks are named 'a'"),
        (("a b=x.pt",), "name each of several networks"),
    ],
)
def test_networks_are_named(networks: tuple[str, ...], says: str) -> None:
    assert says in mistake("build", *networks, "--front", "front.json", "--target", "cpu")

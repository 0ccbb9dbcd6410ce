"""``skipc.toml``: written by looking or by asking, and read where commands need it."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import pytest
import torch
from PIL import Image

from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from skipc.tools.cli import cli
from skipc.tools.looking import data_in, network_classes
from skipc.tools.project import KEYS, Project, ProjectOption, project_text, read_project
from tests.command_line import hide_tests, mistake, skipc

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETWORK = """
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x).relu()


class Small(nn.Module):
    def __init__(self, depth=2, width=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, stride=2)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, 2)

    def forward(self, images):
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


class Other(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(1, 1)
"""
_HEAD = 'format = "skipc.project/1"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of somebody's: a class, its weights, images by class; the current one."""
    monkeypatch.chdir(tmp_path)
    hide_tests(monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)
    Path("ownnet.py").write_text(_NETWORK, encoding="utf-8")
    Path("broken.py").write_text("def", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "ownnet", raising=False)
    import ownnet  # type: ignore[import-not-found]

    torch.manual_seed(0)
    torch.save(ownnet.Small().state_dict(), "weights.pt")
    for number in range(8):
        place = Path("photos", "ab"[number % 2])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(place / f"{number}.png")
    yield tmp_path
    sys.modules.pop("ownnet", None)


def test_looking_finds_class_input_and_data(folder: Path) -> None:
    ended = skipc("init", "weights.pt", "--yes")
    assert ended.code == 0, ended.err
    assert "ownnet:Small" in ended.out
    assert "Next: skipc select weights.pt" in ended.out
    found = read_project(folder)
    assert found is not None
    assert (found.model, found.input) == ("ownnet:Small", "images=1x3x8x12")
    assert (found.data, found.metric, found.target) == ("photos", "top1", "cpu")
    units = skipc("units", "weights.pt", "--json")
    assert [unit["name"] for unit in units.json()["units"]] == ["blocks.0", "blocks.1"]
    said = "from skipc.toml: --model ownnet:Small --input images=1x3x8x12"
    assert units.err.splitlines()[0] == said


def test_the_command_line_comes_first(folder: Path) -> None:
    text = f'{_HEAD}model = "ownnet:Other"\nmetric = "x:y"\n[model_arg]\nwidth = 9\n'
    Path("skipc.toml").write_text(text, encoding="utf-8")
    asked = ("units", "weights.pt", "--model", "ownnet:Small", "--input", "1x3x8x8")
    ended = skipc(*asked, "--json")  # the arguments are the other network's
    assert len(ended.json()["units"]) == 2
    assert "skipc.toml" not in ended.err


def test_select_and_build_take_all_of_it(folder: Path) -> None:
    Path("skipc.toml").write_text(f'{_HEAD}data = "nowhere"\ntarget = "cpv"\n', "utf-8")
    assert "unknown target 'cpv'. Did you mean 'cpu'?" in mistake(
        "build", "w.pt", "--front", "f"
    )
    assert "unknown target 'cpv'" in mistake("select", "weights.pt")
    assert "digits" in mistake(
        "select", "weights.pt", "--data", "digits", "--target", "digits"
    )


def test_asking_proposes_what_looking_finds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\nwidth=4\n\n1x3x8x8\n\n\n"))
    ended = skipc("init", "weights.pt")
    assert ended.code == 0, ended.err
    found = read_project(folder)
    assert found is not None
    assert found.model == "ownnet:Small"
    assert found.model_arg == {"width": 4}
    assert found.input == "1x3x8x8"
    assert found.data == "photos"


def test_a_checkpoint_that_says_its_network_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, arguments = find_recipe("resnet"), {"widths": [4], "depths": [1]}
    weights = recipe.load()(**arguments).state_dict()
    file = CheckpointFile("skipc:resnet", arguments, weights, recipe.inputs)
    save_checkpoint(tmp_path / "ckpt.pt", file)
    ended = skipc("init", "ckpt.pt", "--yes")
    assert ended.code == 0, ended.err
    assert "No labelled data was found" in ended.err
    assert read_project(tmp_path) == Project(metric="top1", target="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "skipc.toml is already there."),
        (("--overwrite", "--target", "cpuu"), "unknown target 'cpuu'. Did you mean 'cpu'?"),
        (("--overwrite", "--model", "ownnet:Smal"), "Did you mean 'Small'?"),
        (("--overwrite", "--model-arg", "depth=5"), "the weights do not fit ownnet:Small"),
        (("--overwrite", "--input", "1xthree"), "the input '1xthree' has the free dimension"),
        (("--overwrite", "--data", "foto"), "--data foto: the folder foto does not exist"),
        (("--overwrite", "--metric", "top5"), "--metric 'top5'"),
    ],
)
def test_what_does_not_fit_is_not_written(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    Path("skipc.toml").write_text(_HEAD, encoding="utf-8")
    assert message in mistake("init", "weights.pt", "--yes", *arguments)
    assert Path("skipc.toml").read_text(encoding="utf-8") == _HEAD


def test_weights_of_no_class_here_are_told_so(folder: Path) -> None:
    torch.save({"tower.weight": torch.ones(2, 2)}, "weights.pt")
    told = mistake("init", "weights.pt", "--yes")
    assert "no class in the Python files of this folder has the parts tower." in told
    assert not Path("skipc.toml").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('modle = "a:b"', "unknown key 'modle'. Did you mean 'model'?"),
        ("model = 3", "'model' must be"),
        ("[model_arg]\nsince = 2020-01-01", "'since' must be a text, a number"),
        ('metric = ["a:b"]', "'metric' must be"),
        ("model = ", "not valid TOML"),
        ('format = "skipc.project/9"', "written in format 'skipc.project/9'"),
        ("", "'format' must be 'skipc.project/1'"),
    ],
)
def test_a_wrong_file_is_named(folder: Path, text: str, message: str) -> None:
    head = "" if not text or text.startswith("format") else _HEAD
    Path("skipc.toml").write_text(head + text, encoding="utf-8")
    told = mistake("units", "weights.pt")
    assert message in told
    assert told.startswith("skipc.toml")


def test_a_bundles_folder_names_no_code(folder: Path) -> None:
    Path("skipc.toml").write_text(_HEAD, encoding="utf-8")
    Path("manifest.json").write_text("{}", encoding="utf-8")
    assert "this folder is a bundle" in mistake("units", "weights.pt")


def test_every_key_is_an_option_and_the_other_way_round() -> None:
    context = click.Context(cli)
    found = {
        option.key
        for name in cli.list_commands(context)
        if (command := cli.get_command(context, name)) is not None
        for option in command.params
        if isinstance(option, ProjectOption)
    }
    assert found == set(KEYS)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    project = Project(
        model=("a=x:y", "b=x:z"), model_arg={"depth": 4, "sizes": [1, 2], "odd.name": "é"},
        mean=(0.5, 0.25), target="cpu",
    )  # fmt: skip
    (tmp_path / "skipc.toml").write_text(project_text(project), encoding="utf-8")
    assert read_project(tmp_path) == project
    assert project.texts("mean") == ("0.5,0.25",)
    assert project.texts("model_arg")[:2] == ("depth=4", "sizes=[1, 2]")
    listed = Project(model_arg=("x=null",))
    (tmp_path / "skipc.toml").write_text(project_text(listed), encoding="utf-8")
    assert read_project(tmp_path) == listed


def test_arrays_tell_the_input(folder: Path) -> None:
    np.savez("data.npz", x=np.zeros((9, 3, 6, 7), np.float32), y=np.arange(9) % 2)
    ended = skipc("init", "weights.pt", "--yes", "--data", "data.npz")
    assert ended.code == 0, ended.err
    assert "images=1x3x6x7  (x in data.npz)" in ended.out


def test_of_several_data_sets_none_is_taken(folder: Path) -> None:
    shutil.copytree("photos", "training")
    np.savez("other.npz", x=np.zeros(1))
    Path("broken.npz").write_bytes(b"no archive")
    assert [one.text for one in data_in(folder)] == ["photos/"]
    np.savez("data.npz", x=np.zeros(1), y=np.zeros(1))
    assert [one.text for one in data_in(folder)] == ["photos/", "data.npz"]
    ended = skipc("init", "weights.pt", "--yes")
    assert (
        "The labelled data may be any of photos, data.npz. `skipc select` needs" in ended.err
    )
    assert "1x3x8x12" in ended.out


def test_classes_are_read_without_running_them(tmp_path: Path) -> None:
    source = "raise SystemExit\nclass Net(nn.Module):\n    def forward(self, a, b, c=1): ...\n"
    (tmp_path / "net.py").write_text(source + "class Wide(Net): ...\n", encoding="utf-8")
    found = network_classes(tmp_path)
    assert [one.factory for one in found] == ["net:Net", "net:Wide"]
    assert found[0].inputs == ("a", "b")


def test_parts_may_be_made_several_in_a_line(tmp_path: Path) -> None:
    made = (
        "class Net(nn.Module):\n    def __init__(self):\n        self.norm, (self.head, x) = a"
    )
    (tmp_path / "net.py").write_text(f"{made}\n        self.w: int = 4\n", encoding="utf-8")
    assert network_classes(tmp_path)[0].parts == {"norm", "head", "w"}

"""`skipc select` over several networks: from checkpoints to a front that builds as it is."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from skipc.compiler.front import read_front
from skipc.compiler.heads import write_heads
from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes.digits_data import load_digits
from skipc.compiler.recipes.resnet import ResNet
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from tests.command_line import mistake, skipc
from tests.exits import heads_for
from tests.exports import kept_export

# Name: widths and depths. Heads lie beside the large one.
NETWORKS = {"small": ([4], [1]), "mid": ([6, 8], [1, 1]), "large": ([10, 12], [2, 2])}
HEAD = "stages.1.0"
# The target does not run here, so that nothing is measured.
HOW = ("--data", "digits", "--cost", "macs", "--evaluations", 4, "--norm", "scalar",
       "--target", "jetson-orin")  # fmt: skip


def arguments(name):
    widths, depths = NETWORKS[name]
    return {"widths": widths, "depths": depths, "classes": 10}


def trained(name):
    """Returns a network that was trained for a second."""
    torch.manual_seed(0)
    data = load_digits().train
    network = ResNet(**arguments(name), drop=0.1).train()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    optimiser = torch.optim.AdamW(network.parameters(), 0.02)
    for rows in torch.randperm(len(labels) * 4).remainder(len(labels)).split(64):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    """Checkpoints, heads of one, what was selected, and its bundle."""
    folder = tmp_path_factory.mktemp("cascades")
    inputs = (TensorSpec("images", "float32", ("N", 1, 8, 8)),)
    with torch.random.fork_rng(devices=[]):
        for name in NETWORKS:
            weights = trained(name).state_dict()
            file = CheckpointFile(
                "skipc:resnet", arguments(name), weights, inputs, (Dimension("N", 1, 2, 64),)
            )
            save_checkpoint(folder / f"{name}.pt", file)
    write_heads(folder / "large.pt", heads_for(kept_export(folder / "large.pt"), [HEAD]))
    for words in (
        ("select", *checkpoints(folder), *HOW, "--exits", "--keep", "large=stages.0.0",
         "--out", folder / "front.json"),
        ("build", *checkpoints(folder), "--front", folder / "front.json", "--target", "cpu",
         "--out", folder / "made.skipc"),
    ):  # fmt: skip
        ended = skipc(*words)
        assert ended.code == 0, ended.err
        (folder / f"{words[0]}.txt").write_text(ended.out, encoding="utf-8")
    return folder


def checkpoints(folder, names=tuple(NETWORKS)):
    return [f"{name}={folder / name}.pt" for name in names]


def cascades(front):
    return [entry for entry in front.configurations if len(entry.parts) > 1]


def test_cascades_answer_where_and_as_it_was_said(selected):
    front = read_front(selected / "front.json")
    assert cascades(front)
    report = load_digits().report
    macs = {}
    manifest = Bundle.open(selected / "made.skipc").manifest
    with AdaptiveEngine.open(selected / "made.skipc", threads=1) as engine:
        for entry in cascades(front):
            engine.pin(entry.name)
            right, stages = [], []
            for image, label in zip(report.images, report.labels, strict=True):
                right.append(engine(image[None]).argmax() == label)
                stages.append(engine.last.stage)
            # Batches round otherwise, which matters at a threshold.
            near = 2.1 / len(right)
            assert np.mean(right) == pytest.approx(entry.metrics["accuracy"], abs=near)
            shares = np.bincount(stages, minlength=len(entry.stops)) / len(stages)
            np.testing.assert_allclose(shares, entry.stops, atol=near)
            route = manifest.configuration(entry.name).route
            if all(test.jump is None for test in entry.tests):
                own = np.cumsum([manifest.graph(stage.graph).macs for stage in route])
                macs[entry.name] = own @ entry.stops, entry.metrics["macs"]
    for own, told in macs.values():
        # The graphs of a route hold the tests' heads once each.
        assert own == pytest.approx(told, rel=0.01)


def test_the_front_is_of_all_networks(selected):
    front = read_front(selected / "front.json")
    page = (selected / "front.html").read_text(encoding="utf-8")
    table = (selected / "select.txt").read_text(encoding="utf-8")
    names = [entry.name for entry in front.configurations]
    assert "large.full" in names
    assert set(front.networks) == set(NETWORKS)
    for name, said in front.networks.items():
        assert said.statistics.path == f"front.{name}.norms.npz"
        assert said.provenance["checkpoint_sha256"]
    assert front.networks["large"].options["exits"] == (HEAD,)
    for entry in front.configurations:
        assert entry.name in page
        assert "stages.0.0" not in entry.choices.get("skip", []) or entry.network != "large"
    for entry in cascades(front):
        asked = [part.network for part in entry.parts]
        assert asked == [name for name in NETWORKS if name in asked]
        assert " > ".join(asked) in table
        assert front.provenance[f"policy of {entry.name}"] in " ".join(table.split())
    one_graph = [entry for entry in front.configurations if not entry.tests]
    assert len(one_graph) <= 6
    assert "Network mid" not in table


def test_the_report_tells_the_networks_units_apart(selected):
    out = selected / "page.html"
    ended = skipc("report", selected / "made.skipc", "--out", out)
    assert ended.code == 0, ended.err
    page = out.read_text(encoding="utf-8")
    asked = {part.network for entry in read_front(selected / "front.json").configurations
             for part in entry.networks}  # fmt: skip
    for network in asked:
        assert f"<h3>Network {network}</h3>" in page
    shown = skipc("show", selected / "made.skipc").out
    assert all(entry.name in shown for entry in cascades(read_front(selected / "front.json")))


def test_selected_again_the_statistics_change_places(selected, tmp_path):
    for file in selected.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    pair = checkpoints(tmp_path, ["small", "large"])
    ended = skipc("select", *pair, *HOW, "--out", tmp_path / "front.json", "--json")
    found = ended.json()
    assert list(found["networks"]) == ["small", "large"]
    assert all("parts" in one for one in found["early"])
    files = {file.name for file in tmp_path.glob("*.npz")}
    assert files == {"front.small.norms-2.npz", "front.large.norms-2.npz"}
    # Other networks than the front's.
    told = mistake("build", *checkpoints(tmp_path, ["mid", "large"]), "--front",
                   tmp_path / "front.json", "--target", "cpu")  # fmt: skip
    assert "its 'network' is none: 'small'" in told


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--metric", "a:b"), "several networks with --metric a:b: tests are solved"),
        (("--cost", "parameters"), "several networks with --cost parameters: a route holds"),
        (
            ("--parts", "1:1:1"),
            "--parts '1:1:1': for several networks or resolutions write",
        ),
        (("--samples", "50"), "3 exits, but a part of --data has 50 samples: each needs 20"),
        (("--keep", "small=stages.7"), "--keep 'stages.7': no such unit"),
    ],
)
def test_mistakes_are_told_before_the_search(selected, tmp_path, options, says):
    out = tmp_path / "front.json"
    assert says in mistake("select", *checkpoints(selected), *HOW, "--out", out, *options)
    assert not out.exists()


def test_networks_that_are_no_cascade(selected, tmp_path):
    weights = ResNet(**arguments("small") | {"classes": 11}).state_dict()
    inputs = (TensorSpec("images", "float32", ("N", 1, 8, 8)),)
    save_checkpoint(
        tmp_path / "eleven.pt",
        CheckpointFile("skipc:resnet", arguments("small") | {"classes": 11}, weights, inputs,
                       (Dimension("N", 1, 2, 64),)),
    )  # fmt: skip
    large = f"large={selected / 'large.pt'}"

    def told(*words):
        return mistake("select", *words, *HOW, "--out", tmp_path / "front.json")

    assert "'large' answers output (float32 Nx10), 'eleven'" in told(
        large, f"eleven={tmp_path / 'eleven.pt'}"
    )
    assert "two networks are named 'LARGE'" in told(large, f"LARGE={selected / 'mid.pt'}")
    assert "name each of several networks" in told(large, selected / "mid.pt")
    assert "no heads lie beside" in told(*checkpoints(selected, ["small", "mid"]), "--exits")
    profile = tmp_path / "board.toml"
    profile.write_text(
        'format = "skipc.profile/1"\nname = "board"\nbackend = "onnxruntime-cpu"\n'
        'description = "x"\n[latency]\nbase_ms = 1.0\n[latency.unit_ms]\n"a" = 1.0\n'
    )
    words = (*checkpoints(selected), *HOW, "--target", profile, "--out", tmp_path / "x.json")
    assert "its [latency] table is of the units of one network" in mistake("select", *words)

"""`skipc select` from the command line to the files, and what it leaves to build."""

from __future__ import annotations

import importlib
import json
import re
import signal

import numpy as np
import pytest
import torch

from skipc.compiler.front import read_front
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.recipes.digits_data import load_digits
from skipc.compiler.select import selecting
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle.folder import file_sha256
from tests.command_line import mistake, skipc

UNITS = [f"stages.{stage}.{block}" for stage in range(3) for block in range(2)]
FAST = ("--data", "digits", "--samples", "120", "--cost", "macs", "--evaluations", "12")


def selected(trained, out, *arguments):
    scores = ("--cache", out.with_suffix(".scores"))  # its own, while exports are shared
    ended = skipc(
        "select", trained / "ckpt.pt", *FAST, *scores, "--out", out, "--json", *arguments
    )
    assert ended.code == 0, ended.err
    return ended.json()


@pytest.mark.parametrize(
    ("norm", "axes"), [("shared", "skip,width"), ("scalar", "skip"), ("full", "width")]
)
def test_accuracy_printed_is_that_of_the_engines_built(trained, tmp_path, norm, axes):
    front = tmp_path / "front.json"
    found = selected(
        *(trained, front, "--norm", norm, "--samples", 2000, "--axes", axes),
        *("--evaluations", 24),
    )
    taken = {
        key for one in found["configurations"] for key in ("skip", "width") if one.get(key)
    }
    assert taken == set(axes.split(","))
    built = skipc(
        "build", trained / "ckpt.pt", "--front", front, "--target", "cpu",
        "--out", tmp_path / "b.skipc", "--json",
    )  # fmt: skip
    assert built.code == 0, built.err
    assert read_front(front).norm is NormMode(norm)
    answers = [answered(tmp_path / "b.skipc")]
    labels = load_digits().report.labels
    for one in found["configurations"]:
        right = answers[0][one["name"]].argmax(1) == labels
        assert np.mean(right) == pytest.approx(one["score"], abs=2.1 / len(right))
    if axes == "skip":
        # One session holds them, norms of their own included, with the same bits.
        assert skipc("finish", tmp_path / "b.skipc", "--engines", "one").code == 0
        answers.append(answered(tmp_path / "b.skipc"))
        assert all(np.array_equal(answers[0][name], answers[1][name]) for name in answers[0])


def answered(bundle):
    """Returns what each configuration answers on the report part."""
    images, found = load_digits().report.images, {}
    with AdaptiveEngine.open(bundle, threads=1) as engine:
        for name in engine.configurations:
            engine.pin(name)
            found[name] = np.concatenate([engine(image[None]) for image in images])
    return found


def test_front_says_where_it_comes_from(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(selecting, "_COMPARING_S", 30.0)
    front = tmp_path / "front.json"
    found = selected(trained, front, "--seed", 3)
    read = read_front(front)
    assert read.options["skip"] == tuple(UNITS)
    assert read.provenance["checkpoint_sha256"] == file_sha256(trained / "ckpt.pt")
    assert (read.provenance["seed"], read.provenance["axes"]) == ("3", "skip")
    assert read.provenance["evaluations"] == str(found["evaluations"]) == "12"
    assert 0.9 < found["share_of_exhaustive_hypervolume"] <= 1
    assert read.statistics.sha256 == file_sha256(tmp_path / "front.norms.npz")
    assert read.configurations[0].name == "full"
    assert (tmp_path / "front.png").read_bytes()[:4] == b"\x89PNG"
    page = (tmp_path / "front.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link)[^>]+(src|href)=.?https?:", page)
    assert all(entry.name in page for entry in read.configurations)
    assert "stages.2.1" in page


def scores_of(configurations):
    return [(one["bits"], one["score"]) for one in configurations]


def test_same_seed_gives_the_same_front(trained, tmp_path):
    first, second = (
        selected(trained, tmp_path / f"{i}.json", "--search", "nsga2")["configurations"]
        for i in range(2)
    )
    assert scores_of(first) == scores_of(second)


@pytest.mark.servers
def test_ray_gives_the_same_front(trained, tmp_path):
    few = ("--evaluations", 4)
    alone = selected(trained, tmp_path / "alone.json", *few)["configurations"]
    spread = selected(trained, tmp_path / "spread.json", *few, "--ray", "local")[
        "configurations"
    ]
    assert scores_of(alone) == scores_of(spread)


def test_constraints_are_kept(trained, tmp_path):
    found = selected(trained, tmp_path / "f.json", "--keep", "stages.1", "--size", 3)
    chosen = found["configurations"]
    assert len(chosen) <= 3
    assert all(one["bits"][2:4] == "00" for one in chosen)
    tight = selected(trained, tmp_path / "f.json", "--max-drop", 2)["configurations"]
    best = next(one for one in tight if one["name"] == "full")["selection_score"]
    assert all(100 * (best - one["selection_score"]) <= 2 + 1e-9 for one in tight)


@pytest.mark.parametrize("search", ["greedy", "exhaustive", "stages"])
def test_every_search_writes_a_front(trained, tmp_path, search):
    found = selected(trained, tmp_path / "f.json", "--search", search, "--evaluations", 64)
    names = [one["name"] for one in found["configurations"]]
    assert names[0] == ("FFF" if search == "stages" else "full")
    if search == "exhaustive":
        assert found["evaluations"] == 64
        assert found["share_of_exhaustive_hypervolume"] == 1.0


def test_second_search_starts_from_the_first(trained, tmp_path):
    cached = ("select", trained / "ckpt.pt", *FAST, "--cache", tmp_path / "cache",
              "--out", tmp_path / "f.json")  # fmt: skip
    first = skipc(*cached)
    assert "configurations are known" not in first.err
    second = skipc(*cached)
    assert "configurations are known" in second.err
    # But for the latencies, measured anew, and the norms, beside those of the first front.
    said = [
        ended.out.partition("\n\n")[2].replace(".norms-2.", ".norms.")
        for ended in (first, second)
    ]
    assert said[0] == said[1] != ""


def test_full_disk_for_the_cache_does_not_end_the_search(trained, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    ended = skipc(
        "select", trained / "ckpt.pt", *FAST, "--cache", tmp_path / "cache",
        "--out", tmp_path / "f.json",
    )  # fmt: skip
    assert ended.code == 0
    assert "can no longer be cached" in ended.err


def test_ctrl_c_writes_the_best_front_found(trained, tmp_path, monkeypatch):
    pressing = (
        "import os, signal\ncalls = []\ndef score(outputs, targets):\n"
        "    calls.append(len(outputs))\n"
        "    if len(calls) == 6:\n        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return float((outputs.argmax(1) == targets).mean())\n"
    )
    (tmp_path / "pressing.py").write_text(pressing, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    # Whoever runs the tests in the background has them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ended = skipc(
            "select", trained / "ckpt.pt", *FAST, "--metric", "pressing:score",
            "--norm", "shared", "--out", tmp_path / "f.json", "--cache", tmp_path / "scores",
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.code == 130, ended.err
    assert "interrupted after" in ended.err
    assert "best front found so far" in ended.err
    assert len(read_front(tmp_path / "f.json").configurations) >= 1
    assert re.search(r"^full +0 ", ended.out, re.MULTILINE)


def test_latency_that_nothing_meets_names_the_nearest(trained, tmp_path):
    ended = skipc(
        "select", trained / "ckpt.pt", *FAST, "--out", tmp_path / "f.json",
        "--max-latency-ms", "1e-9",
    )  # fmt: skip
    said = ended.err
    assert ended.code == 2
    assert "no evaluated configuration is predicted to be that fast" in said
    assert re.search(r"The nearest skips \d units: .* ms, .* points lost", said)
    assert not (tmp_path / "f.json").exists()


def test_table_of_a_profile_predicts_latency(trained, tmp_path):
    lines = [
        'format = "skipc.profile/1"', 'name = "board"', 'backend = "onnxruntime-cpu"',
        'description = "a board"', "[latency]", "base_ms = 1.0",
        "[latency.unit_ms]", *(f'"{unit}" = 0.5' for unit in UNITS),
    ]  # fmt: skip
    (tmp_path / "board.toml").write_text("\n".join(lines), encoding="utf-8")
    ended = skipc(
        "select", trained / "ckpt.pt", "--data", "digits", "--samples", 120,
        "--cache", tmp_path / "scores", "--evaluations", 12,
        "--target", tmp_path / "board.toml", "--out", tmp_path / "f.json", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    found = {one["name"]: one["predicted_ms"] for one in ended.json()["configurations"]}
    assert found["full"] == 4.0
    (tmp_path / "board.toml").write_text(
        (tmp_path / "board.toml").read_text().replace('"stages.2.1" = 0.5', "")
    )
    ended = skipc(
        "select", trained / "ckpt.pt", "--data", "digits", "--target", tmp_path / "board.toml"
    )
    assert ended.code == 2
    assert "gives no latency of the unit 'stages.2.1'" in ended.err


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("--search", "surogate"), "Did you mean 'surrogate'"),
        (("--keep", "stages.9"), "--keep 'stages.9': no such unit"),
        (("--keep", "stages"), "nothing to select"),
        (("--cost", "energy"), "does not measure what a configuration takes"),
        (("--cost", "latncy"), "Did you mean 'latency'"),
        (("--target", "cpuu"), "unknown target 'cpuu'"),
        (("--parts", "1:2"), "write 3 whole numbers"),
        (("--data", "nowhere"), "--data nowhere: the folder nowhere does not exist"),
        (("--data", __file__), "is a file, not a folder"),
        (("--metric", "nowhere:f"), "there is no module 'nowhere'"),
        (("--ray", "nohost"), "--ray 'nohost': not an address. Give HOST:PORT"),
        (("--ray", "127.0.0.1:1"), "cannot be reached: Connection refused"),
        (("--out", "no/such/folder.json"), "the folder no/such does not exist"),
        (("--out", "."), "this is a folder"),
        (("--out", "front.png"), "Write e.g. --out front.json"),
    ],
)
def test_mistakes_are_told_in_one_message(trained, tmp_path, arguments, fragment):
    said = mistake(
        "select", trained / "ckpt.pt", *FAST, "--out", tmp_path / "f.json", *arguments
    )
    assert fragment in said
    assert list(tmp_path.iterdir()) == []


def test_transformer_has_no_norms_to_estimate(tmp_path):
    made = skipc(
        "train", "stochastic-depth", "--network", "vit", "--epochs", 1, "--out", tmp_path,
        "--network-arg", "width=16", "--network-arg", "depth=1",
    )  # fmt: skip
    assert made.code == 0, made.err
    found = selected(tmp_path, tmp_path / "f.json")
    assert found["norm"] == "shared"
    assert not (tmp_path / "f.norms.npz").exists()


def test_switching_network_is_selected_by_stage_and_built(tmp_path):
    # Each form is exported twice: one stage that can be skipped has two of them.
    made = skipc(
        "train", "sub-paths", "--epochs", 1, "--out", tmp_path,
        "--network-arg", "widths=[4,8]", "--network-arg", "depths=[1,2]",
    )  # fmt: skip
    assert made.code == 0, made.err
    found = selected(tmp_path, tmp_path / "f.json", "--search", "stages")
    assert {one["name"] for one in found["configurations"]} <= {"F", "T"}
    built = skipc(
        "build", tmp_path / "ckpt.pt", "--front", tmp_path / "f.json", "--target", "cpu"
    )
    assert built.code == 0, built.err
    assert "switched" in built.out
    said = mistake("select", tmp_path / "ckpt.pt", *FAST, "--norm", "full")
    assert "switches its norms" in said


SILU = """
from torch import nn

class Silu(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU())
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU())
        self.head = nn.Linear(4, 10)

    def forward(self, images):
        x = self.stem(images)
        return self.head((x + self.block(x)).mean((2, 3)))
"""


@pytest.mark.usefixtures("no_tests_imported")
def test_activation_decides_which_norm_is_the_default(tmp_path, monkeypatch):
    (tmp_path / "own_silu.py").write_text(SILU, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(0)
    silu = importlib.import_module("own_silu").Silu()
    torch.save(silu.state_dict(), tmp_path / "w.pt")
    network = ("--model", "own_silu:Silu", "--input", "images=1x1x8x8")
    arguments = ("select", tmp_path / "w.pt", *network, *FAST, "--out", tmp_path / "f.json")
    assert "the activation" in mistake(*arguments, "--norm", "scalar")
    ended = skipc(*arguments)
    assert ended.code == 0, ended.err
    assert "norms: full, since scalar does not fit" in ended.err
    assert json.loads((tmp_path / "f.json").read_text())["norm"] == "full"

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from skipc.compiler.read.file_format import CheckpointFile, save_checkpoint
from skipc.compiler.recipes import find_recipe
from skipc.runtime import AdaptiveEngine, Bundle
from tests.bundles import edit_json
from tests.command_line import (
    all_files,
    mistake,
    skipc,
    skipc_without,
    started,
    stopped,
)

if TYPE_CHECKING:
    from pathlib import Path

BERT = (
    *("--model", "transformers:BertForSequenceClassification"),
    *("--model-arg", "hidden_size=16", "--model-arg", "num_hidden_layers=1"),
    *("--model-arg", "num_attention_heads=2", "--model-arg", "intermediate_size=32"),
    *("--model-arg", "vocab_size=50", "--model-arg", "max_position_embeddings=16"),
    *("--input", "input_ids=Nx8:int64", "--input", "attention_mask=Nx8:int64"),
)


def _front(path: Path, **skips: object) -> Path:
    entries = [{"name": name, "skip": skip} for name, skip in skips.items()]
    path.write_text(json.dumps({"format": "skipc.front/1", "configurations": entries}))
    return path


def test_build_writes_a_bundle_with_engines_and_shows_it(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "mine.skipc"
    out.parent.mkdir()
    ended = skipc(
        *("build", made / "ckpt.pt", "--front", made / "front.json"),
        *("--target", "cpu", "--out", out),
    )
    assert ended.code == 0, ended.err
    assert all_files(out.parent) == [
        "mine.skipc",
        *("mine.skipc/engines", "mine.skipc/engines/cpu"),
        "mine.skipc/engines/cpu/engines.json",
        "mine.skipc/engines/cpu/fast.onnx",
        "mine.skipc/engines/cpu/full.onnx",
        "mine.skipc/engines/cpu/packed.bin",
        *("mine.skipc/fast.onnx", "mine.skipc/full.onnx", "mine.skipc/golden"),
        "mine.skipc/golden/fast.outputs.npz",
        "mine.skipc/golden/full.outputs.npz",
        "mine.skipc/golden/inputs.npz",
        *("mine.skipc/manifest.json", "mine.skipc/weights.bin"),
    ]
    bundle = Bundle.open(out)
    assert bundle.manifest.name == "mine"
    assert [c.name for c in bundle.manifest.configurations] == ["full", "fast"]
    assert f"{out}\n" in ended.out
    assert "target cpu" in ended.out
    assert "pruning and verifying fast (2 of 2) ..." in ended.err.splitlines()
    assert "packing fast (2 of 2) ..." in ended.err.splitlines()


def test_build_prints_json_and_nothing_else(made: Path, tmp_path: Path) -> None:
    arguments = ("--front", made / "front.json", "--target", "cpu")
    out = tmp_path / "b.skipc"
    document = skipc("build", made / "ckpt.pt", *arguments, "--out", out, "--json").json()
    assert document["path"] == str(out)
    assert document["manifest"]["format"] == "skipc.bundle/3"
    assert document["engines"]["cpu"]["format"] == "skipc.engines/2"


def test_build_takes_an_onnx_supernet(made: Path, tmp_path: Path) -> None:
    front = _front(tmp_path / "front.json", full=[], fast=["stages.2.2"])
    source = made / "ckpt.skipc" / "full.onnx"
    out = tmp_path / "o.skipc"
    ended = skipc("build", source, "--front", front, "--target", "cpu", "--out", out)
    assert ended.code == 0, ended.err
    case = Bundle.open(out).golden_inputs()[0]
    with AdaptiveEngine.open(out) as ours, AdaptiveEngine.open(made / "ckpt.skipc") as first:
        ours.pin("full")
        first.pin("full")
        np.testing.assert_allclose(ours(case)["output"], first(case)["output"], rtol=1e-5)


def test_build_and_run_take_several_whole_number_inputs_and_a_batch(tmp_path: Path) -> None:
    import transformers

    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=50,
        max_position_embeddings=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = transformers.BertForSequenceClassification(config).eval()
    torch.save(network.state_dict(), tmp_path / "bert.pt")
    front = _front(tmp_path / "front.json", full=[], fast=["bert.encoder.layer.0"])
    ended = skipc(
        *("build", tmp_path / "bert.pt", "--front", front, "--target", "cpu"),
        *(*BERT, "--batch", "1:2:4"),
    )
    assert ended.code == 0, ended.err
    assert "batch N  1 to 4, typically 2" in ended.out
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 50, (3, 8))
    mask = np.ones((3, 8), np.int64)
    mask[1, 5:] = 0
    np.savez(tmp_path / "in.npz", input_ids=ids, attention_mask=mask)
    out = tmp_path / "out.npz"
    ended = skipc("run", tmp_path / "bert.skipc", tmp_path / "in.npz", "--out", out)
    assert ended.code == 0, ended.err
    with torch.no_grad():
        expected = network(torch.from_numpy(ids), torch.from_numpy(mask)).logits.numpy()
    with np.load(out) as written:
        np.testing.assert_allclose(written["logits"], expected, atol=1e-5)
    np.save(tmp_path / "one.npy", ids)
    told = mistake("run", tmp_path / "bert.skipc", tmp_path / "one.npy")
    assert "2 inputs: input_ids, attention_mask" in told
    np.savez(
        tmp_path / "big.npz", input_ids=ids.repeat(2, 0), attention_mask=mask.repeat(2, 0)
    )
    told = mistake("run", tmp_path / "bert.skipc", tmp_path / "big.npz")
    assert "6" in told
    assert "4" in told


def test_build_takes_real_inputs_to_verify_on(work: Path) -> None:
    arguments = ("--front", work / "front.json", "--target", "cpu", "--overwrite")
    before = Bundle.open(work / "ckpt.skipc").manifest.graphs[0].verification.inputs
    ended = skipc("build", work / "ckpt.pt", *arguments, "--data", work / "images.npy")
    assert ended.code == 0, ended.err
    after = Bundle.open(work / "ckpt.skipc").manifest.graphs[0].verification.inputs
    assert after == before + 1


def test_build_computes_in_half_precision_when_told(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "half.skipc"
    ended = skipc(
        *("build", made / "ckpt.pt", "--front", made / "front.json", "--target", "cpu"),
        *("--precision", "fp16", "--out", out),
    )
    assert ended.code == 0, ended.err
    assert re.search(r"^  computes +fp16 *$", ended.out, re.MULTILINE)
    whole, half = (Bundle.open(path).manifest for path in (made / "ckpt.skipc", out))
    assert (whole.provenance.precision, half.provenance.precision) == ("fp32", "fp16")
    sizes = [sum(t.size_bytes for t in manifest.weights) for manifest in (whole, half)]
    # Some tensors are then small enough to lie in the graphs.
    assert 0.4 < sizes[1] / sizes[0] <= 0.5
    case = Bundle.open(out).golden_inputs()[0]
    with AdaptiveEngine.open(out) as ours, AdaptiveEngine.open(made / "ckpt.skipc") as first:
        ours.pin("full")
        first.pin("full")
        found, expected = ours(case)["output"], first(case)["output"]
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-2 * np.ptp(expected)


def test_build_replaces_a_bundle_only_when_told(work: Path) -> None:
    arguments = ("build", work / "ckpt.pt", "--front", work / "front.json", "--target", "cpu")
    before = (work / "ckpt.skipc" / "manifest.json").read_bytes()
    assert "Pass --overwrite to replace it" in mistake(*arguments)
    assert (work / "ckpt.skipc" / "manifest.json").read_bytes() == before
    edit_json(work / "front.json", lambda d: d["configurations"].pop())
    assert skipc(*arguments, "--overwrite").code == 0
    manifest = Bundle.open(work / "ckpt.skipc").manifest
    assert [entry.name for entry in manifest.configurations] == ["full"]


def test_build_of_a_folder_says_that_it_is_one(made: Path) -> None:
    for folder in (".", "/"):
        told = mistake("build", folder, "--front", made / "front.json", "--target", "cpu")
        assert "is a directory, expected a file" in told


def test_build_refuses_to_replace_what_is_no_bundle(work: Path) -> None:
    (work / "photos").mkdir()
    (work / "photos" / "a.png").touch()
    arguments = ("build", work / "ckpt.pt", "--front", work / "front.json", "--target", "cpu")
    told = mistake(*arguments, "--out", work / "photos", "--overwrite")
    assert "exists and is no bundle" in told
    assert all_files(work / "photos") == ["a.png"]


FRONTS = {
    "empty": ([], "'configurations' is empty"),
    "unknown": (
        [{"name": "a", "skip": ["stages.1.1", "stages.1.9"]}],
        "'stages.1.9' is no unit. Did you mean",
    ),
    "bits": ([{"name": "a", "skip": "0101"}], "the bit string has 4 bits"),
    "twice": (
        [{"name": "a", "skip": []}, {"name": "a", "skip": "0" * 11 + "1"}],
        "two configurations are named 'a'",
    ),
    "same": (
        [{"name": "a", "skip": []}, {"name": "b", "skip": []}],
        "'a' and 'b' choose the same",
    ),
    "other": ([{"name": "a", "skip": ["layer3.1"]}], "another network"),
    "file": ([{"name": "../a", "skip": []}], "cannot name files"),
}


@pytest.mark.parametrize("case", FRONTS)
def test_build_points_at_the_mistake_in_the_front(
    made: Path, tmp_path: Path, case: str
) -> None:
    entries, expected = FRONTS[case]
    front = tmp_path / "front.json"
    front.write_text(json.dumps({"format": "skipc.front/1", "configurations": entries}))
    out = tmp_path / "out" / "a.skipc"
    out.parent.mkdir()
    told = mistake(
        "build", made / "ckpt.pt", "--front", front, "--target", "cpu", "--out", out
    )
    assert expected in told
    assert str(front) in told
    assert all_files(out.parent) == []


MISTAKES = {
    "unknown target": (("--target", "cpuu"), "unknown target 'cpuu'. Did you mean 'cpu'?"),
    "target's file": (("--target", "mine.toml"), "mine.toml: cannot be read: No such file"),
    "tolerance": (("--target", "cpu", "--tolerance", "-1"), "x>=0"),
    "precision": (("--target", "cpu", "--precision", "fp8"), "'fp8' is not one of"),
    "model": (("--target", "cpu", "--model", "torchvision"), "torchvision"),
    "survival": (("--target", "cpu", "--survival", "a=2"), "must be above 0 and at most 1"),
    "survival alone": (("--target", "cpu", "--survival", "a=0.5"), "--survival has no effect"),
    "data": (
        ("--target", "cpu", "--data", "nothing.npy"),
        "nothing.npy: there is no such file",
    ),
    "option": (("--target", "cpu", "--tolerence", "1"), "--tolerance"),
    "no target": ((), "--target is missing, and skipc.toml is not in this folder"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_build_refuses_options_and_writes_nothing(
    made: Path, tmp_path: Path, case: str
) -> None:
    options, expected = MISTAKES[case]
    told = mistake(
        *("build", made / "ckpt.pt", "--front", made / "front.json", *options),
        *("--out", tmp_path / "a.skipc"),
    )
    assert expected in told
    assert all_files(tmp_path) == []


def test_build_leaves_nothing_when_a_subnet_is_over_the_tolerance(
    made: Path, tmp_path: Path
) -> None:
    told = mistake(
        *("build", made / "ckpt.pt", "--front", made / "front.json", "--target", "cpu"),
        *("--out", tmp_path / "a.skipc", "--tolerance", "0"),
    )
    assert "full" in told or "fast" in told
    assert all_files(tmp_path) == []


def test_build_refuses_a_checkpoint_that_would_run_code(made: Path, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("run",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": Evil()}))
    told = mistake(
        "build", tmp_path / "evil.pt", "--front", made / "front.json", "--target", "cpu"
    )
    assert "evil.pt" in told
    assert all_files(tmp_path) == ["evil.pt"]


def test_build_takes_a_target_of_the_users_own(work: Path) -> None:
    profile = work / "mine.toml"
    profile.write_text(
        'format = "skipc.profile/1"\nname = "mine"\nbackend = "onnxruntime-cpu"\n'
        'description = "a board of mine"\n'
    )
    out = work / "mine.skipc"
    ended = skipc(
        *("build", work / "ckpt.pt", "--front", work / "front.json"),
        *("--target", profile, "--out", out),
    )
    assert ended.code == 0, ended.err
    assert Bundle.open(out).targets() == ("mine",)
    assert "target mine" in ended.out
    profile.write_text(profile.read_text().replace("onnxruntime-cpu", "onnxruntime-gpu"))
    told = mistake("finish", out, "--target", profile)
    assert "'backend' is 'onnxruntime-gpu'" in told


def test_build_applies_survival_probabilities_when_told(tmp_path: Path, made: Path) -> None:
    recipe = find_recipe("resnet")
    arguments = {"widths": [4, 8, 8], "depths": [1, 2, 3]}
    network = recipe.load()(**arguments)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(3))
    checkpoint = CheckpointFile(
        *("skipc:resnet", arguments, network.state_dict(), recipe.inputs),
        survival={"stages.2.1": 0.5},
    )
    save_checkpoint(tmp_path / "s.pt", checkpoint)
    words = ("build", tmp_path / "s.pt", "--front", made / "front.json", "--target", "cpu")
    inverted, original = tmp_path / "i.skipc", tmp_path / "o.skipc"
    assert skipc(*words, "--out", inverted).code == 0
    ended = skipc(*words, "--out", original, "--residual-scale", "original")
    assert ended.code == 0, ended.err
    first, second = (
        Bundle.open(path).golden_outputs("full")[0]["output"] for path in (inverted, original)
    )
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize(
    ("checkpoint", "number", "code", "step", "left"),
    [
        ("ckpt.pt", signal.SIGINT, 130, "pruning and verifying fast", []),
        ("ckpt.skipc/full.onnx", signal.SIGTERM, 143, "pruning and verifying fast", []),
        ("ckpt.skipc/full.onnx", signal.SIGINT, 130, "packing fast", ["ckpt.skipc"]),
    ],
)
def test_build_leaves_nothing_half_written_when_stopped(
    made: Path,
    tmp_path: Path,
    checkpoint: str,
    number: int,
    code: int,
    step: str,
    left: list[str],
) -> None:
    ended = stopped(
        *(number, step, "build", made / checkpoint, "--front", made / "front.json"),
        *("--target", "cpu", "--out", tmp_path / "ckpt.skipc"),
    )
    assert ended.code == code, ended
    _check_left(tmp_path, left)


def _check_left(folder: Path, left: list[str]) -> None:
    assert [path.name for path in folder.iterdir()] == left
    if left:
        assert Bundle.open(folder / "ckpt.skipc").targets() == ()
        assert [p for p in all_files(folder) if "engines/" in p or ".tmp" in p] == []


def test_a_build_of_its_own_process_ends_when_stopped(made: Path, tmp_path: Path) -> None:
    with started(
        *("build", made / "ckpt.skipc/full.onnx", "--front", made / "front.json"),
        *("--target", "cpu", "--out", "ckpt.skipc"),
        folder=tmp_path,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("packing full"):
                process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    _check_left(tmp_path, ["ckpt.skipc"])


def test_build_needs_torch_and_says_so(made: Path, tmp_path: Path) -> None:
    arguments = (
        "--front",
        made / "front.json",
        "--target",
        "cpu",
        "--out",
        tmp_path / "a.skipc",
    )
    ended = skipc_without("torch", "build", made / "ckpt.pt", *arguments)
    assert ended.code == 2
    assert "'torch' is needed here and is not installed" in ended.err
    assert "pip install '.[compiler]'" in ended.err
    ended = skipc_without("onnx_ir", "build", made / "ckpt.pt", *arguments)
    assert ended.code == 2
    assert "'onnx_ir' is needed for this command" in ended.err
    assert all_files(tmp_path) == []

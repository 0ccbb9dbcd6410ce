"""The command line on TensorRT targets: what can be done here is done, the rest is told."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from skipc.runtime.bundle import Bundle
from skipc.tools.options import SizeType
from tests.command_line import mistake, skipc

if TYPE_CHECKING:
    from pathlib import Path


def build(made: Path, out: Path, *more: object) -> tuple[object, ...]:
    front = made / "front.json"
    return ("build", made / "ckpt.pt", "--front", front, "--out", out, *more)


def quick(made: Path, out: Path, *more: object) -> tuple[object, ...]:
    """Returns the words of a build that searches little for the fastest plans."""
    return build(made, out, "--optimization-level", 0, *more)


OPTIONS = ("--precision", "fp16", "--workspace", "64MiB")


@pytest.fixture(scope="module")
def rtx(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rtx") / "net.skipc"
    ended = skipc(*quick(made, out, "--target", "rtx", *OPTIONS))
    assert ended.code == 0, ended.err
    assert "building full (1 of 2) ..." in ended.err
    return out


def test_rtx_engines_are_built_here(rtx: Path) -> None:
    bundle = Bundle.open(rtx)
    assert bundle.targets() == ("rtx",)
    capabilities = bundle.engine_set().host["compute_capabilities"]
    assert capabilities == "7.5 8.0 8.6 8.9 12.0 12.1"
    recipe = bundle.manifest.recipe
    assert (recipe.target, recipe.workspace_bytes) == ("rtx", 64 << 20)
    assert recipe.optimization_level == 0


def test_what_is_not_known_without_a_gpu_is_said(rtx: Path) -> None:
    shown = skipc("show", rtx)
    assert "weights  in each plan: they could not be left out without a GPU" in shown.out
    assert (
        "device   not known: no GPU was here to check or measure the engines on" in shown.out
    )
    checked = skipc("check", rtx)
    assert checked.code == 2
    assert "hashes ok" in checked.out
    assert "target rtx is not run here: there is no GPU that CUDA can use" in checked.err
    document = skipc("show", rtx, "--json").json()
    assert {e["device_bytes"] for e in document["engines"]["rtx"]["engines"]} == {0}


def test_finish_follows_the_recipe_and_builds_nothing_twice(rtx: Path) -> None:
    ended = skipc("finish", rtx)
    assert ended.code == 0, ended.err
    assert "keeping full (1 of 2) ..." in ended.err
    assert "building" not in ended.err


def test_a_bundle_that_is_replaced_hands_its_plans_on(
    rtx: Path, made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "net.skipc"
    shutil.copytree(rtx, out)
    assert skipc("finish", out, "--target", "cpu").code == 0
    ended = skipc(*quick(made, out, "--target", "rtx", "--overwrite", *OPTIONS))
    assert ended.code == 0, ended.err
    assert "The engines of target cpu go with the bundle that is replaced" in ended.err
    assert "keeping full (1 of 2) ..." in ended.err
    ended = skipc(*quick(made, out, "--target", "rtx", "--overwrite"))
    assert "building full (1 of 2) ..." in ended.err
    assert [path.name for path in (out / "engines").iterdir()] == ["rtx"]


def test_targets_that_cannot_run_here_are_left_out_of_check(rtx: Path, tmp_path: Path) -> None:
    out = tmp_path / "two.skipc"
    shutil.copytree(rtx, out)
    assert skipc("finish", out, "--target", "cpu").code == 0
    ended = skipc("check", out)
    assert ended.code == 0, ended.err
    assert "target rtx is not run here: there is no GPU that CUDA can use" in ended.err
    document = skipc("check", out, "--json").json()
    assert {result["target"] for result in document["golden"]} == {"cpu"}
    assert list(document["not_run"]) == ["rtx"]
    assert "no GPU that CUDA can use" in mistake("check", out, "--target", "rtx")


def test_a_jetson_gets_its_bundle_estimates_and_command(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "orin.skipc"
    ended = skipc(*build(made, out, "--target", "jetson-orin", "--precision", "fp16"))
    assert ended.code == 0, ended.err
    assert (
        "No engines were built here: engines are built on the device, on aarch64" in ended.err
    )
    assert "estimate for jetson-orin (AGX Orin 64GB)" in ended.out
    assert "nothing was measured" in ended.out
    assert f"skipc finish {out}" in ended.out
    document = skipc("show", out, "--json").json()
    assert document["manifest"]["recipe"]["target"] == "jetson-orin"
    assert document["estimates"]["arithmetic"] == "fp16"
    rooflines = document["estimates"]["rooflines"]
    assert rooflines["fast"]["latency_ms"] < rooflines["full"]["latency_ms"]
    assert "cannot be built here" in mistake("finish", out)
    assert skipc("finish", out, "--target", "cpu").code == 0


def test_a_profile_of_ones_own_travels_in_the_bundle(made: Path, tmp_path: Path) -> None:
    board, out = tmp_path / "my-board.toml", tmp_path / "own.skipc"
    board.write_text(
        'format = "skipc.profile/1"\nname = "my-board"\nbackend = "tensorrt-rtx"\n'
        'description = "a board of mine"\ncompute_capabilities = ["8.6"]\n'
    )
    assert skipc(*quick(made, out, "--target", board)).code == 0
    board.unlink()
    assert Bundle.open(out).manifest.recipe.profile == "my-board.toml"
    for words in (("finish", out), ("finish", out, "--target", "my-board")):
        ended = skipc(*words, "--json")
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["target"] == "my-board"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "cpu", "--workspace", "1GB"), "--workspace is TensorRT's; target 'cpu'"),
        (("--target", "rtx", "--engines", "one"), "--engines is for the CPU; target 'rtx'"),
        (("--target", "cuda", "--engines", "one"), "--engines is for the CPU; target 'cuda'"),
        (
            ("--target", "cuda", "--workspace", "1GB"),
            "--workspace is TensorRT's; target 'cuda'",
        ),
        (("--target", "cuda", "--precision", "bf16"), "does not compute in it, but in fp32"),
        (("--target", "rtx", "--workspace", "0"), "'0' is no size above zero, such as 512MB"),
        (("--target", "rtx", "--optimization-level", "6"), "6 is not in the range 0<=x<=5"),
        (("--target", "rtx", "--precision", "bf16"), "does not compute in it, but in fp32"),
        (("--target", "jetson-oryn"), "Did you mean 'jetson-orin'"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(
    made: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in mistake(*build(made, tmp_path / "no.skipc", *words))
    assert not (tmp_path / "no.skipc").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("2k", 2000), ("1.5MB", 1_500_000), ("2GiB", 2 << 30), (" 4 mib ", 4 << 20)],
)
def test_sizes_have_units(text: str, expected: int) -> None:
    assert SizeType().convert(text, None, None) == expected


def test_damaged_weights_are_noticed_by_every_target(rtx: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.skipc"
    shutil.copytree(rtx, out)
    data = bytearray((out / "weights.bin").read_bytes())
    data[0] ^= 1
    (out / "weights.bin").write_bytes(data)
    for target in ("cpu", "rtx"):
        assert "weights.bin: wrong hash" in mistake("finish", out, "--target", target)

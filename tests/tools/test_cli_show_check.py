from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.runtime.bundle import Bundle
from tests.bundles import (
    add_axis,
    edit_engines,
    list_anew,
    make_cascade,
    set_value,
    write_bundle,
    write_engines,
)
from tests.command_line import mistake, skipc, skipc_without

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING = (
    "torch,onnx,onnx_ir,onnxscript,onnxruntime,safetensors,sklearn,matplotlib,transformers"
)


def _flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


def test_show_prints_configurations_and_engines(made: Path) -> None:
    ended = skipc("show", made / "ckpt.skipc")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.rstrip() for line in ended.out.splitlines()]
    assert lines[0] == str(made / "ckpt.skipc")
    assert "  inputs   images 1x1x8x8 float32" in lines
    rows = [line.split() for line in lines]
    assert ["configuration", "skip", "accuracy", "MACs", "weights", "own", "error"] in rows
    portable = next(row for row in rows if row[:1] == ["fast"])
    assert portable[1:5] == ["2", "skipped", "95.0", "%"]
    assert any(line.startswith("  host     architecture") for line in lines)


def test_show_prints_an_axis_that_it_does_not_know(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "toy.skipc")
    add_axis(path / "manifest.json", "width", ["half", "whole"])
    lines = [line.rstrip() for line in skipc("show", path).out.splitlines()]
    assert "  axes     skip: 2 options; width: 2 options" in lines
    rows = [line.split() for line in lines]
    assert rows[rows.index([]) + 1][:4] == ["configuration", "skip", "width", "accuracy"]
    full = ["full", "0", "skipped", "width", "half", "95.0", "%"]
    assert full in [row[: len(full)] for row in rows]


def test_show_prints_a_route_of_several_stages(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "toy.skipc")
    make_cascade(path / "manifest.json", "mid", ["fast", "full"], "logits")
    rows = [line.split() for line in skipc("show", path).out.splitlines()]
    mid = ["mid", "1", "skipped", "93.0", "%", "4.0", "k", "1.8", "kB", "0", "B"]
    assert mid in [row[: len(mid)] for row in rows]


@pytest.mark.parametrize("command", ["show", "check"])
def test_bundle_is_readable_in_80_columns(made: Path, command: str) -> None:
    ended = skipc(command, made / "ckpt.skipc", columns=80)
    lines = ended.out.splitlines()[1:]  # the first is a path, which is never folded
    assert max(map(len, lines)) <= 80
    # Every row of a table is one line: each configuration is named once per table.
    names = [line.split()[:1] for line in lines]
    assert "\x1b" not in ended.out
    if command == "show":
        assert names.count(["full"]) == names.count(["fast"]) == 2


def test_show_prints_json_and_nothing_else(made: Path) -> None:
    document = skipc("show", made / "ckpt.skipc", "--json").json()
    assert document["manifest"]["configurations"][1]["name"] == "fast"
    assert document["engines"]["cpu"]["backend"] == "onnxruntime-cpu"


def test_show_and_check_name_the_command_before_the_engines_are_built(work: Path) -> None:
    bundle = work / "my bundle.skipc"
    (work / "ckpt.skipc").rename(bundle)
    shutil.rmtree(bundle / "engines")
    hint = f"skipc finish '{bundle}'\n"
    shown, checked = skipc("show", bundle), skipc("check", bundle)
    assert shown.code == checked.code == 0
    assert hint in shown.out
    assert "hashes ok: 6 files\n" in checked.out
    assert hint in checked.out
    assert skipc("check", bundle, "--json").json()["golden"] == []
    assert "holds no engines yet" in mistake("run", bundle, work / "images.npy")
    ended = skipc("finish", bundle)
    assert ended.code == 0, ended.err
    assert Bundle.open(bundle).targets() == ("cpu",)


@pytest.mark.parametrize("command", ["show", "check", "finish"])
def test_commands_refuse_what_is_no_bundle(made: Path, command: str) -> None:
    assert "does not exist" in mistake(command, made / "nothing.skipc")
    assert "is not a folder" in mistake(command, made / "ckpt.pt")
    assert "so it is not a bundle" in mistake(command, made)


def test_show_needs_only_the_base_install(made: Path) -> None:
    ended = skipc_without(EVERYTHING, "show", made / "ckpt.skipc")
    assert ended.code == 0, ended.err
    assert "target cpu" in ended.out


def test_finish_prints_json_and_nothing_else(work: Path) -> None:
    document = skipc("finish", work / "ckpt.skipc", "--json").json()
    assert [engine["graph"] for engine in document["engines"]] == ["full", "fast"]


def test_finish_refuses_unknown_targets_and_leaves_the_engines(work: Path) -> None:
    bundle = work / "ckpt.skipc"
    before = (bundle / "engines/cpu/engines.json").read_bytes()
    assert "unknown target 'gpu'" in mistake("finish", bundle, "--target", "gpu")
    assert (bundle / "engines/cpu/engines.json").read_bytes() == before


def test_check_passes_on_a_whole_bundle(made: Path) -> None:
    ended = skipc("check", made / "ckpt.skipc")
    assert ended.code == 0, ended.err
    assert "hashes ok: 6 files and the engines of cpu" in ended.out
    assert [line.split()[:2] for line in ended.out.splitlines()[-2:]] == [
        ["cpu", "full"],
        ["cpu", "fast"],
    ]
    assert ended.err.splitlines() == [
        "comparing hashes ...",
        "running the golden inputs on target cpu ...",
    ]


def test_check_prints_json_and_nothing_else(made: Path) -> None:
    document = skipc("check", made / "ckpt.skipc", "--target", "cpu", "--json").json()
    assert document["passed"] is True
    assert [result["configuration"] for result in document["golden"]] == ["full", "fast"]
    assert all(
        result["relative_error"] <= result["tolerance"] for result in document["golden"]
    )


@pytest.mark.parametrize(
    "name",
    [
        *("weights.bin", "fast.onnx", "golden/inputs.npz"),
        *("engines/cpu/packed.bin", "engines/cpu/full.onnx"),
    ],
)
def test_check_names_the_file_when_a_byte_is_flipped(work: Path, name: str) -> None:
    bundle = work / "ckpt.skipc"
    _flip_a_byte(bundle / name)
    ended = skipc("check", bundle)
    assert (ended.code, ended.out) == (1, "")
    assert f"Error: {bundle / name}: wrong hash" in ended.err


def test_check_ends_with_1_when_a_file_is_gone(work: Path) -> None:
    bundle = work / "ckpt.skipc"
    (bundle / "fast.onnx").unlink()
    ended = skipc("check", bundle)
    assert (ended.code, ended.out) == (1, "")
    assert str(bundle / "fast.onnx") in ended.err


def test_check_ends_with_1_when_an_output_differs(work: Path) -> None:
    bundle = work / "ckpt.skipc"
    file = bundle / "golden" / "fast.outputs.npz"
    with np.load(file) as golden:
        arrays = {name: golden[name].copy() for name in golden.files}
    arrays["0/output"][0, 3] += 0.5
    np.savez(file, **arrays)
    list_anew(bundle, "golden/fast.outputs.npz")
    ended = skipc("check", bundle)
    assert ended.code == 1
    verdicts = [line.split()[-1] for line in ended.out.splitlines()[-2:]]
    assert verdicts == ["ok", "FAILED"]
    assert "Error: 1 of 2 engines differ from the golden outputs" in ended.err
    assert "allows: fast. Build" in ended.err
    ended = skipc("check", bundle, "--json")
    assert ended.code == 1
    assert '"passed": false' in ended.out
    assert "Traceback" not in ended.err
    stale = set_value("host", "onnxruntime", value="1.0.0")
    edit_engines(bundle / "engines/cpu/engines.json", stale)
    ended = skipc("check", bundle)
    assert (ended.code, ended.out) == (1, "")
    assert "Error: configuration 'fast': on this CPU its outputs" in ended.err


def test_check_ends_with_1_when_engines_built_anew_show_damage(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "toy.skipc")
    write_engines(bundle, backend="onnxruntime-cpu")
    ended = skipc("check", bundle)
    assert (ended.code, ended.out) == (1, "")
    assert f"Error: {bundle / 'full.onnx'}: not an ONNX graph" in ended.err


def test_check_fails_on_nan_and_prints_valid_json(work: Path) -> None:
    bundle = work / "ckpt.skipc"
    file = bundle / "golden" / "full.outputs.npz"
    with np.load(file) as golden:
        arrays = {name: golden[name].copy() for name in golden.files}
    arrays["0/output"][0, 0] = np.nan
    np.savez(file, **arrays)
    list_anew(bundle, "golden/full.outputs.npz")
    ended = skipc("check", bundle, "--json")
    assert ended.code == 1
    assert "NaN" not in ended.out
    assert '"relative_error": null' in ended.out


def test_check_refuses_targets_without_engines(made: Path) -> None:
    bundle = made / "ckpt.skipc"
    assert "holds no engines for the target 'tensorrt'" in mistake(
        "check", bundle, "--target", "tensorrt"
    )
    assert "unknown target 'cpuu'" in mistake("check", bundle, "--target", "cpuu")
    assert "nothing that could be checked" in mistake("check", bundle, "--target", "null")


def test_check_and_run_find_the_engines_of_a_users_own_target(work: Path) -> None:
    bundle, profile = work / "ckpt.skipc", work / "mine.toml"
    profile.write_text(
        'format = "skipc.profile/1"\nname = "mine"\nbackend = "onnxruntime-cpu"\n'
        'description = "a board of mine"\n'
    )
    told = mistake("check", bundle, "--target", profile)
    assert "holds no engines for the target 'mine'" in told
    assert skipc("finish", bundle, "--target", profile).code == 0
    for target in (profile, "mine"):
        document = skipc("check", bundle, "--target", target, "--json").json()
        assert {result["target"] for result in document["golden"]} == {"mine"}
        assert skipc("run", bundle, work / "images.npy", "--target", target).code == 0


def test_targets_lists_profiles_and_whether_they_can_be_built_here() -> None:
    ended = skipc("targets")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[1].split()[:3] == ["cpu", "onnxruntime-cpu", "yes"]
    document = skipc("targets", "--json").json()
    assert document[0]["name"] == "cpu"
    assert (document[0]["buildable"], document[0]["reason"]) == (True, None)


def test_targets_says_what_is_missing_in_the_base_install() -> None:
    ended = skipc_without(EVERYTHING, "targets")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[1].split()[:3] == ["cpu", "onnxruntime-cpu", "no"]
    assert "pip install '.[finish]'" in ended.out

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skipc.compiler.targets import unavailable_reason
from skipc.profiles import Profile, load_profile, profile_names
from skipc.profiles.detect import detect, machine_name
from skipc.runtime import Bundle
from tests.command_line import mistake, skipc, skipc_without

if TYPE_CHECKING:
    from pathlib import Path


def test_the_list_names_every_target_and_fits_a_terminal() -> None:
    ended = skipc("targets", columns=80)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 80
    names = [line.split()[0] for line in lines if line[:1].isalpha()]
    assert names[1 : 1 + len(profile_names())] == [*profile_names()]


def test_the_list_says_once_why_targets_cannot_be_built_here() -> None:
    ended = skipc("targets")
    reasons = [line for line in ended.out.splitlines() if "cannot be built here" in line]
    told = [name for line in reasons for name in line.partition(" cannot")[0].split(", ")]
    unavailable = [
        name for name in profile_names() if unavailable_reason(load_profile(name)) is not None
    ]
    assert sorted(told) == unavailable


def test_json_of_the_list_holds_everything() -> None:
    listed = skipc("targets", "--json").json()
    assert [entry["name"] for entry in listed] == [*profile_names()]
    by_name = {entry["name"]: entry for entry in listed}
    board = by_name["jetson-orin"]["boards"][0]
    assert board["peak_tops"]["fp16"]["value"] == 42.5
    assert board["peak_tops"]["fp16"]["derived"] is True
    assert by_name["cpu"]["detect"]["fallback"] is True
    for entry in listed:
        assert entry["buildable"] == (entry["reason"] is None)


@pytest.mark.parametrize("name", profile_names())
def test_one_target_is_shown_whole(name: str) -> None:
    profile = load_profile(name)
    ended = skipc("targets", name)
    assert (ended.code, ended.err) == (0, "")
    shown = [profile.backend, profile.description, *profile.precisions]
    for board in profile.boards:
        shown += [board.name, *board.module_ids, *board.power_modes, *board.rails]
        for number in board.numbers().values():
            shown += [f"{number.value:g}", number.source]
    for release in profile.software:
        shown += [release.name, release.tensorrt, release.l4t, release.cuda, release.python]
    assert [text for text in shown if text not in ended.out] == []
    narrow = skipc("targets", name, columns=80)
    assert max(map(len, narrow.out.splitlines())) <= 80


def test_json_of_one_target_is_its_entry_of_the_list() -> None:
    (entry,) = (one for one in skipc("targets", "--json").json() if one["name"] == "rtx")
    assert skipc("targets", "rtx", "--json").json() == entry


def test_a_file_of_the_users_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'format = "skipc.profile/1"\nname = "mine"\nbackend = "onnxruntime-cpu"\n'
        'description = "a board of mine"\n'
        "[latency]\nbase_ms = 1.5\nunit_ms = {a = 1, b = 2}\n"
        '[[boards]]\nname = "It"\nbandwidth_gb_s = { value = 17, derived = true }\n'
    )
    told = skipc("targets", file).out
    for text in ("mine\n", "a board of mine", "1.5 ms, and what 2 units add", "\nIt\n"):
        assert text in told
    assert next(line for line in told.splitlines() if "17" in line).split() == [
        *("bandwidth", "17", "GB/s", "derived")
    ]
    assert skipc("targets", file, "--json").json()["boards"][0]["name"] == "It"


def test_detect_prints_what_suits_this_machine() -> None:
    found = detect()
    told = skipc("targets", "--detect")
    assert (told.code, told.err) == (0, "")
    assert told.out.split()[:2] == ["target", found.profile]
    assert found.reason in told.out
    assert skipc("targets", "--detect", "--json").json() == {
        "profile": found.profile,
        "board": found.board,
        "reason": found.reason,
    }


def test_one_target_and_detection_need_nothing_but_the_base_install() -> None:
    for arguments in (("jetson-orin",), ("--detect",)):
        ended = skipc_without("torch,onnx,onnx_ir,onnxruntime", "targets", *arguments)
        assert (ended.code, ended.err) == (0, "")


def test_mistakes_are_told(tmp_path: Path) -> None:
    assert "unknown target 'jetson-orim'. Did you mean 'jetson-orin" in mistake(
        "targets", "jetson-orim"
    )
    assert "--detect finds the target, but 'cpu' is given" in mistake(
        "targets", "cpu", "--detect"
    )
    assert "gone.toml: cannot be read" in mistake("targets", tmp_path / "gone.toml")


def test_engines_for_another_architecture_are_not_built_here() -> None:
    board = load_profile("raspberry-pi-5")
    assert unavailable_reason(board, "aarch64") is None
    reason = unavailable_reason(board, "x86_64")
    assert reason == "engines are built on the device, on aarch64; this is x86_64."


def test_a_backend_without_a_builder_is_a_reason_and_no_error() -> None:
    reason = unavailable_reason(Profile("mine", "onnxruntime-tpu", "a mistake"))
    assert reason == "this version of skipc does not build engines of 'onnxruntime-tpu'."


def test_build_for_another_architecture_leaves_the_engines_to_the_device(work: Path) -> None:
    other = "x86_64" if machine_name() == "aarch64" else "aarch64"
    profile = work / "mine.toml"
    profile.write_text(
        'format = "skipc.profile/1"\nname = "mine"\nbackend = "onnxruntime-cpu"\n'
        f'description = "a board of mine"\narchitecture = "{other}"\n'
    )
    out = work / "mine.skipc"
    ended = skipc(
        *("build", work / "ckpt.pt", "--front", work / "front.json"),
        *("--target", profile, "--out", out),
    )
    assert ended.code == 0, ended.err
    assert Bundle.open(out).targets() == ()
    assert f"No engines were built here: engines are built on the device, on {other}" in (
        ended.err
    )
    assert "cannot be built here" in mistake("finish", out, "--target", profile)

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skipc.compiler.targets import _BUILDERS
from skipc.profiles import (
    PRECISIONS_OF_BACKEND,
    ProfileError,
    load_profile,
    profile_names,
)

if TYPE_CHECKING:
    from skipc.profiles import Board, Profile

NAMES = (
    "cpu",
    "cuda",
    "jetson-orin",
    "jetson-orin-nano",
    "jetson-orin-nx",
    "jetson-thor",
    "jetson-xavier",
    "raspberry-pi-5",
    "rtx",
    "tensorrt",
)
PROFILES = [load_profile(name) for name in NAMES]
BOARDS = {board.name: board for profile in PROFILES for board in profile.boards}


def test_profile_names_lists_what_comes_with_skipc() -> None:
    assert profile_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_loads(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert len(profile.description) < 80
    assert profile.latency is None
    for release in profile.software:
        assert any((release.tensorrt, release.cuda, release.python, release.l4t)), release


def test_backends_are_those_of_the_targets() -> None:
    backends = {profile.name: profile.backend for profile in PROFILES}
    cpu = {"cpu": "onnxruntime-cpu", "raspberry-pi-5": "onnxruntime-cpu"}
    others = {"cuda": "onnxruntime-cuda", "rtx": "tensorrt-rtx"}
    assert backends == dict.fromkeys(NAMES, "tensorrt") | cpu | others


def test_profiles_know_every_backend_that_has_a_builder() -> None:
    assert set(_BUILDERS) <= set(PRECISIONS_OF_BACKEND)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_precisions_are_those_that_the_gpu_has(profile: Profile) -> None:
    before_ampere = {"7.2", "7.5"}.intersection(profile.compute_capabilities)
    assert ("bf16" in profile.precisions) == (
        profile.backend.startswith("tensorrt") and not before_ampere
    )
    assert "fp32" in profile.precisions


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_number_of_a_board_says_where_it_comes_from(board: Board) -> None:
    for key, number in board.numbers().items():
        assert number.source, key
        assert number.value > 0, key


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_rates_fit_one_another(board: Board) -> None:
    peaks = {key: number.value for key, number in board.peak_tops.items()}
    if "fp16" in peaks:
        assert peaks["fp16"] > peaks["fp32"]
        assert peaks.get("bf16", peaks["fp16"]) == peaks["fp16"]
        assert peaks.get("int8", 2 * peaks["fp16"]) == pytest.approx(
            2 * peaks["fp16"], rel=0.01
        )
        assert peaks.get("tf32", peaks["fp16"] / 2) == pytest.approx(
            peaks["fp16"] / 2, rel=0.01
        )


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_total_leaves_out_what_another_rail_holds(board: Board) -> None:
    held = {"VDDQ_VDD2_1V8AO"}  # by VIN_SYS_5V0
    outside = tuple(rail for rail in board.rails if rail not in held)
    assert board.total_rails in (outside, ("VDD_IN",), ("VIN",))


def test_boards_are_told_apart_by_module_and_power_modes_are_names() -> None:
    modules = [module for board in BOARDS.values() for module in board.module_ids]
    assert len(set(modules)) == len(modules)
    modes = [mode for board in BOARDS.values() for mode in board.power_modes]
    assert not any(mode.isdigit() for mode in modes)


def test_exactly_one_profile_is_the_fallback_and_rtx_is_never_detected() -> None:
    assert [profile.name for profile in PROFILES if profile.detect.fallback] == ["cpu"]
    rtx = load_profile("rtx").detect
    assert (rtx.compatible, rtx.files) == ((), ())


@pytest.mark.parametrize("name", ["CPU", "", "../cpu", "cpu.tom"])
def test_load_profile_lists_the_names_when_one_is_unknown(name: str) -> None:
    with pytest.raises(ProfileError, match=r"unknown target .*Available: 'cpu'"):
        load_profile(name)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("jetson-nano", "jetson-orin-nano"), ("jetson_orin", "jetson-orin"), ("rtxx", "rtx")],
)
def test_load_profile_names_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ProfileError, match=rf"Did you mean '{near}'\?"):
        load_profile(wrong)

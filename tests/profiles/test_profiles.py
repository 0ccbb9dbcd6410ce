from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skipc.profiles import Profile, ProfileError, load_profile, profile_names

if TYPE_CHECKING:
    from pathlib import Path

MINE = """format = "skipc.profile/1"
name = "mine"
backend = "onnxruntime-cpu"
description = "my board"

[sources]
cores = "its data sheet"
"""


def test_profile_names_lists_what_comes_with_skipc() -> None:
    assert profile_names() == ("cpu",)


def test_load_profile_reads_every_profile() -> None:
    for name in profile_names():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.description


def test_load_profile_reads_a_file_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    assert load_profile(str(tmp_path / "mine.toml")) == Profile(
        "mine", "onnxruntime-cpu", "my board", {"cores": "its data sheet"}
    )


@pytest.mark.parametrize("name", ["jetson-orin", "jetson-nano", "tensorrt", "cuda"])
def test_load_profile_says_so_when_a_target_is_not_in_this_version(name: str) -> None:
    with pytest.raises(ProfileError, match=rf"'{name}' is not in this version.*'cpu'"):
        load_profile(name)


@pytest.mark.parametrize("name", ["CPU", "", "../cpu", "cpu.tom"])
def test_load_profile_lists_the_names_when_one_is_unknown(name: str) -> None:
    with pytest.raises(ProfileError, match=r"unknown target .*Available: 'cpu'"):
        load_profile(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not a profile that can be read"),
        ('name = "mine"', "'format' must be 'skipc.profile/1', found None"),
        (MINE.replace("backend", "backnd"), "unknown key 'backnd'.*Did you mean 'backend'"),
        (MINE.replace('"my board"', "3"), "'description' must be a non-empty string"),
        (
            MINE.replace('"mine"', '"yours"'),
            "'name' is 'yours', but the file is called 'mine'",
        ),
    ],
)
def test_load_profile_points_at_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ProfileError, match=message):
        load_profile(str(file))


def test_load_profile_says_so_when_the_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"gone\.toml: not a profile that can be read"):
        load_profile(str(tmp_path / "gone.toml"))

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skipc.compiler.errors import TargetError
from skipc.compiler.targets import builder_for, carried_over, finish, kept_folder
from skipc.profiles import Profile, ProfileError, load_profile
from skipc.runtime.errors import BundleError
from tests.bundles import write_bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["cpu", "raspberry-pi-5"])
def test_profiles_of_the_cpu_have_its_builder(name: str) -> None:
    profile = load_profile(name)
    assert builder_for(profile).unavailable_reason(profile) is None


def test_builder_for_names_the_backends_when_there_is_none() -> None:
    profile = Profile("mine", "onnxruntime-cpus", "a mistake")
    with pytest.raises(TargetError, match=r"'mine'.*Did you mean 'onnxruntime-cpu'"):
        builder_for(profile)


def test_finish_names_the_targets_when_the_target_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"unknown target 'cpuu'.*Did you mean 'cpu'"):
        finish(write_bundle(tmp_path / "toy.skipc"), "cpuu")


def test_finish_refuses_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        finish(tmp_path, "cpu")


def test_plans_that_cannot_be_handed_back_do_not_hide_why_a_build_failed(
    tmp_path: Path,
) -> None:
    old = write_bundle(tmp_path / "old.skipc")
    (old / "engines").write_bytes(b"a file in the way")
    waiting = kept_folder(tmp_path / "new", "cpu")
    waiting.mkdir(parents=True)
    (waiting / "full.plan").write_bytes(b"")
    with (
        pytest.raises(TargetError, match="no room"),
        carried_over(old, tmp_path / "new", "cpu"),
    ):
        raise TargetError("no room")

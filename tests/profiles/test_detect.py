from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipc.profiles import load_profile, profile_names
from skipc.profiles.detect import Detected, detect

if TYPE_CHECKING:
    from pathlib import Path

# As the device trees of the developer kits have it.
KITS = {
    "p3737-0000+p3701-0000": ("tegra234", "jetson-orin", "AGX Orin 64GB"),
    "p3737-0000+p3701-0005": ("tegra234", "jetson-orin", "AGX Orin 64GB"),
    "p3737-0000+p3701-0004": ("tegra234", "jetson-orin", "AGX Orin 32GB"),
    "p3768-0000+p3767-0000": ("tegra234", "jetson-orin-nx", "Orin NX 16GB"),
    "p3768-0000+p3767-0000-super": ("tegra234", "jetson-orin-nx", "Orin NX 16GB"),
    "p3768-0000+p3767-0001": ("tegra234", "jetson-orin-nx", "Orin NX 8GB"),
    "p3768-0000+p3767-0003": ("tegra234", "jetson-orin-nano", "Orin Nano 8GB"),
    "p3768-0000+p3767-0005": ("tegra234", "jetson-orin-nano", "Orin Nano 8GB"),
    "p3768-0000+p3767-0004": ("tegra234", "jetson-orin-nano", "Orin Nano 4GB"),
    "p3971-0080+p3834-0008": ("tegra264", "jetson-thor", "Thor T5000"),
    "p2972-0000": ("tegra194", "jetson-xavier", "AGX Xavier"),
    "p2822-0000+p2888-0001": ("tegra194", "jetson-xavier", "AGX Xavier"),
    "p2822-0000+p2888-0003": ("tegra194", "jetson-xavier", "AGX Xavier"),
    "p2822-0000+p2888-0004": ("tegra194", "jetson-xavier", "AGX Xavier"),
    "p2822-0000+p2888-0005": ("tegra194", "jetson-xavier", "AGX Xavier"),
}
UNKNOWN = {
    "an industrial AGX Orin": ("p3737-0000+p3701-0008", "tegra234"),
    "a longer number": ("p3737-0000+p3701-00051", "tegra234"),
    "a Xavier NX": ("p3509-0000+p3668-0000", "tegra194"),
}


def _tree(root: Path, *entries: str) -> Path:
    folder = root / "proc/device-tree"
    folder.mkdir(parents=True)
    data = "".join(f"{entry}\0" for entry in entries)
    (folder / "compatible").write_bytes(data.encode())
    return root


def _file(root: Path, path: str) -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()
    return root


@pytest.mark.parametrize("kit", KITS)
def test_every_kit_is_known(tmp_path: Path, kit: str) -> None:
    soc, profile, board = KITS[kit]
    _tree(tmp_path, f"nvidia,{kit}", f"nvidia,{soc}")
    found = detect(tmp_path, "aarch64")
    assert (found.profile, found.board) == (profile, board)
    assert "names the module p" in found.reason


def test_every_module_of_the_profiles_was_tried() -> None:
    modules = {
        module
        for name in profile_names()
        for board in load_profile(name).boards
        for module in board.module_ids
    }
    assert modules == {kit.removesuffix("-super").rpartition("+")[2] for kit in KITS}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_module_is_not_taken_for_a_known_one(tmp_path: Path, case: str) -> None:
    kit, soc = UNKNOWN[case]
    _tree(tmp_path, f"nvidia,{kit}", f"nvidia,{soc}")
    bare = detect(tmp_path, "aarch64")
    assert (bare.profile, bare.board) == ("cpu", "")
    release = detect(_file(tmp_path, "etc/nv_tegra_release"), "aarch64")
    assert (release.profile, release.board) == ("tensorrt", "")
    for found in (bare, release):
        assert f"(nvidia,{kit}, nvidia,{soc}) fits jetson-" in found.reason
        assert "a module that no profile knows" in found.reason
    assert release.reason.endswith("/etc/nv_tegra_release exists.")


def test_a_soc_that_no_profile_knows_is_no_jetson_of_ours(tmp_path: Path) -> None:
    _tree(tmp_path, "nvidia,p3450-0000", "nvidia,tegra210")
    assert detect(tmp_path, "aarch64").profile == "cpu"


def test_raspberry_pi_5_is_known_and_its_neighbours_are_not(tmp_path: Path) -> None:
    found = detect(_tree(tmp_path / "5", "raspberrypi,5-model-b", "brcm,bcm2712"), "aarch64")
    assert (found.profile, found.board) == ("raspberry-pi-5", "Raspberry Pi 5")
    _tree(tmp_path / "4", "raspberrypi,4-model-b", "brcm,bcm2711")
    assert detect(tmp_path / "4", "aarch64").profile == "cpu"


@pytest.mark.parametrize("file", ["dev/nvidia0", "proc/driver/nvidia/version"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "AMD64"])
def test_a_gpu_is_known_by_its_drivers_files(tmp_path: Path, file: str, machine: str) -> None:
    found = detect(_file(tmp_path, file), machine)
    assert found == Detected("tensorrt", "", f"/{file} exists.")


def test_the_device_tree_comes_before_files(tmp_path: Path) -> None:
    _file(tmp_path, "dev/nvidia0")
    _tree(tmp_path, "nvidia,p3737-0000+p3701-0005", "nvidia,tegra234")
    assert detect(tmp_path, "arm64").profile == "jetson-orin"


def test_another_architecture_rules_a_profile_out_and_is_told(tmp_path: Path) -> None:
    found = detect(_tree(tmp_path, "raspberrypi,5-model-b", "brcm,bcm2712"), "armv7l")
    assert found.profile == "cpu"
    assert "fits raspberry-pi-5, but that needs aarch64 and this system is armv7l" in (
        found.reason
    )


def test_without_anything_the_fallback_is_taken(tmp_path: Path) -> None:
    assert detect(tmp_path, "x86_64") == Detected(
        "cpu", "", "Nothing was found that another target needs."
    )


def test_a_device_tree_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree/compatible").mkdir(parents=True)
    found = detect(tmp_path, "aarch64")
    assert found.profile == "cpu"
    assert found.reason.startswith("/proc/device-tree/compatible cannot be read: Is a dir")


def test_this_machine_has_a_profile() -> None:
    assert detect().profile in profile_names()


@given(data=st.binary(max_size=200))
def test_any_device_tree_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    root = _tree(tmp_path_factory.mktemp("any"))
    (root / "proc/device-tree/compatible").write_bytes(data)
    assert detect(root, "aarch64").profile in profile_names()

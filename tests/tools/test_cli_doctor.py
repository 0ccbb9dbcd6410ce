"""``skipc doctor``: what is installed and what can be done, as the parts say it themselves."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from skipc.compiler.targets import unavailable_reason
from skipc.profiles import load_profile, profile_names
from skipc.runtime.meters import MEASURING
from skipc.tools.views import doctor
from skipc.tools.views.doctor import diagnose
from tests.command_line import skipc

if TYPE_CHECKING:
    import pytest


def test_it_says_what_is_installed_and_what_can_be_done() -> None:
    ended = skipc("doctor", columns=80)
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines()[:3])) <= 80
    found = skipc("doctor", "--json").json()
    assert found["base"]["numpy"] == importlib.metadata.version("numpy")
    assert {each["name"]: each["not_built"] for each in found["targets"]} == {
        name: unavailable_reason(load_profile(name)) for name in profile_names()
    }
    assert [each["kind"] for each in found["meters"]] == [*MEASURING]
    for each in found["targets"]:
        assert each["name"] in ended.out
        if each["not_run"]:
            assert each["not_run"].split()[0] in ended.out


def test_what_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = ["numpy>=1.23", 'there-is-none>=1; extra == "ray"', 'numpy>=1; extra == "ray"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    (ray,) = (each for each in diagnose().extras if each.name == "ray")
    assert ray.missing == ("there-is-none",)
    assert ray.installed == {"numpy": importlib.metadata.version("numpy")}
    told = skipc("doctor").out
    assert "there-is-none is missing" in told
    assert "What is missing (ray) you get with: pip install '.[EXTRA]'" in told


def test_every_extra_for_users_has_a_purpose() -> None:
    known = importlib.metadata.metadata("skipc").get_all("Provides-Extra") or []
    for_us = {"demo", "docs", "dev", "pycuda", "types"}
    assert {*doctor._PURPOSES} == {*known} - for_us


def test_options_are_completed_in_a_shell() -> None:
    asked = {"_SKIPC_COMPLETE": "bash_complete", "COMP_WORDS": "skipc doctor --js"}
    done = subprocess.run(
        [sys.executable, "-m", "skipc.tools.cli"],
        env={**os.environ, **asked, "COMP_CWORD": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "plain,--json\n"


def test_the_package_for_gpus_holds_the_one_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.31.1" if name == "onnxruntime-gpu" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    (cpu,) = (each for each in diagnose().extras if each.name == "cpu")
    assert (cpu.installed, cpu.missing) == ({"onnxruntime": "1.31.1"}, ())

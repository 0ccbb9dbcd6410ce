"""``skipc doctor``: what is installed and what can be done, as the parts say it themselves."""

from __future__ import annotations

import importlib.metadata

import pytest
from click.shell_completion import BashComplete

from skipc.compiler.targets import unavailable_reason
from skipc.profiles import load_profile, profile_names
from skipc.runtime.meters import MEASURING
from skipc.tools.cli import cli
from skipc.tools.views import doctor
from skipc.tools.views.doctor import diagnose
from tests.command_line import skipc


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


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("doctor --js", "plain,--json"),
        ("build weig", "file,weig"),
        ("select weights.pt --data pho", "file,pho"),
        ("build weights.pt --target jetson-x", "plain,jetson-xavier"),
        ("targets ./mine.t", "file,./mine.t"),
    ],
)
def test_the_tab_key_completes(typed: str, completed: str) -> None:
    found = BashComplete(cli, {}, "skipc", "_SKIPC_COMPLETE")
    *before, begun = typed.split()
    assert list(map(found.format_completion, found.get_completions(before, begun))) == [
        completed
    ]


def test_the_package_for_gpus_holds_the_one_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.31.1" if name == "onnxruntime-gpu" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    (cpu,) = (each for each in diagnose().extras if each.name == "cpu")
    assert (cpu.installed, cpu.missing) == ({"onnxruntime": "1.31.1"}, ())

"""What skipc uses of nvidia-ml-py, against the real package.

Its driver library is stood in for by a few lines of C, so that the real Python functions,
structures and errors are what runs.
"""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from tests.doubles.pynvml import FakeNvml, NVMLError

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "runtime/meters/nvml.py", ROOT / "runtime/modes/gpus.py"]
READ = """
import sys
from skipc.runtime import SkipcError, open_meter
try:
    meter = open_meter(sys.argv[1])
    print(meter.covers, meter.read().energy_mj)
    meter.close()
except SkipcError as error:
    print(type(error).__name__, error)
"""


def used_names() -> set[str]:
    return {
        node.attr
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and getattr(node.value, "id", getattr(node.value, "attr", ""))
        in ("library", "_library")
    }


def test_the_double_has_what_is_used_and_nothing_else() -> None:
    double = {name for name in vars(FakeNvml) if name.lower().startswith("nvml")}
    assert double == used_names()


@pytest.mark.parametrize("name", sorted(used_names()))
def test_the_package_has_each_name_as_the_double_has_it(name: str) -> None:
    real, double = getattr(pynvml, name), getattr(FakeNvml, name)
    if isinstance(double, int):
        assert real == double
    elif name == "NVMLError":
        assert issubclass(real, Exception)
    else:
        parameters = list(inspect.signature(double).parameters)[1:]
        assert list(inspect.signature(real).parameters) == parameters


@pytest.mark.parametrize("value", NVMLError.texts)
def test_errors_hold_a_code_and_a_text(value: int) -> None:
    real = pynvml.NVMLError(value)
    assert (real.value, str(real)) == (value, str(NVMLError(value)))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a driver library."""
    folder = tmp_path_factory.mktemp("nvml")
    source = ROOT / "tests/contract/nvml_stub.c"
    command = ["cc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source]
    subprocess.run(command, check=True)
    return folder


def run(library: Path | None, spec: str, gpus: int = 1, fault: int = 0) -> str:
    """Returns what the real package lets skipc say."""
    environment = {
        **os.environ,
        "NVML_GPUS": str(gpus),
        "NVML_FAULT": str(fault),
        "LD_LIBRARY_PATH": str(library or ""),
    }
    command = [sys.executable, "-W", "error", "-c", READ, spec]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_one_gpu_is_read_through_the_real_package(library: Path) -> None:
    assert run(library, "nvml") == "the GPU board Stub 0 (00000000:01:00.0) 5000000000.0"


def test_a_gpu_is_found_by_its_bus_id(library: Path) -> None:
    shown = run(library, "nvml:00000000:02:00.0", gpus=2)
    assert shown == "the GPU board Stub 1 (00000000:02:00.0) 5000000001.0"


def test_several_gpus_and_unknown_ones_are_told(library: Path) -> None:
    shown = run(library, "nvml", gpus=2)
    assert shown.startswith("MeterUnavailableError there are 2 GPUs")
    assert "00000000:01:00.0, 00000000:02:00.0" in shown
    shown = run(library, "nvml:00000000:02:00.1", gpus=2)
    assert "no GPU with the PCI bus id '00000000:02:00.1'. Did you mean '0000" in shown


def test_a_gpu_without_a_counter_is_told(library: Path) -> None:
    shown = run(library, "nvml", fault=pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert shown.startswith("MeterUnavailableError the GPU board Stub 0")
    assert "has no energy counter" in shown
    shown = run(library, "nvml", fault=pynvml.NVML_ERROR_GPU_IS_LOST)
    assert shown == "MeterError NVML does not answer: GPU is lost."

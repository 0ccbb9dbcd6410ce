"""``make gpu``: its checks, its page, its figures with the CPU in the place of the GPU."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.compiler.targets import finish
from skipc.runtime.backends.onnxruntime import devices
from skipc.runtime.bundle import Bundle
from skipc.tools.bench.gpu import Check, checks, figures, page, run_all
from tests.onnx_bundles import conv_family, image_cases, write_onnx_bundle

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]


def test_without_a_gpu_make_ends_with_one_sentence_and_installs_nothing() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "gpu", f"PYTHON={shlex.quote(sys.executable)}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    said = done.stderr.splitlines()[0]
    assert said.startswith("There is no NVIDIA GPU here, so nothing was installed or run: ")
    assert not (ROOT / ".venv-gpu").exists()


def test_each_check_costs_its_own_row(tmp_path: Path) -> None:
    program = (sys.executable, "-c")
    told: list[str] = []
    seen = run_all(
        [
            Check("good", (*program, "print('fine')"), 60),
            Check("bad", (*program, "raise SystemExit('gone wrong')"), 60),
            Check("hangs", (*program, "import time; time.sleep(60)"), 0.2),
            Check("elsewhere", (*program, "1"), 60, needs=("no_such_module",)),
        ],
        60,
        told.append,
    )
    assert told == ["good ...", "bad ...", "hangs ...", "elsewhere ..."]
    assert [each.verdict for each in seen] == [
        "passed",
        "failed (1)",
        "failed: not over after 0 s",
        "not run: no no_such_module here",
    ]
    late = run_all([Check("late", (*program, "1"), 60)], 0, told.append)
    assert late[0].verdict == "not run: no time left"
    written = page(seen, "a machine")
    assert "| bad | failed (1) |" in written
    assert "gone wrong" in written


def test_all_checks_are_commands_that_there_are(tmp_path: Path) -> None:
    names = {check.what.partition(":")[0] for check in checks(tmp_path)}
    assert names == {"what is here", "cuda", "tensorrt", "rtx"}
    assert sum(check.limit_s for check in checks(tmp_path)[:6]) <= 480


def test_the_figures_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "conv.skipc"
    write_onnx_bundle(path, conv_family(blocks=2), image_cases())
    monkeypatch.setattr(devices, "cuda_device", devices.cpu_device)
    finish(path, "cuda")
    bars = figures(Bundle.open(path))
    assert [bar.what for bar in bars] == [
        "device memory of 3 over one",
        "latency over a plain session",
        "a call after a switch over one without",
        "some run without a CUDA graph",
    ]
    assert all(bar.value > 0 for bar in bars[1:3])
    assert bars[3].value == 0
    assert "bytes of weights lie once" in bars[0].note

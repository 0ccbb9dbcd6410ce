from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.tools.trtbench.command import GPU_FLAGS, MEANINGLESS
from skipc.tools.trtbench.report import Report
from tests.bundles import edit_json
from tests.command_line import all_files, told, trtbench
from tests.tools.trtbench.times_of_trtexec import read_as_trtexec_writes

if TYPE_CHECKING:
    from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]
QUICK = ("--warmUp", 1, "--duration", 0, "--iterations", 12, "--threads", 1)


def test_a_family_is_measured_and_written(work: Path) -> None:
    bundle = work / "ckpt.skipc"
    ended = trtbench(
        *(bundle, *QUICK, "--meter", "model:5", "--percentile", "50,99.9", "--avgRuns", 4),
        *("--json", work / "found.json", "--exportTimes", work / "times.json"),
        columns=80,
    )
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out
    printed, _, written = ended.out.partition("\nwritten: ")
    assert max(map(len, printed.splitlines())) <= 80
    assert written.count(str(work)) == 3
    flat = " ".join(ended.out.split())
    for text in (
        "backend onnxruntime-cpu, target cpu, 1 thread",
        "there are no transfers or graphs",
        "images 1x1x8x8 float32",
        "at least 0 s and 12 calls each",
        "model:5: nothing measured: 5 W taken for granted (estimated, nothing is measured)",
        "latency, ms min mean median 50 % 99.9 % max",
        "averages of 4",
        "own shared own shared own shared",
        "over full latency 95 % accuracy",
        "-4.00 points",
        "Worst switch: the first call of",
        "energy, estimated mJ per call",
    ):
        assert text in flat, text
    found = json.loads((work / "found.json").read_text(encoding="utf-8"))
    assert found["format"] == Report.FORMAT
    assert found["reference"] == "full"
    assert [entry["name"] for entry in found["configurations"]] == ["full", "fast"]
    for entry in found["configurations"]:
        assert entry["phases"] is None
        assert entry["load_parts"] is None
        assert entry["memory"]["device"] == {
            "own_bytes": 0,
            "shared_bytes": 0,
            "taken_bytes": 0,
        }
        assert entry["memory"]["host"].keys() == {"own_bytes", "shared_bytes"}
        latency, energy = entry["latency"], entry["energy"]
        assert latency["runs"] == 12
        assert latency["throughput_per_s"] == pytest.approx(12_000 / latency["total_ms"])
        assert list(latency["percentiles_ms"]) == ["50", "99.9"]
        assert latency["percentiles_ms"]["99.9"] == latency["max_ms"]
        assert len(energy["windows_mj"]) == 5
        times = read_as_trtexec_writes(work / f"times.{entry['name']}.json")
        assert len(times) == 12
        assert sum(t["latencyMs"] for t in times) == pytest.approx(latency["total_ms"])
    assert list(found["switching"]["first_ms"]["full"]) == ["fast"]
    full, fast = found["configurations"]
    assert (full["graphs"], full["over_reference"]) == (["full"], None)
    ratio = fast["over_reference"]
    assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
    assert full["accuracy"] - fast["accuracy"] == pytest.approx(0.04)
    assert found["regime"]["versions"].keys() >= {"skipc", "numpy", "python", "onnxruntime"}
    assert found["regime"]["meter"]["estimated"] is True


def test_one_configuration_and_inputs_of_ones_own(work: Path) -> None:
    for inputs in ("images.npy", "images.npz"):
        ended = trtbench(
            *(work / "ckpt.skipc", *QUICK, "--configurations", "fast"),
            *("--loadInputs", work / inputs, "--exportTimes", work / "times.json"),
        )
        assert ended.code == 0, ended.err
        assert "1 case in turn" in ended.out
        assert "full" not in ended.out
        assert "Worst switch" not in ended.out
        assert len(read_as_trtexec_writes(work / "times.json")) == 12


def test_loading_alone(work: Path) -> None:
    ended = trtbench(
        work / "ckpt.skipc", "--timeDeserialize", "--json", work / "found.json", columns=80
    )
    assert ended.code == 0, ended.err
    assert "first call" in ended.out
    assert "latency" not in ended.out
    found = json.loads((work / "found.json").read_text(encoding="utf-8"))
    assert [entry["latency"] for entry in found["configurations"]] == [None, None]
    assert all(entry["load_ms"] > 0 for entry in found["configurations"])
    path = work / "found.json"
    assert "made with --timeDeserialize" in told(trtbench("--compare", path, path))


def test_few_and_unstable_runs_are_warned_of(work: Path) -> None:
    path = work / "ckpt.skipc"
    quick = ("--target", "null", "--warmUp", 0, "--duration", 0, "--iterations")
    few = trtbench(path, *quick, 9).out
    assert few.count("Warning") == 1
    assert "too few runs to rely on: full 9, fast 9. Measure 10 or more" in few
    assert "Warning" not in trtbench(path, *quick, 10).out
    assert "too few runs to tell" in trtbench(path, *quick, 1).out


def test_the_null_target_is_exact(work: Path) -> None:
    ended = trtbench(
        *(work / "ckpt.skipc", "--target", "null", "--warmUp", 0, "--duration", 0),
        *("--json", work / "found.json"),
    )
    assert ended.code == 0, ended.err
    assert "nothing is run: times are scripted" in ended.out
    found = json.loads((work / "found.json").read_text(encoding="utf-8"))
    assert found["configurations"][0]["latency"]["coefficient_of_variation"] < 1e-9
    steady_ms = found["switching"]["steady_ms"]
    for row in found["switching"]["first_ms"].values():
        assert row == {name: steady_ms[name] for name in row}


@pytest.mark.parametrize("flag", MEANINGLESS)
@pytest.mark.parametrize("value", ["", "=x:1"])
def test_flags_of_trtexec_that_mean_nothing_are_refused_with_the_reason(
    work: Path, flag: str, value: str
) -> None:
    message = told(trtbench(work / "ckpt.skipc", f"{flag}{value}"))
    assert f"{flag}: {MEANINGLESS[flag]}" in message


@pytest.mark.parametrize("flag", GPU_FLAGS, ids=lambda flag: flag.flag)
@pytest.mark.parametrize("target", ["cpu", "null"])
def test_flags_of_gpus_are_refused_elsewhere(work: Path, flag: Any, target: str) -> None:
    message = told(trtbench(work / "ckpt.skipc", flag.flag, "--target", target))
    assert f"{flag.flag} is for the backends 'tensorrt' and 'tensorrt-rtx'" in message
    assert flag.reason in message


def test_json_goes_to_standard_output_and_the_tables_to_the_other(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    before = all_files(work)
    ended = trtbench("ckpt.skipc", *QUICK, "--json", "-")
    assert ended.json()["reference"] == "full"
    assert "latency, ms" in ended.err
    assert all_files(work) == before


def test_names_from_files_do_not_command_a_terminal(work: Path) -> None:
    name = "\x1b]0;title\x07\x1b[2J\rfull"
    manifest = work / "ckpt.skipc/manifest.json"
    edit_json(manifest, lambda document: document["configurations"][0].update(name=name))
    words = ("--target", "null", "--warmUp", 0, "--duration", 0, "--json", work / "a.json")
    measured = trtbench(work / "ckpt.skipc", *words, "--exportTimes", work / "times.json")
    compared = trtbench("--compare", work / "a.json", work / "a.json")
    for ended in (measured, compared):
        assert ended.code == 0, ended.err
        assert not {"\x1b", "\x07", "\r"} & {*ended.out, *ended.err}
        assert r"\x1b]0;title\x07\x1b[2J\rfull" in ended.out
    unknown = trtbench(work / "ckpt.skipc", *words, "--configurations", "none")
    assert not {"\x1b", "\x07", "\r"} & {*told(unknown)}


def test_the_version_is_told() -> None:
    assert trtbench("--version").out.startswith("trtbench, version ")


MISTAKES = {
    "no bundle": ((), "name a bundle"),
    "not a bundle": (("images.npy",), "is not a folder"),
    "flag": (("ckpt.skipc", "--warmup", "3"), "Did you mean '--warmUp'?"),
    "standard output": (("ckpt.skipc", "--exportTimes=-"), "--exportTimes -: this may be"),
    "warm-up": (("ckpt.skipc", "--warmUp=-1"), "-1.0 is not in the range"),
    "duration": (("ckpt.skipc", "--duration=-1"), "-1.0 is not in the range"),
    "endless": (("ckpt.skipc", "--duration=inf"), "inf is not in the range"),
    "iterations": (("ckpt.skipc", "--iterations=0"), "0 is not in the range"),
    "bound": (("ckpt.skipc", "--iterations=1000001"), "1000001 is not in the range"),
    "percentile": (("ckpt.skipc", "--percentile=90,101"), "'101' is no percentile"),
    "percentile text": (("ckpt.skipc", "--percentile=p99"), "'p99' is no percentile"),
    "percentile nan": (("ckpt.skipc", "--percentile=nan"), "'nan' is no percentile"),
    "configuration": (("ckpt.skipc", "--configurations=full,fst"), "Did you mean 'fast'?"),
    "target": (("ckpt.skipc", "--target=cpux"), "unknown target 'cpux'"),
    "meter": (("ckpt.skipc", "--meter=rapp"), "Did you mean 'rapl'?"),
    "null meter": (("ckpt.skipc", "--meter=model:5", "--target=null"), "runs nothing"),
    "inputs": (("ckpt.skipc", "--loadInputs=none.npy"), "there is no such file"),
    "dtype": (("ckpt.skipc", "--loadInputs=double.npy"), "double.npy: input 'images' is"),
    "text": (("ckpt.skipc", "--loadInputs=front.json"), "not a .npy or .npz file"),
    "json": (("ckpt.skipc", "--json=no/x.json"), "the folder no does not exist"),
    "json folder": (("ckpt.skipc", "--json=ckpt.skipc"), "this is a folder"),
    "times": (("ckpt.skipc", "--exportTimes=no/x"), "the folder no does not exist"),
    "nothing": (("ckpt.skipc", "--timeDeserialize", "--meter=model:5"), "first calls"),
    "graphs": (("ckpt.skipc", "--useCudaGraph", "--noCudaGraph"), "contradict one another"),
    "waits": (("ckpt.skipc", "--noSpinWait", "--useSpinWait"), "contradict one another"),
    "transfers": (
        ("ckpt.skipc", "--noDataTransfers", "--includeDataTransfers"),
        "--includeDataTransfers and --noDataTransfers contradict one another",
    ),
    "no calls": (("ckpt.skipc", "--timeDeserialize", "--noCudaGraph"), "first calls"),
    "not its own": (("ckpt.skipc", "--update", "--noCudaGraph"), "Leave out --noCudaGraph"),
    "modes": (("ckpt.skipc", "--modes=15W"), "--modes: only with --update"),
    "modes of one": (
        ("ckpt.skipc", "--update", "--modes=15W", "--json=x"),
        "once in each mode",
    ),
    "no such mode": (
        ("ckpt.skipc", "--update", "--modes=cpufrq:1MHz"),
        "Did you mean 'cpufreq'",
    ),
    "compare graph": (("--compare", "a", "b", "--noCudaGraph"), "Leave out --noCudaGraph"),
    "compare one": (("--compare", "a.json"), "--compare"),
    "compare more": (("ckpt.skipc", "--compare", "a", "b"), "Leave out BUNDLE"),
    "compare flag": (("--compare", "a", "b", "--iterations=10"), "Leave out --iterations"),
    "compare none": (("--compare", "a.json", "b.json"), "a.json: cannot be read"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(work: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    np.save("double.npy", np.load("images.npy").astype(np.float64))
    before = all_files(work)
    arguments, expected = MISTAKES[case]
    assert expected in told(trtbench(*arguments))
    assert all_files(work) == before


def test_stale_engines_are_rebuilt(work: Path) -> None:
    edit_json(
        work / "ckpt.skipc/engines/cpu/engines.json",
        lambda document: document["host"].update(onnxruntime="1.20.0"),
    )
    ended = trtbench(work / "ckpt.skipc", *QUICK)
    assert ended.code == 0, ended.err
    assert "Doing so now." in ended.err


def test_the_three_ways_to_start_it_are_one(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module, _, function = project["project"]["scripts"]["trtbench"].partition(":")
    entry = f"import sys; from {module} import {function}; sys.argv[0] = 'trtbench'; main()"
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", *words, "--help"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words, folder in (
            (("tools/trtbench",), ROOT),
            ((str(ROOT / "tools/trtbench"),), tmp_path),
            (("-m", "skipc.tools.trtbench"), tmp_path),
            (("-c", entry), tmp_path),
        )
    ]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in started]
    helps = [out for out, _, _ in ended]
    assert [(error, code) for _, error, code in ended] == [("", 0)] * 4
    assert len(set(helps)) == 1
    assert re.match(r"Usage: trtbench \[OPTIONS\] \[BUNDLE\]", helps[0])
    assert all(f"{flag} " not in helps[0] for flag in MEANINGLESS)


@pytest.mark.parametrize("folder", ["tools/trtbench", str(ROOT / "tools/trtbench")])
def test_the_programs_own_folder_is_not_searched_for_modules(folder: str) -> None:
    code = (
        "import runpy, sys; folder = sys.argv[1]; sys.path.insert(0, folder)\n"
        "runpy.run_path(folder + '/__main__.py', run_name='x'); print(folder in sys.path)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "False\n"


def test_a_python_without_skipc_is_told_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "tools/trtbench", "x.skipc"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: skipc is not installed for ")
    assert "pip install ." in done.stderr

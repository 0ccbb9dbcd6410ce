from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.runtime import AdaptiveEngine
from tests.bundles import edit_engines
from tests.command_line import all_files, mistake, skipc, skipc_without

if TYPE_CHECKING:
    from pathlib import Path


def _expected(bundle: Path, images: Path, configuration: str) -> np.ndarray:
    with AdaptiveEngine.open(bundle, threads=1) as engine:
        engine.pin(configuration)
        return engine(np.load(images))


@pytest.mark.parametrize("inputs", ["images.npy", "images.npz"])
@pytest.mark.parametrize("out", ["out.npy", "out.npz"])
def test_run_writes_the_outputs(work: Path, inputs: str, out: str) -> None:
    bundle = work / "ckpt.skipc"
    ended = skipc("run", bundle, work / inputs, "--out", work / out, "--threads", 1)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("full: ")
    assert ended.out.endswith(f"written to {work / out}\n")
    written = np.load(work / out)
    array = written if out == "out.npy" else written["output"]
    np.testing.assert_array_equal(array, _expected(bundle, work / "images.npy", "full"))


def test_run_prints_json_and_nothing_else(work: Path) -> None:
    arguments = ("run", work / "ckpt.skipc", work / "images.npy")
    document = skipc(*arguments, "--json").json()
    assert document["configuration"] == "full"
    assert document["feasible"] is True
    assert document["outputs"] == {"output": [1, 10]}
    assert document["latency_ms"] > 0
    assert (
        skipc(*arguments, "--configuration", "fast", "--json").json()["configuration"]
        == "fast"
    )


def test_run_obeys_the_budget(work: Path) -> None:
    bundle, images = work / "ckpt.skipc", work / "images.npy"
    document = skipc("run", bundle, images, "--budget-ms", 1e6, "--json").json()
    assert (document["configuration"], document["feasible"]) == ("full", True)
    document = skipc("run", bundle, images, "--budget-ms", 1e-9, "--json").json()
    assert document["feasible"] is False
    assert "nothing fits" in document["reason"]
    told = mistake("run", bundle, images, "--budget-ms", 1e-9, "--strict")
    assert "nothing fits" in told


def test_run_needs_no_engines_on_the_null_target(work: Path) -> None:
    ended = skipc(
        "run", work / "ckpt.skipc", work / "images.npy", "--target", "null", "--json"
    )
    assert ended.json()["outputs"] == {"output": [1, 10]}


MISTAKES = {
    "dtype": (("double.npy",), "input 'images' is float64, expected float32"),
    "shape": (("two.npy",), "input 'images' has the shape (2, 1, 8, 8)"),
    "name": (("other.npz",), "no input 'imags'. Did you mean 'images'?"),
    "text": (
        ("text.npy",),
        "text.npy: not a .npy or .npz file that can be read: it is another kind of file",
    ),
    "cut": (("cut.npz",), "cut.npz: not a .npy or .npz file that can be read"),
    "damaged": (("damaged.npz",), "damaged.npz: not a .npy or .npz file that can be read"),
    "objects": (("objects.npy",), "objects.npy: not a .npy or .npz file that can be read"),
    "no file": (("nothing.npy",), "there is no such file"),
    "folder": ((".",), "cannot be read: Is a directory"),
    "budget": (("images.npy", "--budget-ms", "-3"), "-3"),
    "budget text": (("images.npy", "--budget-ms", "fast"), "'fast' is not a valid float"),
    "threads": (("images.npy", "--threads", "0"), "0 is not in the range x>=1"),
    "configuration": (
        ("images.npy", "--configuration", "fst"),
        "no configuration 'fst'. Did you mean 'fast'?",
    ),
    "target": (("images.npy", "--target", "cpux"), "unknown target 'cpux'"),
    "no engines": (("images.npy", "--target", "jetson-orin"), "no engines for the target"),
    "out": (("images.npy", "--out", "out.txt"), "write to a .npy or .npz file"),
    "out's folder": (("images.npy", "--out", "no/out.npy"), "does not exist"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_run_refuses_what_does_not_fit(
    work: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    images = np.load("images.npy")
    np.save("double.npy", images.astype(np.float64))
    np.save("two.npy", np.concatenate([images, images]))
    np.savez("other.npz", imags=images)
    (work / "text.npy").write_text("1 2 3")
    whole = (work / "images.npz").read_bytes()
    (work / "cut.npz").write_bytes(whole[:100])
    (work / "damaged.npz").write_bytes(whole.replace(b"NUMPY", b"NOMPY"))
    np.save("objects.npy", np.array([{}], object))
    before = all_files(work)
    arguments, expected = MISTAKES[case]
    assert expected in mistake("run", "ckpt.skipc", *arguments)
    assert all_files(work) == before


def _age(bundle: Path) -> None:
    edit_engines(
        bundle / "engines" / "cpu" / "engines.json",
        lambda document: document["host"].update(onnxruntime="1.20.0"),
    )


@pytest.mark.parametrize("command", ["run", "check"])
def test_stale_engines_are_rebuilt(work: Path, command: str) -> None:
    bundle = work / "ckpt.skipc"
    _age(bundle)
    more = (work / "images.npy",) if command == "run" else ()
    ended = skipc(command, bundle, *more)
    assert ended.code == 0, ended.err
    assert "onnxruntime was 1.20.0, here it is" in ended.err
    assert "Doing so now." in ended.err
    assert "packing fast (2 of 2) ..." in ended.err
    again = skipc(command, bundle, *more)
    assert "packing" not in again.err


def test_stale_engines_name_the_command_where_they_cannot_be_rebuilt(work: Path) -> None:
    bundle = work / "ckpt.skipc"
    _age(bundle)
    ended = skipc_without("torch,onnx,onnx_ir", "run", bundle, work / "images.npy")
    assert ended.code == 2
    assert f"skipc finish {bundle} --target cpu" in ended.err
    assert "They cannot be rebuilt here: 'onnx' is not installed" in ended.err
    assert "Traceback" not in ended.err


def test_run_needs_no_compiler(work: Path) -> None:
    ended = skipc_without(
        "torch,onnx,onnx_ir", "run", work / "ckpt.skipc", work / "images.npy"
    )
    assert ended.code == 0, ended.err
    ended = skipc_without("onnxruntime", "run", work / "ckpt.skipc", work / "images.npy")
    assert ended.code == 2
    assert "pip install '.[cpu]'" in ended.err

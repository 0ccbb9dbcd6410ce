"""What is cheap to get wrong is told before the network is exported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.command_line import skipc, skipc_without, told

if TYPE_CHECKING:
    from pathlib import Path

X = np.zeros((30, 1, 8, 8), np.float32)
Y = np.arange(30) % 10


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A folder with a front and data, good and bad."""
    (tmp_path / "front.json").write_bytes((made / "front.json").read_bytes())
    (tmp_path / "torn.json").write_text('{"format": "skipc.front/1", "configurations": [')
    entry = {"name": "full", "skp": []}
    document = {"format": "skipc.front/1", "configurations": [entry]}
    (tmp_path / "key.json").write_text(json.dumps(document))
    np.save(tmp_path / "doubles.npy", X.astype(np.float64))
    np.save(tmp_path / "small.npy", X[:, :, :4])
    np.savez(tmp_path / "named.npz", pictures=X)
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    np.savez(tmp_path / "doubles.npz", x=X.astype(np.float64), y=Y)
    np.savez(tmp_path / "small.npz", x=X[:, :, :4], y=Y)
    np.savez(tmp_path / "halves.npz", x=X, y=Y / 2)
    np.savez(tmp_path / "one.npz", x=X, y=Y * 0)
    (tmp_path / "file").write_text("")
    (tmp_path / "plain").mkdir()
    return tmp_path


BUILD = {
    "front torn": (("--front", "torn.json"), "torn.json: not valid JSON"),
    "front key": (("--front", "key.json"), "unknown key 'skp'"),
    "front missing": (("--front", "no.json"), "no.json"),
    "target": (("--target", "cpuu"), "unknown target 'cpuu'"),
    "target option": (("--workspace", "1GB"), "--workspace"),
    "precision": (("--precision", "bf16"), "bf16"),
    "tolerance": (("--tolerance", "nan"), "--tolerance nan"),
    "folder": (("--out", "no/b.skipc"), "--out no/b.skipc: the folder no does not exist"),
    "no bundle": (("--out", "plain"), "exists and is no bundle"),
    "not writable": (("--out", "/proc/b.skipc"), "/proc/b.skipc"),
    "data missing": (("--data", "no.npy"), "no.npy"),
    "data type": (("--data", "doubles.npy"), "type float64"),
    "data shape": (("--data", "small.npy"), "has shape (30, 1, 4, 8)"),
    "data name": (("--data", "named.npz"), "no array named 'images'"),
    "survival": (("--survival", "stages.1.1=0.5"), "no effect without --residual-scale"),
    "nothing estimated": (("--reestimate", "data.npz"), "nothing is estimated for"),
    "no statistics": (("--norm", "full"), "are for shared"),
    "estimated on nothing": (("--norm", "full", "--reestimate", "no.npz"), "no.npz"),
    "estimated on doubles": (("--norm", "full", "--reestimate", "doubles.npz"), "is float64"),
    "estimated on small": (("--norm", "full", "--reestimate", "small.npz"), "(1, 4, 8)"),
    "estimated on one class": (("--norm", "full", "--reestimate", "one.npz"), "targets are 0"),
}


@pytest.mark.parametrize("case", BUILD)
def test_build_checks_before_it_exports(made, folder, monkeypatch, case):
    arguments, fragment = BUILD[case]
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    ended = skipc(
        *("build", made / "ckpt.pt", "--front", "front.json", "--target", "cpu", "--no-cache"),
        *("--out", "b.skipc", *arguments),
    )
    assert fragment in told(ended)
    assert "exporting" not in ended.err
    assert sorted(folder.iterdir()) == before


SELECT = {
    "data missing": (("--data", "no.npz"), "no.npz"),
    "data type": (("--data", "doubles.npz"), "is float64"),
    "data shape": (("--data", "small.npz"), "(1, 4, 8)"),
    "labels": (("--data", "halves.npz"), "whole numbers"),
    "one class": (("--data", "one.npz"), "all targets are 0"),
    "metric": (("--metric", "nowhere:f"), "there is no module 'nowhere'"),
    "search": (("--search", "surogate"), "Did you mean 'surrogate'"),
    "axis": (("--axes", "skip,widht"), "'widht' is no axis. Did you mean 'width'"),
    "axis of fronts": (("--axes", "gates"), "is decided by no search, but by a front"),
    "axis twice": (("--axes", "skip,skip"), "names an axis twice"),
    "target": (("--target", "cpuu"), "unknown target 'cpuu'"),
    "cost": (("--cost", "latncy"), "Did you mean 'latency'"),
    "parts": (("--parts", "1:2"), "write 3 whole numbers"),
    "survival": (("--survival", "stages.1.1=0.5"), "no effect without --residual-scale"),
    "folder": (("--out", "no/f.json"), "--out no/f.json: the folder no does not exist"),
    "not writable": (("--out", "/proc/f.json"), "/proc/f.json"),
    "cluster": (("--ray", "nohost"), "--ray 'nohost': not an address"),
}


@pytest.mark.parametrize("case", SELECT)
def test_select_checks_before_it_exports(made, folder, monkeypatch, case):
    arguments, fragment = SELECT[case]
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    ended = skipc(
        *("select", made / "ckpt.pt", "--data", "data.npz", "--no-cache"),
        *("--out", "f.json", *arguments),
    )
    assert fragment in told(ended)
    assert "exporting" not in ended.err
    assert sorted(folder.iterdir()) == before


def test_missing_packages_are_told_before_anything_is_exported(made, tmp_path):
    arguments = ("build", made / "ckpt.pt", "--front", made / "front.json", "--target", "cpu")
    ended = skipc_without("onnxruntime", *arguments, "--out", tmp_path / "b.skipc")
    assert "pip install" in told(ended)
    assert "exporting" not in ended.err
    arguments = ("select", made / "ckpt.pt", "--data", "digits", "--search", "nsga2")
    ended = skipc_without("pymoo", *arguments, "--out", tmp_path / "f.json")
    assert "'pymoo' is needed" in told(ended)
    assert "exporting" not in ended.err

"""The commands as functions: a notebook that uses all of them, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import skipc
from skipc.compiler.errors import CheckpointError, CompileError
from skipc.profiles import ProfileError
from skipc.runtime import SkipcError
from tests.command_line import hide_tests
from tests.notebooks import executed

NOTEBOOK = Path(__file__).parents[2] / "examples" / "family.ipynb"
_BRIEFLY = {
    "range(12)": "range(1)",
    "depth=5, width=16": "depth=2, width=4",
    "max_drop=10, size=4": "size=2",
    "evaluations=24": "evaluations=2, cost=skipc.CostKind.MACS",
    "duration_s=0.3": "duration_s=0.02",
    "1000:]": "1600:]",
}


def test_the_notebook_runs_and_prints_nothing_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    hide_tests(monkeypatch)
    ran = executed(NOTEBOOK, _BRIEFLY)
    assert capsys.readouterr() == ("", "")
    shown = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert [_kinds(cell) for cell in ran["cells"]] == [_kinds(cell) for cell in shown["cells"]]
    assert Path("report.html").stat().st_size > 10_000
    assert Path("front.png").exists()
    units = next(cell for cell in ran["cells"] if "skipc.units(" in "".join(cell["source"]))
    assert "blocks.1  " in "".join(units["outputs"][0]["text"])


def _kinds(cell: dict[str, object]) -> list[str]:
    outputs = cell.get("outputs", [])
    assert isinstance(outputs, list)
    return [output["output_type"] for output in outputs]


def test_everything_that_is_named_is_there() -> None:
    from skipc.tools import api

    assert [name for name in skipc.__all__ if not hasattr(skipc, name)] == []
    assert sorted(skipc.__all__) == sorted(["__version__", *api.__all__])
    assert dir(skipc) == sorted(skipc.__all__)
    with pytest.raises(AttributeError, match="no attribute 'selekt'"):
        _ = skipc.selekt  # type: ignore[attr-defined]


def test_mistakes_are_told_as_by_the_commands(tmp_path: Path, made: Path) -> None:
    with pytest.raises(CompileError, match="has no name that can be imported"):
        skipc.network("net.pt", lambda: None)
    with pytest.raises(CheckpointError, match="unknown dtype 'float3'"):
        skipc.network("net.pt", inputs="1x3:float3")
    with pytest.raises(CheckpointError, match="no such file"):
        skipc.units(tmp_path / "nothing.pt")
    with pytest.raises(ProfileError, match="Did you mean 'cpu'"):
        skipc.build(made / "ckpt.pt", made / "front.json", "cpuu")
    with pytest.raises(SkipcError, match="Did you mean 'fast'"):
        skipc.bench(made / "ckpt.skipc", configurations=["fats"])

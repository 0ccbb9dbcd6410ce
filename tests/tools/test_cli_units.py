from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from skipc.compiler.axes.units import Unit, Units
from skipc.tools.views.unit_strip import units_svg
from tests.command_line import mistake, skipc

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [f"stages.{s}.{block}" for s, depth in enumerate((2, 3, 3)) for block in range(depth)]


def test_units_prints_a_row_for_each_unit_and_takes_the_export_of_a_build(
    made: Path,
) -> None:
    ended = skipc("units", made / "ckpt.pt", "--no-cache")
    assert ended.code == 0
    rows = [line.split() for line in ended.out.splitlines()]
    assert rows[0] == ["#", "unit", "parameters", "share", "MACs", "share"]
    assert [row[1] for row in rows[1:9]] == NAMES
    assert rows[3][:3] == ["2", "stages.1.0", "896"]
    assert "\n8 units: 9" in ended.out
    assert ended.err.splitlines() == [
        "reading the checkpoint ...",
        "exporting the supernet ...",
    ]
    again = skipc("units", made / "ckpt.pt")
    assert again.out == ended.out
    assert again.err.splitlines() == [
        "reading the checkpoint ...",
        "exporting the supernet ...",
        "the export is taken from the cache ...",
    ]


def test_units_says_why_other_additions_cannot_be_skipped(tmp_path: Path) -> None:
    path = _network_with_a_sum_of_two_branches(tmp_path)
    arguments = ("units", path)
    assert "1 further join cannot be skipped: --all says why." in skipc(*arguments).out
    told = skipc(*arguments, "--all").out
    assert "1 further join cannot be skipped:\n" in told
    assert told.splitlines()[-1].startswith("  ")


def test_units_prints_json_and_nothing_else(made: Path) -> None:
    document = skipc("units", made / "ckpt.pt", "--json").json()
    assert [unit["name"] for unit in document["units"]] == NAMES
    assert document["total_parameters"] > sum(u["parameters"] for u in document["units"]) > 0


def test_units_reads_an_onnx_graph(made: Path) -> None:
    ended = skipc("units", made / "ckpt.skipc" / "fast.onnx")
    assert ended.code == 0, ended.err
    assert "6 units" in ended.out


def test_units_refuses_what_is_no_checkpoint(made: Path) -> None:
    assert "is a JSON text" in mistake("units", made / "front.json")
    assert "no such file" in mistake("units", made / "nothing.pt")


def test_units_refuses_options_that_do_not_fit(made: Path) -> None:
    checkpoint = made / "ckpt.pt"
    assert "write it as NAME=VALUE" in mistake("units", checkpoint, "--model-arg", "widths")
    assert "Write it as MIN:TYPICAL:MAX" in mistake("units", checkpoint, "--batch", "1:4")
    assert "unknown dtype 'float23'" in mistake("units", checkpoint, "--input", "1x1:float23")


def _network_with_a_sum_of_two_branches(folder: Path) -> Path:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    names = ("a", "b", "c")
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["xa"]),
        helper.make_node("MatMul", ["x", "b"], ["xb"]),
        helper.make_node("Add", ["xa", "xb"], ["sum"]),
        helper.make_node("MatMul", ["sum", "c"], ["branch"]),
        helper.make_node("Add", ["sum", "branch"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(weight + k, name) for k, name in enumerate(names)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, folder / "sums.onnx")
    return folder / "sums.onnx"


def test_a_picture_has_a_strip_for_each_stage(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "units.svg"
    ended = skipc("units", made / "ckpt.pt", "--picture", path)
    assert ended.code == 0, ended.err
    root = ElementTree.parse(path).getroot()
    titles = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert [title.partition(":")[0] for title in titles] == NAMES
    texts = {each.text for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"stages.0", "stages.1", "stages.2", "always runs"} <= texts
    assert "write to a .svg file" in mistake("units", "ckpt.pt", "--picture", "units.png")


def test_heads_are_flags_and_names_are_texts() -> None:
    listed = Unit("a.<b>", "j", 0, "a.<b>", 1, 10), Unit("c", "k", 0, "c", 1, 0)
    units = Units(listed, (), 2, 12)
    drawn = units_svg(units, {"c": 0.5}, {"c.in": 8})
    root = ElementTree.fromstring(drawn)
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<b>", "50 %", "8", "the network"} <= set(texts)
    assert units_svg(Units((), (), 0, 0), {}, {}).count("<rect") == 1

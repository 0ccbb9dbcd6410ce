"""``trtbench --shapes``: the golden inputs at another batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.runtime import Bundle
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from skipc.runtime.errors import ChoiceError
from skipc.tools.trtbench.cases import cases_of, shapes_from
from skipc.tools.trtbench.report import read_report
from tests.bundles import write_bundle
from tests.command_line import skipc, trtbench
from tests.onnx_bundles import conv_family, image_cases, write_onnx_bundle
from tests.tools.trtbench.test_command import QUICK
from tests.tools.trtbench.test_plain import told_late

if TYPE_CHECKING:
    from pathlib import Path

IDS = TensorSpec("ids", "int64", ("N", 5))
MASK = TensorSpec("mask", "int64", ("N", 5))
SCALE = TensorSpec("scale", "float32", (3,))


@pytest.fixture
def several(tmp_path: Path) -> Bundle:
    inputs = (IDS, MASK, SCALE)
    return Bundle.open(
        write_bundle(tmp_path / "b", inputs=inputs, dimensions=(Dimension("N", 1, 2, 4),))
    )


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_rows_are_repeated_or_cut_in_all_inputs(several: Bundle, batch: int) -> None:
    golden = several.golden_inputs()
    cases = cases_of(several, shapes_from(f"ids:{batch}x5"))
    assert len(cases) == len(golden)
    for case, before in zip(cases, golden, strict=True):
        for name in ("ids", "mask"):
            expected = np.concatenate([before[name]] * 2)[:batch]
            np.testing.assert_array_equal(case[name], expected)
            assert case[name].dtype == before[name].dtype
        np.testing.assert_array_equal(case["scale"], before["scale"])


def test_what_is_as_it_was_changes_nothing(several: Bundle) -> None:
    cases = cases_of(several, shapes_from("scale:3"))
    assert cases[0].keys() == {"ids", "mask", "scale"}
    np.testing.assert_array_equal(cases[0]["ids"], several.golden_inputs()[0]["ids"])


REFUSED = {
    "unknown": ("idz:2x5", "no input 'idz'. Did you mean 'ids'?"),
    "unnamed": ("2x5", "name them, as in ids:1x3x224x224"),
    "batch": ("ids:5x5", "'ids' does not take 5x5, but Nx5 with N from 1 to 4"),
    "fixed": ("ids:2x6", "'ids' does not take 2x6, but Nx5 with N from 1 to 4"),
    "rank": ("ids:2x5x1", "does not take 2x5x1"),
    "without": ("scale:4", "'scale' does not take 4, but 3. The bundle was built for that"),
    "differ": ("ids:2x5,mask:3x5", "N differs: ids 2, mask 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_shapes_that_the_manifest_does_not_allow_are_refused(
    several: Bundle, case: str
) -> None:
    text, expected = REFUSED[case]
    with pytest.raises(ChoiceError) as raised:
        cases_of(several, shapes_from(text))
    assert expected in str(raised.value)


MISTAKES = {
    "text": (("--shapes=images:1x",), "'images:1x' is no shape: write NAME:1x3x224x224"),
    "zero": (("--shapes=0x1x8x8",), "'0x1x8x8' is no shape"),
    "no name": (("--shapes=:1x1x8x8",), "':1x1x8x8' is no shape"),
    "twice": (("--shapes=a:1,a:2",), "'a': each input has one shape"),
    "loaded": (("--shapes=1x1x8x8", "--loadInputs=x.npy"), "have shapes already"),
    "other": (("--shapes=2x1x8x8",), "does not take 2x1x8x8, but 1x1x8x8"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(work: Path, case: str) -> None:
    words, expected = MISTAKES[case]
    assert expected in told_late(trtbench(work / "ckpt.skipc", *words))


def test_a_dynamic_batch_is_measured_beside_its_baselines(tmp_path: Path) -> None:
    path, found = tmp_path / "any.skipc", tmp_path / "found.json"
    write_onnx_bundle(path, conv_family(), image_cases(), (Dimension("N", 1, 2, 4),))
    assert skipc("finish", path, "--target", "cpu").code == 0
    shape = ("--shapes", "3x3x8x8")
    ended = trtbench(path, *QUICK, *shape, "--json", found, "--baseline", "plain")
    assert ended.code == 0, ended.err
    report = read_report(found)
    assert report.regime.inputs == {"images": "3x3x8x8 float32"}
    assert report.plain_not_run == ""
    assert all(entry.plain for entry in report.configurations)
    assert "the table of the typical sizes" in told_late(trtbench(path, "--update", *shape))

"""``trtbench --update``: the results become the table that the governor starts from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from skipc.runtime import AdaptiveEngine, Bundle
from skipc.runtime.bundle.device import Conditions, conditions_now
from skipc.runtime.bundle.tensors import Dimension, TensorSpec
from skipc.tools.trtbench.cases import are_typical, typical_cases
from tests.bundles import edit_json, list_anew, write_bundle
from tests.command_line import skipc, told, trtbench

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--warmUp", 1, "--duration", 0, "--iterations", 12, "--threads", 1)


def test_what_is_measured_is_what_the_governor_starts_from(work: Path) -> None:
    bundle = work / "ckpt.skipc"
    found = work / "found.json"
    ended = trtbench(bundle, *QUICK, "--update", "--json", found, "--meter", "model:5")
    assert ended.code == 0, ended.err
    assert "AdaptiveEngine starts from these latencies" in ended.out
    assert "Energies are left out: they were estimated." in ended.out
    (table,) = (bundle / "measured").iterdir()
    assert str(table) in ended.out
    written = json.loads(found.read_text(encoding="utf-8"))["configurations"]
    medians_ms = {entry["name"]: entry["latency"]["median_ms"] for entry in written}
    with AdaptiveEngine.open(bundle, threads=1) as engine:
        for entry in engine.stats().configurations:
            assert entry.source == "measured"
            assert entry.p50_ms == medians_ms[entry.configuration]
    with AdaptiveEngine.open(bundle, threads=2) as engine:
        assert {entry.source for entry in engine.stats().configurations} == {"table"}
    shown = skipc("show", bundle, columns=80)
    assert "measured on devices" in shown.out
    assert "this one, as it is now" in shown.out
    assert max(map(len, shown.out.splitlines()[1:])) <= 80  # the first one is a path
    (document,) = skipc("show", bundle, "--json").json()["measured"]
    assert document == json.loads(table.read_text(encoding="utf-8"))
    assert skipc("check", bundle).code == 0

    edit_json(table, lambda doc: doc.update(surprise=1))
    assert "unknown key 'surprise'" in told(skipc("check", bundle))


def test_it_replaces_what_was_measured_before(work: Path) -> None:
    for _ in range(2):
        assert trtbench(work / "ckpt.skipc", *QUICK, "--update").code == 0
    assert len(list((work / "ckpt.skipc/measured").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--iterations", 9), "a table needs 10 calls"),
        (("--configurations", "fast"), "Leave out --configurations"),
        (("--target", "null"), "no latency is measured"),
        (("--timeDeserialize",), "no latency is measured"),
    ],
)
def test_half_a_table_is_refused(work: Path, options: tuple[object, ...], text: str) -> None:
    assert text in told(trtbench(work / "ckpt.skipc", "--update", *options))
    assert not (work / "ckpt.skipc/measured").exists()


def test_of_a_dynamic_batch_the_typical_one_is_measured(tmp_path: Path) -> None:
    images = TensorSpec("images", "float32", ("N", 3, 4, 4))
    batch = (Dimension("N", 1, 2, 4),)
    path = write_bundle(tmp_path / "toy.skipc", inputs=(images,), dimensions=batch)
    sizes = (2, 1, 4, 2)
    golden = {f"{k}/images": np.full((n, 3, 4, 4), k, "f4") for k, n in enumerate(sizes)}
    np.savez(path / "golden/inputs.npz", **golden)
    list_anew(path, "golden/inputs.npz")
    bundle = Bundle.open(path)
    assert [case["images"].max() for case in typical_cases(bundle)] == [0, 3]
    assert not are_typical(bundle, bundle.golden_inputs())


def test_conditions_are_read_where_there_are_any(tmp_path: Path) -> None:
    assert conditions_now(tmp_path) == Conditions(None, None, None)
    for name, text in (
        ("sys/class/thermal/thermal_zone0/temp", "41500"),
        ("sys/class/thermal/thermal_zone1/temp", "63000"),
        ("sys/class/thermal/thermal_zone2/temp", "-256000"),
        ("sys/class/thermal/thermal_zone3/temp", "no sensor"),
        ("sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1000000"),
        ("sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq", "2000000"),
        ("sys/class/devfreq/17000000.ga10b/cur_freq", "918000000"),
        ("sys/class/devfreq/15480000.nvdec/cur_freq", "999000000"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert conditions_now(tmp_path) == Conditions(63.0, 1500.0, 918.0)

"""Tables measured on a device: used where all of their key holds, refused where damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from skipc.runtime import AdaptiveEngine, Bundle
from skipc.runtime.bundle.device import Device, this_device
from skipc.runtime.bundle.measured import (
    MeasuredMode,
    MeasuredTable,
    Row,
    all_tables,
    find_table,
    table_key,
    tables_of_modes,
)
from skipc.runtime.bundle.records import written
from skipc.runtime.errors import BundleError, FormatError, IntegrityError, VersionError
from skipc.runtime.load.points import points_here
from tests.bundles import LATENCIES_MS, edit_json, write_bundle, write_engines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = write_bundle(tmp_path / "toy.skipc")
    write_engines(folder, threads=(1, 2))
    return folder


def write_table(
    path: Path,
    energy_mj: float | None = None,
    mode: MeasuredMode | None = None,
    day: int = 1,
    **changes: Any,
) -> Path:
    """Writes a table for this device, ten times as slow as the engines' own."""
    bundle = Bundle.open(path)
    key = replace(table_key(bundle, bundle.engine_set(), this_device(), 1), **changes)
    rows = tuple(
        Row(name, 10 * ms, 11 * ms, 12 * ms, 40, energy_mj, None)
        for name, ms in LATENCIES_MS.items()
    )
    when = f"2026-01-0{day}T00:00:00+00:00"
    table = MeasuredTable(key, when, {"skipc": "0"}, "", rows, mode)
    file = path / key.path()
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(written(table)), encoding="utf-8")
    return file


def points(path: Path, threads: int = 1) -> list[tuple[str, float]]:
    bundle = Bundle.open(path)
    return [(p.source, p.p50_ms) for p in points_here(bundle, bundle.engine_set(), threads)]


def test_a_table_of_this_device_comes_first(path: Path) -> None:
    built = [("table", ms) for ms in LATENCIES_MS.values()]
    assert points(path) == built
    write_table(path, energy_mj=7.0)
    assert points(path) == [("measured", 10 * ms) for ms in LATENCIES_MS.values()]
    assert points(path, threads=2) == [("table", ms / 2) for ms in LATENCIES_MS.values()]
    bundle = Bundle.open(path)
    assert {p.energy_mj for p in points_here(bundle, bundle.engine_set(), 1)} == {7.0}
    with AdaptiveEngine.open(path) as engine:
        assert {entry.source for entry in engine.stats().configurations} == {"measured"}


@pytest.mark.parametrize(
    "changes",
    [
        {"device": Device("another board", "")},
        {"device": replace(this_device(), power_mode="another mode")},
        {"engines_sha256": "0" * 64},
        {"bundle_sha256": "0" * 64},
        {"target": "rtx"},
        {"threads": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_table_of_anything_else_is_not_used(path: Path, changes: dict[str, Any]) -> None:
    write_table(path, **changes)
    assert {source for source, _ in points(path)} == {"table"}
    assert len(all_tables(Bundle.open(path))) == 1


@pytest.mark.parametrize(
    ("mode", "told"),
    [("15W", ["15W"]), (this_device().power_mode, [])],
    ids=["another mode", "this mode"],
)
def test_tables_of_other_modes_are_named_when_they_are_all(
    path: Path, mode: str, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_table(path, device=replace(this_device(), power_mode=mode))
    write_table(path, device=Device("another board", "30W"))
    assert points(path)
    found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(found) == len(told)
    for message, name in zip(found, told, strict=True):
        assert f"was measured in the power mode '{name}', and is in " in message
        assert "trtbench" in message


def test_tables_of_modes_are_the_newest_of_this_device_by_name(path: Path) -> None:
    here, slow = this_device(), MeasuredMode("slow", {"fast": 12.5})
    write_table(path, mode=slow, day=1, device=replace(here, power_mode="CPU to 1 MHz"))
    write_table(path, mode=slow, day=3, device=replace(here, power_mode="CPU to 2 MHz"))
    write_table(path, mode=slow, day=2, device=replace(here, power_mode="CPU to 3 MHz"))
    write_table(path, mode=MeasuredMode("fast", {}), device=Device("another board", "1"))
    write_table(path, mode=MeasuredMode("fast", {}), threads=2)
    write_table(path, device=replace(here, power_mode="set by hand"))
    bundle = Bundle.open(path)
    key = table_key(bundle, bundle.engine_set(), here, 1)
    found = tables_of_modes(bundle, key, ("slow", "fast"))
    assert list(found) == ["slow"]
    assert found["slow"].key.device.power_mode == "CPU to 2 MHz"
    assert found["slow"].mode == slow
    assert tables_of_modes(bundle, key, ("fast",)) == {}


def test_a_damaged_table_of_another_device_does_not_matter(path: Path) -> None:
    write_table(path, device=Device("another board", "")).write_bytes(b"{")
    assert {source for source, _ in points(path)} == {"table"}


def test_an_engine_built_anew_has_no_table(path: Path) -> None:
    write_table(path)
    edit_json(
        path / "engines/cpu/engines.json",
        lambda doc: doc["files"][0].update(sha256="f" * 64),
    )
    assert {source for source, _ in points(path)} == {"table"}


def _set(*keys: str | int, value: object) -> Callable[[Any], None]:
    def change(doc: Any) -> None:
        for key in keys[:-1]:
            doc = doc[key]
        doc[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (_set("format", value="skipc.measured/9"), VersionError, "skipc.measured/9"),
        (_set("rows", 0, "p50_ms", value=0), FormatError, "'p50_ms' must be"),
        (_set("rows", 0, "energy_mj", value=-1.0), FormatError, "'energy_mj' must be"),
        (_set("rows", 0, "graph", value="odd"), FormatError, "expected one for each"),
        (lambda doc: doc["rows"].pop(), FormatError, "expected one for each"),
        (_set("mode", value={"name": "a", "change_ms": {"b": -1}}), FormatError, "'b' must"),
        (_set("surprise", value=1), FormatError, "unknown key 'surprise'"),
        (_set("key", "threads", value=2), IntegrityError, "under other conditions"),
        (_set("key", "device", "name", value="a"), IntegrityError, "under other conditions"),
    ],
)
def test_a_damaged_table_is_refused(
    path: Path, change: Callable[[Any], None], error: type[BundleError], text: str
) -> None:
    file = write_table(path)
    edit_json(file, change)
    with pytest.raises(error, match=text) as caught:
        points(path)
    assert str(file) in str(caught.value)


def test_a_table_that_leads_out_is_refused(path: Path, tmp_path: Path) -> None:
    file = write_table(path)
    (path / "measured").rename(tmp_path / "outside")
    (path / "measured").symlink_to(tmp_path / "outside")
    bundle = Bundle.open(path)
    with pytest.raises(IntegrityError, match="leads out"):
        find_table(bundle, table_key(bundle, bundle.engine_set(), this_device(), 1))
    with pytest.raises(IntegrityError, match="leads out"):
        all_tables(bundle)
    assert file.exists()


def test_files_that_are_being_written_are_left_alone(path: Path) -> None:
    write_table(path)
    (path / "measured/.half.json.tmp").write_text("{")
    (path / "measured/.half.json").write_text("{")
    (path / "measured/notes.txt").write_text("mine")
    assert len(all_tables(Bundle.open(path))) == 1

"""The document ``skipc.trtbench/2``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from skipc.runtime.errors import FormatError, VersionError
from skipc.tools.trtbench.report import read_report
from tests.command_line import told, trtbench
from tests.tools.trtbench.test_compare import report, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = report()
    assert read_report(write(tmp_path / "a.json", found)) == found


def _first(value: Any) -> Any:
    return value["configurations"][0]


ATTACKS: dict[str, tuple[Callable[[Any], object], str]] = {
    "unknown key": (lambda v: v.update(extra=1), "unknown key 'extra'"),
    "no regime": (lambda v: v.pop("regime"), "the key 'regime' is missing"),
    "regime": (lambda v: v.update(regime=[]), "expected an object"),
    "threads": (lambda v: v["regime"].update(threads=0), "'threads' must be a whole number"),
    "hash": (lambda v: v["regime"].update(manifest_sha256="x"), "64 hexadecimal digits"),
    "versions": (lambda v: v["regime"]["versions"].update(skipc=1), "non-empty string"),
    "meter": (lambda v: v["regime"].update(meter={}), "the key 'name' is missing"),
    "reference": (lambda v: v.update(reference="mid"), "'reference' is 'mid'"),
    "empty": (lambda v: v.update(configurations=[]), "none of []"),
    "twice": (lambda v: v["configurations"].append(_first(v)), "is given twice"),
    "name": (lambda v: _first(v).update(name=3), "'name' must be a non-empty string"),
    "load": (lambda v: _first(v).update(load_ms=-1), "'load_ms' must be a number above zero"),
    "median": (lambda v: _first(v)["latency"].update(median_ms="1"), "must be a number"),
    "nan": (lambda v: _first(v)["latency"].update(mean_ms=float("nan")), "finite number"),
    "huge": (lambda v: _first(v)["latency"].update(mean_ms=10**400), "a float can hold"),
    "runs": (lambda v: _first(v)["latency"].update(runs=0), "at least 1"),
    "no batches": (lambda v: _first(v)["latency"].update(batch_medians_ms=[]), "is empty"),
    "few batches": (lambda v: _first(v)["latency"].update(batch_medians_ms=[1]), "300 runs"),
    "zero batch": (
        lambda v: _first(v)["latency"]["batch_medians_ms"].__setitem__(3, 0),
        "'batch_medians_ms[3]' must be a number above zero",
    ),
    "one untimed": (lambda v: _first(v).update(latency=None), "the same rounds"),
    "percentile": (
        lambda v: _first(v)["latency"].update(percentiles_ms={"200": 1}),
        "'200' is no percentile",
    ),
    "memory": (lambda v: _first(v)["memory"].pop("disk"), "the key 'disk' is missing"),
    "host": (lambda v: _first(v)["memory"].update(host=3), "expected an object"),
    "device": (lambda v: _first(v)["memory"]["device"].update(own_bytes=-1), "at least 0"),
    "parts": (
        lambda v: _first(v)["load_parts"].update(refit_ms=-1),
        "'refit_ms' must be a number of at least 0, found -1",
    ),
    "phase": (lambda v: _first(v)["phases"].pop("compute"), "'compute' is missing"),
    "phase time": (
        lambda v: _first(v)["phases"]["h2d"].update(mean_ms=-0.1),
        "'mean_ms' must be a number of at least 0, found -0.1",
    ),
    "way": (lambda v: v["regime"]["way"].update(wait="spinn"), "Did you mean 'spin'?"),
    "energy": (lambda v: _first(v)["energy"].update(windows_mj=3), "must be a list"),
    "switches": (lambda v: v["switching"]["first_ms"].pop("full"), "each pair of them"),
    "ratio": (lambda v: v["configurations"][1].update(over_reference=3), "expected an object"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_malformed_documents_are_refused(tmp_path: Path, attack: str) -> None:
    good = write(tmp_path / "good.json", report())
    value = json.loads(good.read_text())
    change, expected = ATTACKS[attack]
    change(value)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(value))
    with pytest.raises(FormatError) as refusal:
        read_report(bad)
    assert expected in str(refusal.value)
    assert str(bad) in told(trtbench("--compare", good, bad))


def test_other_documents_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text, error in (
        ('{"format": "skipc.trtbench/1"}', VersionError),
        ('{"format": "skipc.bundle/1"}', FormatError),
        ("[1]", FormatError),
        ("{", FormatError),
        ('{"format": "skipc.trtbench/2", "format": "skipc.trtbench/2"}', FormatError),
        ("[" * 100_000, FormatError),
    ):
        path.write_text(text)
        with pytest.raises(error):
            read_report(path)

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from skipc.runtime.backends.phases import LoadTimes, Wait, Way
from skipc.runtime.errors import FormatError, VersionError
from skipc.tools.trtbench.results.document import document, encoded, read_report
from skipc.tools.trtbench.results.interval import RatioInterval
from skipc.tools.trtbench.results.report import Measured, MeterInfo, Regime, Report
from skipc.tools.trtbench.results.summary import Percentile, summarize
from skipc.tools.trtbench.running.conditions import Conditions
from skipc.tools.trtbench.running.energy import Energy
from skipc.tools.trtbench.running.loop import Stop
from skipc.tools.trtbench.running.memory import DeviceShare, Memory, Share
from skipc.tools.trtbench.running.phases import PhaseSummary, Times
from skipc.tools.trtbench.running.switching import Switching
from tests.command_line import told, trtbench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

import numpy as np

NAMES = ("full", "fast")
MEMORY = Memory(Share(100, 200), None, DeviceShare(5, 6, 7))
TIMES = Times(0.0, 0.2, 0.2, 0.5, (Percentile(90.0, 0.4),))
PHASES = PhaseSummary(300, False, *[TIMES] * 5)


def report(scale: float = 1.0, seed: int = 0, names: tuple[str, ...] = NAMES) -> Report:
    """A report of synthetic latencies; the first configuration's are scaled."""
    rng = np.random.default_rng(seed)
    entries = []
    for index, name in enumerate(names):
        times_ms = (10 - 5 * index) * rng.lognormal(0, 0.02, 300)
        times_ms *= scale if index == 0 else 1
        latency = summarize(times_ms, (90.0, 99.0), 10)
        energy = Energy((1.0, 1.5))
        entries.append(
            Measured(
                *(name, 0.9 - index / 10, MEMORY, 3.0, LoadTimes(1.0, None), 12.0),
                *(latency, PHASES, energy),
            )
        )
    steady = dict.fromkeys(names, 1.0)
    first = {a: {b: 1.5 for b in names if b != a} for a in names}
    regime = Regime(
        *(
            "2026-01-01T00:00:00+00:00",
            "toy",
            "0" * 64,
            "onnxruntime-cpu",
            "cpu",
            1,
            "a CPU",
            "MAXN",
        ),
        *({"skipc": "0"}, {"images": "1x3 float32"}, 2, Stop(200, 3, 10), 1, 7),
        MeterInfo("model:5", "nothing", True),
        *(Conditions(41.5, 1500.0, None), Conditions(63.0, 1400.0, None)),
        Way(graph=False, wait=Wait.BLOCK),
    )
    return Report(regime, names[0], tuple(entries), Switching(3, steady, first), ())


def write(path: Path, found: Report) -> Path:
    path.write_bytes(encoded(found))
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = report()
    assert read_report(write(tmp_path / "a.json", found)) == found
    assert document(read_report(tmp_path / "a.json")) == document(found)


@pytest.mark.parametrize(
    ("scale", "code", "verdict"),
    [
        (1.0, 0, "no difference shown"),
        (1.02, 0, "within 3.0%"),
        (0.98, 0, "within 3.0%"),
        (1.05, 1, "slower"),
        (0.95, 0, "faster"),
    ],
)
def test_verdicts_and_exit_codes(
    tmp_path: Path, scale: float, code: int, verdict: str
) -> None:
    old = write(tmp_path / "old.json", report())
    new = write(tmp_path / "new.json", report(scale, seed=1))
    ended = trtbench("--compare", old, new, columns=80)
    assert (ended.code, ended.err) == (code, "")
    lines = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    assert lines["full"].rstrip().endswith(verdict)
    assert lines["fast"].rstrip().endswith("no difference shown")
    assert "Not alike" not in ended.out


def test_outliers_that_leave_the_median_alone_are_told(tmp_path: Path) -> None:
    calm = report()
    latency = calm.configurations[1].latency
    assert latency is not None
    hit = replace(latency, mean_ms=2 * latency.mean_ms, max_ms=500.0)
    entries = (calm.configurations[0], replace(calm.configurations[1], latency=hit))
    old = write(tmp_path / "old.json", calm)
    new = write(tmp_path / "new.json", replace(calm, configurations=entries))
    ended = trtbench("--compare", old, new, columns=80)
    assert ended.code == 0
    flat = " ".join(ended.out.split())
    assert "fast: its mean and its slowest calls changed otherwise than its median" in flat
    assert "full: its mean" not in flat


def test_a_common_factor_is_the_machines(tmp_path: Path) -> None:
    old, new = report(), report()
    slowed = []
    for entry in new.configurations:
        latency = entry.latency
        assert latency is not None
        medians_ms = tuple(1.1 * ms for ms in latency.batch_medians_ms)
        slower = replace(
            latency,
            median_ms=1.1 * latency.median_ms,
            mean_ms=1.1 * latency.mean_ms,
            batch_medians_ms=medians_ms,
        )
        slowed.append(replace(entry, latency=slower))
    both = write(tmp_path / "a.json", old), write(tmp_path / "b.json", old)
    assert "same factor" not in trtbench("--compare", *both).out
    write(tmp_path / "b.json", replace(new, configurations=tuple(slowed)))
    ended = trtbench("--compare", *both, columns=80)
    assert ended.code == 1
    assert "All changed by about the same factor, 1.100" in " ".join(ended.out.split())


def test_an_interval_holds_the_quotient_of_the_medians_shown() -> None:
    interval = RatioInterval(1.85, 1.6, 2.1)
    assert interval.covering(2.89) == RatioInterval(1.85, 1.6, 2.89)
    assert interval.covering(1.9) == interval
    assert RatioInterval(1.85, None, None).covering(3.0) == RatioInterval(1.85, None, None)


def test_the_margin_may_be_chosen(tmp_path: Path) -> None:
    old = write(tmp_path / "old.json", report())
    new = write(tmp_path / "new.json", report(1.05, seed=1))
    assert trtbench("--compare", old, new, "--margin", 10).code == 0
    new = write(tmp_path / "new.json", report(1.02, seed=1))
    assert trtbench("--compare", old, new, "--margin", 0).code == 1
    assert "only with --compare" in told(trtbench("x.skipc", "--margin", 1))


def test_differences_of_the_regimes_are_told(tmp_path: Path) -> None:
    old = write(tmp_path / "old.json", report())
    new = write(tmp_path / "new.json", report())

    def change(regime: dict[str, Any]) -> None:
        regime.update(
            threads=2, way=None, versions={"skipc": "1"}, inputs={"images": "4x3 float32"}
        )

    value = json.loads(new.read_text())
    change(value["regime"])
    new.write_text(json.dumps(value))
    out = trtbench("--compare", old, new).out
    assert "Not alike: threads: 1, then 2" in out
    assert "(blocking), then there are no transfers" in out
    assert "Not alike: version of skipc: 0, then 1" in out
    assert "Not alike: input images: 1x3 float32, then 4x3 float32" in out


def test_configurations_of_one_file_only(tmp_path: Path) -> None:
    old = write(tmp_path / "old.json", report(names=("full", "mid")))
    new = write(tmp_path / "new.json", report())
    out = trtbench("--compare", old, new).out
    assert "mid is in the old file only." in out
    assert "fast is in the new file only." in out
    other = write(tmp_path / "other.json", report(names=("a", "b")))
    assert "no configuration in common" in told(trtbench("--compare", old, other))


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
        "'refit_ms' is -1, expected a number from 0 on",
    ),
    "phase": (lambda v: _first(v)["phases"].pop("compute"), "'compute' is missing"),
    "phase time": (
        lambda v: _first(v)["phases"]["h2d"].update(mean_ms=-0.1),
        "'mean_ms' is -0.1, expected a number from 0 on",
    ),
    "way": (lambda v: v["regime"]["way"].update(wait="spinn"), "Did you mean 'spin'?"),
    "energy": (lambda v: _first(v)["energy"].update(windows_mj=3), "must be a list"),
    "switches": (lambda v: v["switching"]["first_ms"].pop("full"), "'full' is missing"),
    "ratios": (lambda v: v.update(ratios=3), "'ratios' must be a list"),
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
        ('{"format": "skipc.trtbench/2"}', VersionError),
        ('{"format": "skipc.bundle/1"}', FormatError),
        ("[1]", FormatError),
        ("{", FormatError),
        ('{"format": "skipc.trtbench/1", "format": "skipc.trtbench/1"}', FormatError),
        ("[" * 100_000, FormatError),
    ):
        path.write_text(text)
        with pytest.raises(error):
            read_report(path)

"""Reading scenarios: every wrong key or value is named by its place."""

from __future__ import annotations

import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TypeVar

from skipc.runtime.bundle.records import Record, read_document
from skipc.runtime.errors import choices_text
from skipc.tools.simulate.scenario import (
    ARRIVALS,
    Arrivals,
    Grant,
    Neighbour,
    Noise,
    Power,
    Scenario,
    ScenarioError,
    ScriptedMeter,
    Slowdown,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Filled = TypeVar("_Filled", Grant, Slowdown, Neighbour, Noise, Power, ScriptedMeter)

FORMAT = "skipc.scenario/1"
MOST_PERIODS = 100_000
LARGEST_FACTOR = 1000.0
LONGEST_S = 30 * 24 * 3600.0
_FOLDER = Path(__file__).parent / "scenarios"
_MAY_BE_ZERO = {"at_s", "over_s", "idle", "noise", "stops_at_s", "back_at_s", "jumps_at_s"}
_FACTORS = {"factor", "spike_factor"}
_SHARES = {"share", "spike_share", "idle"}
_KEYS = ("format", *(name for name in Scenario.__dataclass_fields__ if name != "file"))


def shipped_scenarios() -> dict[str, Path]:
    """Returns the files of the scenarios that come with skipc, by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def find_scenario(name: str) -> Scenario:
    """Returns a scenario by its name, or from a file of one's own (``./my.toml``).

    Raises:
        ScenarioError: There is none, or its file is not a scenario.
    """
    if name.endswith(".toml") or "/" in name:
        return read_scenario(Path(name))
    shipped = shipped_scenarios()
    if name not in shipped:
        raise ScenarioError(
            f"there is no scenario {name!r}. {choices_text(name, shipped)} A file of your own"
            " ends in .toml."
        )
    return read_scenario(shipped[name])


def read_scenario(path: Path) -> Scenario:
    """Returns the scenario in a TOML file.

    Raises:
        ScenarioError: The file cannot be read, or is none; the message names the key.
    """
    data = read_document(path, ScenarioError)
    try:
        value: dict[str, object] = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as cause:
        raise ScenarioError(f"{path}: not valid TOML: {cause}.") from cause
    if value.get("format") != FORMAT:
        raise ScenarioError(
            f"{path}: 'format' must be {FORMAT!r}, found {value.get('format')!r}."
        )
    doc = Record(value, str(path), _KEYS, ScenarioError)
    duration_s = doc.positive("duration_s")
    if duration_s > LONGEST_S:
        raise ScenarioError(f"{path}: 'duration_s' is {duration_s:g}: more than 30 days.")
    grants = tuple(_filled(each, Grant) for each in _records(doc, "grants", Grant))
    if not grants or grants[0].at_s > 0:
        raise ScenarioError(f"{path}: 'grants' must begin with one at at_s = 0.")
    slowdowns = tuple(_filled(each, Slowdown) for each in _records(doc, "slowdowns", Slowdown))
    for key, times_s in (
        ("grants", [each.at_s for each in grants]),
        ("slowdowns", [each.at_s for each in slowdowns]),
    ):
        if times_s != sorted(times_s):
            raise ScenarioError(f"{path}: {key!r} must be in the order of their 'at_s'.")
    neighbour = _optional(doc, "neighbour", Neighbour)
    if neighbour is not None and duration_s > MOST_PERIODS * neighbour.period_s:
        raise ScenarioError(
            f"{path}: neighbour: 'period_s' is {neighbour.period_s:g}, more than"
            f" {MOST_PERIODS} of them in 'duration_s'."
        )
    starts_s = [each.at_s for each in grants] + [each.at_s for each in slowdowns]
    late = [at_s for at_s in starts_s if at_s >= duration_s]
    if late:
        raise ScenarioError(
            f"{path}: 'at_s' is {late[0]:g}, but the scenario ends at {duration_s:g} s."
        )
    meter = _optional(doc, "meter", ScriptedMeter)
    return Scenario(
        file=path.stem,
        name=doc.text("name"),
        description=doc.text("description"),
        duration_s=duration_s,
        seed=doc.integer("seed") if "seed" in doc else 0,
        arrivals=_arrivals(doc),
        grants=grants,
        slowdowns=slowdowns,
        neighbour=neighbour,
        noise=_optional(doc, "noise", Noise) or Noise(),
        power=_optional(doc, "power", Power) or Power(),
        meter=meter,
    )


def _arrivals(doc: Record) -> Arrivals:
    if "arrivals" not in doc:
        return Arrivals()
    record = doc.record("arrivals", *Arrivals.__dataclass_fields__)
    kind = record.text("kind")
    if kind not in ARRIVALS:
        raise ScenarioError(
            f"{record.where}: 'kind' is {kind!r}. {choices_text(kind, ARRIVALS)}"
        )
    calls = record.integer("calls", 1) if "calls" in record else 1
    if (kind == "bursts") != (calls > 1):
        raise ScenarioError(
            f"{record.where}: 'calls' is {calls} and 'kind' {kind!r}: bursts have more than"
            " one call each, other arrivals one."
        )
    if kind == "back-to-back":
        return Arrivals(kind)
    return Arrivals(kind, record.positive("period"), calls)


def _records(doc: Record, key: str, kind: type[Grant | Slowdown]) -> list[Record]:
    return list(doc.records(key, *kind.__dataclass_fields__)) if key in doc else []


def _optional(doc: Record, key: str, kind: type[_Filled]) -> _Filled | None:
    if key not in doc:
        return None
    return _filled(doc.record(key, *kind.__dataclass_fields__), kind)


def _filled(record: Record, kind: type[_Filled]) -> _Filled:
    """Returns a dataclass of numbers; what the record does not have keeps its default."""
    values = {}
    for field in fields(kind):
        if field.name in record:
            values[field.name] = _checked(record, kind, field.name)
        elif field.default is MISSING:
            record.number(field.name)  # says that it is missing
    return kind(**values)


def _checked(record: Record, kind: type[object], name: str) -> float:
    if name in _MAY_BE_ZERO or kind is Noise:
        value = record.number(name)
        if value < 0:
            raise ScenarioError(f"{record.where}: {name!r} is {value:g}, which is below zero.")
    else:
        value = record.positive(name)
    if name in _FACTORS and value > LARGEST_FACTOR:
        raise ScenarioError(
            f"{record.where}: {name!r} is {value:g}: expected {LARGEST_FACTOR:g} at most."
        )
    if kind is Noise and name not in _FACTORS and value > 1:
        raise ScenarioError(f"{record.where}: {name!r} is {value:g}: expected 1 at most.")
    if name in _SHARES and value > 1:
        raise ScenarioError(f"{record.where}: {name!r} is {value:g}: a share is at most 1.")
    if name == "quantile" and not 0.5 <= value < 1:
        raise ScenarioError(
            f"{record.where}: 'quantile' is {value:g}: expected 0.5 or more and less than 1."
        )
    return value

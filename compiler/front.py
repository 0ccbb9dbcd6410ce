"""``front.json``: the configurations to build, with their metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated

from skipc.compiler import axes
from skipc.compiler.axes.exits import END, ExitsAxis
from skipc.compiler.bundle.files import write_whole
from skipc.compiler.errors import FrontError
from skipc.compiler.front_files import FrontRouter, StatisticsFile  # noqa: TC001
from skipc.compiler.norms.statistics import NormMode
from skipc.runtime.bundle.constraints import AtLeast, AtMost, KeysOf, Positive, Text
from skipc.runtime.bundle.records import read, read_json
from skipc.runtime.bundle.route import NEVER, SCORES, Jump
from skipc.runtime.errors import choices_text, sentence, shown

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "skipc.front/2"

_FIRST_FORMAT = "skipc.front/1"
"""Still read, since people write it by hand: it knows one axis, and must name it."""

_FIRST_AXIS = "skip"

MAX_CONFIGURATIONS = 1000

_OF_ROUTES = ("network", "parts", "tests", "stops", "router")

_KEYS = ("norm", "statistics", "provenance", "configurations")

DATA_SKETCH = "data_sketch"
"""The key in ``provenance`` of the sketch of the data that chose the configurations."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?\Z")
_ROUNDING = 1e-3
_EXACT = 1e-6
_UNITLESS = {
    "latency": "latency_ms",
    "energy": "energy_mj",
    "power": "power_w",
    "memory": "memory_bytes",
    "size": "size_bytes",
}


@dataclass(frozen=True, slots=True)
class ExitTest:
    """When a sample is answered at an exit: see ``runtime.bundle.route.Test``.

    Attributes:
        threshold: It is, where the weighted sum of its scores is at least this.
        scores: The weight of each score.
        temperature: What the exit's answer is divided by before the softmax; None for what
            was found when the head was trained.
        jump: Over which answers samples jump, and below which sum of scores. Answers are
            numbered from 0, through all parts.
        output: Which of several outputs it looks at; empty for the first.
    """

    threshold: float
    scores: Annotated[Mapping[str, float], KeysOf(SCORES)] = field(
        default_factory=lambda: {"max-softmax": 1.0}
    )
    temperature: Positive | None = None
    jump: Jump | None = None
    output: Text = ""

    def check(self, where: str) -> None:
        """Raises ``FrontError`` where no score reaches a limit, or it jumps amiss."""
        if self.jump is not None and self.jump.below > self.threshold:
            raise FrontError(
                f"{where}: 'jump' is from below {self.jump.below:g}, which must not be above"
                f" 'threshold', {self.threshold:g}."
            )
        if not self.scores or ("value" in self.scores and len(self.scores) > 1):
            raise FrontError(
                f"{where}: 'scores' must be of {', '.join(SCORES[:-1])}, at least one, or of"
                f" 'value' alone, found {shown(dict(self.scores))}."
            )
        if "value" not in self.scores:
            self._check_reachable(where)

    def _check_reachable(self, where: str) -> None:
        """Refuses limits that no sum of the scores reaches, each of which is 0 to 1."""
        low = sum(min(weight, 0.0) for weight in self.scores.values())
        high = sum(max(weight, 0.0) for weight in self.scores.values())
        limits = {"threshold": self.threshold}
        if self.jump is not None:
            limits["below"] = self.jump.below
        for key, limit in limits.items():
            if low - _EXACT <= limit <= high + _EXACT or abs(limit) == NEVER:
                continue
            raise FrontError(
                f"{where}: {key!r} is {limit:g}, but the sum of {', '.join(self.scores)} with"
                f" these weights is from {low:g} to {high:g}. Write a number between them"
                + (f", or {NEVER:g} where none is to be answered." if high < NEVER else ".")
            )


@dataclass(frozen=True, slots=True)
class FrontPart:
    """One network of a cascade as the file has it.

    Attributes:
        network: Its name; "" for the only one.
        choices: By axis what stands under its key; an axis that is missing is left alone.
        statistics: The name that its norm statistics have in their file; "" for the
            configuration's, with the part's number behind a dot.
    """

    network: Text = ""
    choices: Mapping[str, object] = field(default_factory=dict)
    statistics: Text = ""

    def check(self, where: str) -> None:
        """Raises ``FrontError`` where a choice can mean nothing."""
        for axis in axes.AXES:
            if axis.key in self.choices:
                axis.check(self.choices[axis.key], where)

    @property
    def answers(self) -> int:
        """How often it answers: at each of its exits."""
        exits = self.choices.get(ExitsAxis.key, [END])
        assert isinstance(exits, list)
        return len(exits)


@dataclass(frozen=True, slots=True)
class FrontEntry:
    """One configuration as the file has it.

    Attributes:
        name: Also the name of its files.
        choices: By axis what stands under its key; an axis that is missing is left alone.
        metrics: Numbers with a unit suffix, e.g. ``latency_ms``; ``accuracy`` is a fraction.
        tests: One for each answer but the last.
        stops: By answer, the share of samples that end there; empty if not known.
        network: The network's name; "" for the only one.
        parts: The networks of a cascade, in order, instead of ``network`` and ``choices``.
        router: What names one of other configurations for each sample, instead of all these.
    """

    name: str
    choices: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tests: tuple[ExitTest, ...] = ()
    stops: tuple[Annotated[float, AtLeast(0), AtMost(1)], ...] = ()
    network: Text = ""
    parts: tuple[FrontPart, ...] = ()
    router: FrontRouter | None = None

    @property
    def networks(self) -> tuple[FrontPart, ...]:
        """Its networks, in order, each with the name that its statistics have.

        None where it has a router, whose configurations have them.
        """
        if self.router is not None:
            return ()
        if not self.parts:
            return (FrontPart(self.network, self.choices, self.name),)
        return tuple(
            replace(part, statistics=part.statistics or f"{self.name}.{number}")
            for number, part in enumerate(self.parts)
        )

    def check(self, where: str) -> None:
        """Raises ``FrontError`` where a value can mean nothing."""
        if not _NAME.match(self.name) or _RESERVED.match(self.name):
            raise FrontError(
                f"{where}: {self.name!r} cannot name files. Use letters, digits, '.', '_' and"
                " '-', at most 64 of them, starting with a letter or digit."
            )
        for key, value in self.metrics.items():
            if key in _UNITLESS:
                raise FrontError(
                    f"{where} ({self.name!r}): the metric {key!r} has no unit. Write"
                    f" {_UNITLESS[key]!r}."
                )
            if key == "accuracy" and not 0 <= value <= 1:
                raise FrontError(
                    f"{where} ({self.name!r}): 'accuracy' is a fraction between 0 and 1, found"
                    f" {value:g}."
                )
        if self.router is not None:
            self._check_routed(f"{where} ({self.name!r})")
            return
        if self.parts and (self.network or self.choices):
            given = next(iter({"network": 1} if self.network else self.choices))
            raise FrontError(
                f"{where} ({self.name!r}): {given!r} stands beside 'parts'. Write it into the"
                " part that it is about."
            )
        if not self.parts:
            self.networks[0].check(where)
        self._check_tests(f"{where} ({self.name!r})")

    def _check_routed(self, where: str) -> None:
        """Refuses what else a configuration may be beside what its router names."""
        others = {"network": self.network, "parts": self.parts, "tests": self.tests}
        given = [key for key, value in {**others, **self.choices}.items() if value]
        if given:
            raise FrontError(
                f"{where}: {given[0]!r} stands beside 'router', which names configurations of"
                " the front that have their own. Leave one of them out."
            )
        self._check_sum(where)

    def _check_tests(self, where: str) -> None:
        answers = sum(part.answers for part in self.networks)
        if len(self.tests) != answers - 1:
            what = f"its parts answer {answers} times" if self.parts else f"{answers} 'exits'"
            raise FrontError(
                f"{where}: {len(self.tests)} 'tests', but {what}. Give one test for each"
                f" {'answer' if self.parts else 'exit'} but the last, which answers whatever"
                " comes."
            )
        for number, test in enumerate(self.tests):
            ends = accumulate(part.answers for part in self.networks)
            firsts = [first for first in ends if number + 1 < first < answers]
            if test.jump is not None and test.jump.stage not in firsts:
                raise FrontError(
                    f"{where}: tests[{number}] jumps to answer {test.jump.stage}, expected the"
                    " first one of a part behind the next answer (counted from 0:"
                    f" {', '.join(map(str, firsts)) or 'there is none'})."
                )
        if self.stops and len(self.stops) != answers:
            raise FrontError(
                f"{where}: 'stops' has {len(self.stops)} numbers, but there are {answers}"
                f" {'answers' if self.parts else 'exits'}."
            )
        self._check_sum(where)

    def _check_sum(self, where: str) -> None:
        if self.stops and abs(sum(self.stops) - 1) > _ROUNDING:
            raise FrontError(
                f"{where}: 'stops' sums up to {sum(self.stops):g}, expected 1: every sample is"
                " answered somewhere."
            )


@dataclass(frozen=True, slots=True)
class NetworkSaid:
    """What a front says of one of several networks: see ``Front``."""

    options: Mapping[str, tuple[Text, ...]] = field(default_factory=dict)
    norm: NormMode = NormMode.SHARED
    statistics: StatisticsFile | None = None
    provenance: Mapping[str, Text] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Front:
    """The Pareto-optimal configurations.

    Attributes:
        configurations: In the order of the file.
        options: By axis the names of what could be chosen of the network that the front was
            made for; an axis that is missing was not asked.
        norm: How batch norm adapts to what is chosen.
        statistics: The file of norm statistics, where ``norm`` is not ``shared``.
        provenance: Where the front comes from, for people, except ``checkpoint_sha256``:
            statistics are refused for other weights.
        networks: Of several networks, by name, what the four keys above say of one.
    """

    configurations: tuple[FrontEntry, ...]
    options: Mapping[str, tuple[Text, ...]] = field(default_factory=dict)
    norm: NormMode = NormMode.SHARED
    statistics: StatisticsFile | None = None
    provenance: Mapping[str, Text] = field(default_factory=dict)
    networks: Mapping[str, NetworkSaid] = field(default_factory=dict)

    @property
    def data_sketches(self) -> dict[str, str]:
        """Of the data that chose it, by the name of the network that it was chosen for."""
        said = {"": self.provenance} | {n: one.provenance for n, one in self.networks.items()}
        return {name: one[DATA_SKETCH] for name, one in said.items() if one.get(DATA_SKETCH)}

    def of(self, network: str) -> NetworkSaid:
        """Returns what it says of a network."""
        alone = NetworkSaid(self.options, self.norm, self.statistics, self.provenance)
        return self.networks.get(network, alone)

    def check(self, where: str) -> None:
        """Raises ``FrontError`` where there are no configurations, too many, or two alike."""
        count = len(self.configurations)
        if not count:
            raise FrontError(
                f"{where}: 'configurations' is empty. Give at least one, e.g."
                ' {"name": "full", "skip": []}.'
            )
        if count > MAX_CONFIGURATIONS:
            raise FrontError(
                f"{where}: {count} configurations, more than the {MAX_CONFIGURATIONS} that a"
                " front may have."
            )
        seen: dict[str, str] = {}
        for entry in self.configurations:
            same = seen.get(entry.name.lower())
            if same is not None:
                raise FrontError(
                    f"{where}: two configurations are named {entry.name!r}"
                    + ("." if same == entry.name else f" but for case ({same!r}).")
                    + " Names become file names and must differ."
                )
            seen[entry.name.lower()] = entry.name


def read_front(path: Path) -> Front:
    """Returns the front in ``path``; a ``FrontError`` names the entry that is wrong."""
    try:
        document = read_json(path, FrontError)
    except FrontError as cause:
        raise FrontError(
            f"{sentence(str(cause))} Expected a front, as `skipc select` writes it."
        ) from cause
    return _front(document, str(path))


def write_front(path: Path, front: Front) -> None:
    """Writes ``front`` whole or not at all; a ``FrontError``: it could not be read back."""
    document: dict[str, object] = {"format": FORMAT}
    if front.options:
        document["options"] = {key: list(names) for key, names in front.options.items()}
    document["norm"] = front.norm.value
    if front.statistics is not None:
        document["statistics"] = asdict(front.statistics)
    if front.provenance:
        document["provenance"] = dict(front.provenance)
    if front.networks:
        document["networks"] = {n: _said_record(said) for n, said in front.networks.items()}
    document["configurations"] = [
        {"name": entry.name, **_part_record(FrontPart(entry.network, entry.choices))}
        | ({"parts": [_part_record(part) for part in entry.parts]} if entry.parts else {})
        | ({"tests": [_test_record(test) for test in entry.tests]} if entry.tests else {})
        | ({"stops": list(entry.stops)} if entry.stops else {})
        | ({"router": asdict(entry.router)} if entry.router else {})
        | ({"metrics": dict(entry.metrics)} if entry.metrics else {})
        for entry in front.configurations
    ]
    _front(document, str(path))
    write_whole(path, json.dumps(document, indent=2).encode() + b"\n")


def _said_record(said: NetworkSaid) -> dict[str, object]:
    options = {axis: list(names) for axis, names in said.options.items()}
    record = {**asdict(said), "options": options, "norm": said.norm.value}
    return {key: value for key, value in record.items() if value}


def _part_record(part: FrontPart) -> dict[str, object]:
    said = {"network": part.network, "statistics": part.statistics}
    return {key: name for key, name in said.items() if name} | dict(part.choices)


def _test_record(test: ExitTest) -> dict[str, object]:
    return {key: value for key, value in asdict(test).items() if value not in (None, "")}


def _front(value: object, where: str) -> Front:
    if not isinstance(value, dict):
        raise FrontError(f"{where}: expected an object, found {shown(value)}.")
    document = dict(value)
    if "format" not in document:
        raise FrontError(f"{where}: the key 'format' is missing.")
    found = document.pop("format")
    if found not in (FORMAT, _FIRST_FORMAT):
        raise FrontError(
            f"{where}: 'format' is {shown(found)}; this skipc reads {FORMAT!r} and"
            f" {_FIRST_FORMAT!r}."
        )
    first = found == _FIRST_FORMAT
    listed = "units" if first else "options"
    _check_keys(document, (listed, *_KEYS, *(() if first else ("networks",))), where)
    if first and "units" in document:
        document["options"] = {_FIRST_AXIS: document.pop("units")}
    entries = document.get("configurations")
    if isinstance(entries, list):
        document["configurations"] = [
            _nested(entry, first, f"{where}: configurations[{number}]")
            for number, entry in enumerate(entries)
        ]
    return read(Front, document, where, FrontError)


def _nested(entry: object, first: bool, where: str) -> object:
    """Returns an entry with what stands under the axes' keys in an object of its own."""
    if not isinstance(entry, dict):
        return entry
    keys = (_FIRST_AXIS,) if first else tuple(axis.key for axis in axes.AXES)
    _check_keys(entry, ("name", *keys, *(() if first else _OF_ROUTES), "metrics"), where)
    if first and _FIRST_AXIS not in entry:
        raise FrontError(f"{where}: the key {_FIRST_AXIS!r} is missing.")
    nested = _with_choices(entry, keys)
    parts = entry.get("parts")
    if not isinstance(parts, list):
        return nested
    for number, part in enumerate(parts):
        if isinstance(part, dict):
            place = f"{where}: parts[{number}]"
            _check_keys(part, ("network", *keys, "statistics"), place)
    parts = [_with_choices(p, keys) if isinstance(p, dict) else p for p in parts]
    return nested | {"parts": parts}


def _with_choices(record: Mapping[str, object], keys: tuple[str, ...]) -> dict[str, object]:
    choices = {key: record[key] for key in keys if key in record}
    return {key: record[key] for key in record if key not in keys} | {"choices": choices}


def _check_keys(record: Mapping[str, object], keys: tuple[str, ...], where: str) -> None:
    for key in record:
        if key not in keys:
            raise FrontError(
                f"{where}: unknown key {shown(key)}. {choices_text(str(key), keys)}"
            )

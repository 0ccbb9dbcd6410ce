"""All that the report is made from: the bundle's documents, its graphs and the results."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

from skipc.runtime.bundle import Bundle
from skipc.runtime.load.points import ranked_by
from skipc.tools.report import ReportError
from skipc.tools.report.measurement import of_engines, of_front, of_report
from skipc.tools.report.subnets import read_subnet, sharing_of
from skipc.tools.trtbench.report import read_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.bundle.manifest import ConfigurationEntry, Manifest
    from skipc.tools.report.measurement import Measurement, Point
    from skipc.tools.report.subnets import Sharing, Subnet
    from skipc.tools.trtbench.report import Measured, Report


T = TypeVar("T")

_MOST = 1e18
# A picosecond and 30 years, in milliseconds: a float holds every interval of their ratios.
_LEAST_COST, _MOST_COST = 1e-9, 1e12
_COSTS = ("_ms", "_mj")
_NAMES = ("name", "configuration", "graph")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """What was measured of one kind in one series.

    Attributes:
        index: The series' number.
        one: The series.
        points: The points that have it, the most accurate first, and what they have.
    """

    index: int
    one: Measurement
    points: list[tuple[Point, T]]


@dataclass(frozen=True, slots=True)
class Study:
    """What the sections show.

    Attributes:
        engines: The engines of every target that has some.
        subnets: What the graphs hold, by name.
        measurements: What was measured; empty where nothing was.
        ranks: By configuration its place, the most accurate first: its colour everywhere.
        reference: The most accurate configuration, by the runtime's ranking.
        links: By graph, the address of its file, relative to the page.
    """

    manifest: Manifest
    manifest_sha256: str
    engines: tuple[EngineSet, ...]
    subnets: Mapping[str, Subnet]
    sharing: Sharing
    measurements: tuple[Measurement, ...]
    ranks: Mapping[str, int]
    reference: str
    links: Mapping[str, str]

    @property
    def ordered(self) -> tuple[ConfigurationEntry, ...]:
        """The configurations, the most accurate first."""
        entries = self.manifest.configurations
        return tuple(sorted(entries, key=lambda entry: self.ranks[entry.name]))

    @property
    def knows_accuracy(self) -> bool:
        """Whether every configuration has an accuracy."""
        return ranked_by(self.manifest) == "accuracy"

    def measured(self, of: Callable[[Point], T | None]) -> Iterator[Found[T]]:
        """Yields each series in which ``of`` finds something, the most accurate first."""
        for index, one in enumerate(self.measurements):
            ordered = sorted(one.points, key=lambda point: self.ranks[point.configuration])
            found = [(p, value) for p in ordered if (value := of(p)) is not None]
            if found:
                yield Found(index, one, found)

    def found(self, of: Callable[[Measured], T | None]) -> Iterator[Found[T]]:
        """Yields the same of what only ``trtbench`` finds."""
        return self.measured(lambda point: None if point.found is None else of(point.found))


def read_study(path: Path, results: Sequence[Path], page: Path) -> Study:
    """Returns what a bundle and the results of ``trtbench`` say.

    Without results the latency tables of the engines are taken, without engines the front's
    latencies. Links are relative to where the page will lie.

    Raises:
        BundleError: The bundle, its engines or a result cannot be read.
        ReportError: A result is of another bundle, or a number is out of this world.
        ExtraMissingError: onnx is not installed.
    """
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    _check_numbers((*manifest.networks, *manifest.graphs, *manifest.configurations), str(path))
    reports = [(file, _checked_report(file, bundle)) for file in results]
    engines = tuple(bundle.engine_set(name) for name in bundle.targets())
    for built in engines:
        _check_numbers(built.engines, f"{path}: engines of {built.target}")
    ranks = _ranks(manifest)
    reference = min(ranks, key=lambda name: ranks[name])
    names = [entry.name for entry in manifest.configurations]
    found = [of_report(report, file, names) for file, report in reports]
    if not results:
        found = [one for built in engines for one in of_engines(manifest, built, reference)]
        found = found or list(of_front(manifest, reference))
    subnets = {graph.name: read_subnet(bundle, graph) for graph in manifest.graphs}
    return Study(
        manifest=manifest,
        manifest_sha256=bundle.manifest_sha256,
        engines=engines,
        subnets=subnets,
        sharing=sharing_of(manifest, subnets),
        measurements=_with_unique_labels(found),
        ranks=ranks,
        reference=reference,
        links={g.name: _link(bundle.file(g.file), page) for g in manifest.graphs},
    )


def _checked_report(file: Path, bundle: Bundle) -> Report:
    report = read_report(file)
    regime = report.regime
    if regime.manifest_sha256 != bundle.manifest_sha256:
        raise ReportError(
            f"{file}: measured on another bundle: {regime.bundle!r} (manifest"
            f" {regime.manifest_sha256[:12]}), not on {bundle.manifest.name!r} (manifest"
            f" {bundle.manifest_sha256[:12]}) in {bundle.path}. A bundle that was built again"
            " is another one; measure it with trtbench."
        )
    _check_numbers(report.configurations, str(file))
    _check_numbers([] if report.switching is None else [report.switching], str(file))
    known = {entry.name for entry in bundle.manifest.configurations}
    strange = [entry.name for entry in report.configurations if entry.name not in known]
    if strange:
        raise ReportError(
            f"{file}: the bundle {bundle.manifest.name!r} has no configuration"
            f" {strange[0]!r}. The file was altered; measure again with trtbench."
        )
    return report


def _check_numbers(parts: Iterable[Any], where: str) -> None:
    """Refuses numbers that no device gave: arithmetic on them would overflow.

    The readers of the formats take any finite number; a page of a file that somebody made up
    is to end in an error.
    """
    for part in parts:
        for who, is_cost, value in _numbers(asdict(part), type(part).__name__.lower(), False):
            costs = is_cost and value != 0
            least, most = (_LEAST_COST, _MOST_COST) if costs else (0.0, _MOST)
            if not least <= abs(value) <= most:
                told = f"{value:g}" if isinstance(value, float) else f"{str(value)[:30]} ..."
                raise ReportError(
                    f"{where}: {who}: {told} is no number that was measured: expected"
                    f" {least:g} to {most:g}. The file was altered; make it anew."
                )


def _numbers(value: object, who: str, is_cost: bool) -> Iterator[tuple[str, bool, float]]:
    """Yields whose each number is, and whether it is of milliseconds or millijoules."""
    if isinstance(value, (int, float)):
        yield who, is_cost, value
    elif isinstance(value, dict):
        named = [value[key] for key in _NAMES if isinstance(value.get(key), str)]
        for key, inner in value.items():
            spent = is_cost or (key.endswith(_COSTS) and key != "spread_mj")
            yield from _numbers(inner, repr(named[0]) if named else who, spent)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _numbers(inner, who, is_cost)


def _ranks(manifest: Manifest) -> dict[str, int]:
    by_accuracy = ranked_by(manifest) == "accuracy"

    def key(entry: ConfigurationEntry) -> tuple[float, int]:
        macs = manifest.macs(entry)
        return (-entry.metrics["accuracy"] if by_accuracy else -macs, -macs)

    ordered = sorted(manifest.configurations, key=key)
    return {entry.name: rank for rank, entry in enumerate(ordered)}


def _with_unique_labels(found: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """Returns the measurements; where labels are equal the file's name, or a number, tells."""
    counts = Counter(one.label for one in found)
    made: dict[str, Measurement] = {}
    for one in found:
        label = one.label
        if counts[label] > 1:
            label = f"{one.conditions.get('file', '')}: {label}"
        names = itertools.chain([label], (f"{label} ({n})" for n in itertools.count(2)))
        unique = next(name for name in names if name not in made)
        made[unique] = replace(one, label=unique)
    return tuple(made.values())


def _link(graph: Path, page: Path) -> str:
    """Returns the address of a file as seen from the page; absolute from another drive."""
    try:
        relative = os.path.relpath(graph.resolve(), page.resolve().parent)
    except ValueError:
        return graph.resolve().as_uri()
    return quote(relative.replace(os.sep, "/"))

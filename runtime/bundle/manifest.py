"""The bundle's manifest as frozen dataclasses; what each key means is said in FORMAT.md, 3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, TypeAlias

from ..errors import FormatError, choices_text
from .certificate import Certificate  # noqa: TC001  (a document's field)
from .constraints import (
    AtLeast,
    AtMost,
    Count,
    Distinct,
    NotEmpty,
    Positive,
    RelativePath,
    Sha256,
    Text,
)
from .contained import check_beside
from .gates import by_unit, check_gates
from .prologue import PrologueEntry  # noqa: TC001  (a document's field)
from .route import Stage, check_route, upto_ends
from .routed import Routed  # noqa: TC001  (a document's field)
from .sizes import UNKNOWN, names_in
from .solved import SolvedPolicy  # noqa: TC001  (a document's field)
from .tensors import Dimension, TensorSpec, batch_in

EngineForm: TypeAlias = Literal["each", "one", "auto"]
"""An engine for each graph, one for all, or the better of both."""
_NOT_PORTABLE = ("engines/", "measured/")
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its path relative to the manifest's folder, its size and its SHA-256."""

    path: Annotated[str, RelativePath()]
    size_bytes: int
    sha256: Annotated[str, Sha256()]


Files = Annotated[tuple[FileEntry, ...], Distinct("path")]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one distinct tensor lies in the weight store."""

    sha256: Annotated[str, Sha256()]
    offset_bytes: int
    size_bytes: Count


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the bundle comes from.

    ``data_sketches`` are of the data that something was chosen by: by what was chosen.
    """

    created_utc: str
    precision: str
    versions: Mapping[str, str]
    data_sketches: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What ``skipc finish`` does on the device unless it is told otherwise."""

    target: str
    profile: Annotated[Text, RelativePath()] = ""
    workspace_bytes: Count | None = None
    optimization_level: int | None = None
    engines: EngineForm | None = None


@dataclass(frozen=True, slots=True)
class OptionEntry:
    """One of the things that a choice on an axis may take, e.g. a unit that may be skipped."""

    name: str
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class AxisEntry:
    """What may be decided about a network in one way, in network order."""

    key: str
    options: Annotated[tuple[OptionEntry, ...], Distinct("name")]


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """A checkpoint's network: its name, empty where there is one, its origin and its axes."""

    name: Text
    checkpoint: str
    checkpoint_sha256: str
    model: str
    norm: str
    axes: Annotated[tuple[AxisEntry, ...], Distinct("key")]

    def options(self, axis: str) -> tuple[OptionEntry, ...]:
        """Returns the options of an axis; none where the network does not have it."""
        return next((entry.options for entry in self.axes if entry.key == axis), ())


@dataclass(frozen=True, slots=True)
class Verification:
    """How far a graph's outputs are from the reference's."""

    reference: str
    inputs: Count
    max_abs_error: float
    relative_error: float
    tolerance: float
    ranges: Mapping[str, Positive]


@dataclass(frozen=True, slots=True)
class GraphEntry:
    """What a target makes one engine of: an ONNX file, or a piece of one.

    ``gates`` is what an input may leave out, in the order of the graph's ``DECISIONS``: units,
    each with the parts of its channels from the second on behind it. ``gate_parts`` tells by
    unit how many of them are its own; none where each is a unit.
    """

    name: Annotated[str, RelativePath()]
    network: Text
    file: str
    inputs: Annotated[tuple[TensorSpec, ...], NotEmpty(), Distinct("name")]
    outputs: Annotated[tuple[TensorSpec, ...], NotEmpty(), Distinct("name")]
    macs: int
    parameters: int
    weights_bytes: int
    own_bytes: int
    verification: Verification
    gates: Annotated[tuple[str, ...], Distinct()] = ()
    gate_parts: tuple[Count, ...] = ()

    @property
    def gated_units(self) -> tuple[tuple[str, ...], ...]:
        """By unit that gates decide about, what of ``gates`` is its own."""
        return by_unit(self.gates, self.gate_parts)


@dataclass(frozen=True, slots=True)
class ChoiceEntry:
    """What a configuration takes on one axis."""

    axis: str
    taken: Annotated[tuple[str, ...], Distinct()]
    text: str


@dataclass(frozen=True, slots=True)
class PartEntry:
    """One network of a configuration, with the choices made about it."""

    network: Text
    choices: Annotated[tuple[ChoiceEntry, ...], Distinct("axis")]

    def taken(self, axis: str) -> tuple[str, ...]:
        """Returns the options that it takes on an axis."""
        return tuple(n for choice in self.choices if choice.axis == axis for n in choice.taken)


@dataclass(frozen=True, slots=True)
class ConfigurationEntry:
    """One configuration: what was chosen, and how it runs."""

    name: str
    parts: Annotated[tuple[PartEntry, ...], NotEmpty()]
    route: Annotated[tuple[Stage, ...], NotEmpty()]
    golden: str
    stops: tuple[Annotated[float, AtLeast(0), AtMost(1)], ...]
    metrics: Mapping[str, float]
    certificate: Certificate | None = None
    solved: SolvedPolicy | None = None
    routed: Routed | None = None

    @property
    def only_graph(self) -> str | None:
        """The graph that runs it alone, by the family's names; None for any other route."""
        first, *more = self.route
        return first.graph if first.is_plain and not more else None

    def taken(self, axis: str) -> tuple[str, ...]:
        """Returns the options that it takes on an axis, over all parts."""
        return tuple(name for part in self.parts for name in part.taken(axis))

    def text(self, axis: str = "") -> str:
        """Returns its choices in words, of one axis or of all; empty where it makes none.

        Of several networks those of each, in order; of a router what it chooses from.
        """
        if self.routed is not None:
            return "by input: " + " | ".join(self.routed.ways) if not axis else ""
        parts = [
            ", ".join(choice.text for choice in part.choices if axis in ("", choice.axis))
            for part in self.parts
        ]
        return " > ".join(text or "-" for text in parts) if any(parts) else ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A family bundle's table of contents."""

    FORMAT: ClassVar[str] = "skipc.bundle/3"
    AGAIN: ClassVar[str] = "build the bundle again with `skipc build`"

    name: str
    provenance: Provenance
    recipe: Recipe
    inputs: Annotated[tuple[TensorSpec, ...], NotEmpty(), Distinct("name")]
    outputs: Annotated[tuple[TensorSpec, ...], NotEmpty(), Distinct("name")]
    dimensions: Annotated[tuple[Dimension, ...], Distinct("name")]
    networks: Annotated[tuple[NetworkEntry, ...], NotEmpty(), Distinct("name")]
    graphs: Annotated[tuple[GraphEntry, ...], NotEmpty(), Distinct("name")]
    configurations: Annotated[tuple[ConfigurationEntry, ...], NotEmpty(), Distinct("name")]
    weights_file: str
    weights: Annotated[tuple[StoredTensor, ...], Distinct("sha256")]
    golden_inputs: str
    files: Files
    prologue: PrologueEntry | None = None

    @property
    def batch(self) -> Dimension | None:
        """The batch; None where that is fixed."""
        return batch_in(self.dimensions)

    @property
    def axes(self) -> tuple[str, ...]:
        """The keys of all networks' axes, each once."""
        return tuple(dict.fromkeys(axis.key for one in self.networks for axis in one.axes))

    def options(self, axis: str) -> tuple[OptionEntry, ...]:
        """Returns an axis' options in all networks."""
        return tuple(option for one in self.networks for option in one.options(axis))

    def graph(self, name: str) -> GraphEntry:
        """Returns the graph ``name``, which is known to be there."""
        return next(graph for graph in self.graphs if graph.name == name)

    def configuration(self, name: str) -> ConfigurationEntry:
        """Returns the configuration ``name``, which is known to be there."""
        return next(entry for entry in self.configurations if entry.name == name)

    def graphs_of(self, entry: ConfigurationEntry) -> tuple[GraphEntry, ...]:
        """Returns the graphs that a configuration runs, each once, in the route's order."""
        return tuple(self.graph(name) for name in dict.fromkeys(s.graph for s in entry.route))

    def macs(self, entry: ConfigurationEntry) -> int:
        """Returns the operations of one inference on a route's longest way, batch 1."""
        each = [self.graph(stage.graph).macs for stage in entry.route]
        return int(max(upto_ends(entry.route, each)))

    def verification(self, entry: ConfigurationEntry) -> Verification:
        """Returns the comparison that came out worst among a configuration's graphs."""
        checks = (graph.verification for graph in self.graphs_of(entry))
        return max(checks, key=lambda check: check.relative_error)

    def ranges(self, entry: ConfigurationEntry) -> dict[str, float]:
        """Returns what errors of each output are a fraction of, whichever stage answers."""
        found: dict[str, float] = {}
        for stage in entry.route:
            own = self.graph(stage.graph).verification.ranges
            for spec in self.outputs:
                answer = own.get(stage.answers.get(spec.name, spec.name), 0.0)
                found[spec.name] = max(found.get(spec.name, 0.0), answer)
        return found

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where what one field says contradicts another."""
        self._check_dimensions(where)
        self._check_graphs(where)
        self._check_configurations(where)
        self._check_files(where)
        self._check_weights(where)

    def _check_dimensions(self, where: str) -> None:
        known = {dimension.name for dimension in self.dimensions}
        ends = [self.inputs, self.outputs]
        ends += [each for graph in self.graphs for each in (graph.inputs, graph.outputs)]
        named = _sizes_in(self.inputs)
        for name in sorted(named - known):
            raise FormatError(f"{where}: a shape names {name!r}, which is no dimension.")
        for name in sorted(known - named):
            raise FormatError(f"{where}: no input has the dimension {name!r}.")
        for size in sorted(set().union(*map(_sizes_in, ends)) - {UNKNOWN}):
            if not known.issuperset(names_in(size) or {""}):
                text = f"{size[:80]!r}, which is no dimension, nor does it follow from some."
                raise FormatError(f"{where}: a shape names {text}")

    def _check_graphs(self, where: str) -> None:
        networks = {network.name for network in self.networks}
        pieces: dict[object, str] = {}
        for graph in self.graphs:
            place = f"{where}: graph {graph.name!r}"
            if graph.network not in networks:
                raise _unknown(place, "network", graph.network, networks)
            if "/" in graph.name:
                raise FormatError(f"{place}: a file cannot be named so, as its engine is.")
            begins = tuple(spec.name for spec in graph.inputs)
            ends = tuple(spec.name for spec in graph.outputs)
            same = pieces.setdefault((graph.file, begins, ends), graph.name)
            if same != graph.name:
                raise FormatError(
                    f"{place}: is {same!r} once more: both are the same piece of"
                    f" {graph.file!r}."
                )
            ranges = graph.verification.ranges
            if not set(ranges) <= set(ends):
                raise FormatError(
                    f"{place}: 'ranges' has {sorted(ranges)}, expected its outputs:"
                    f" {sorted(ends)}."
                )
            check_gates(graph.gates, graph.gate_parts, graph.outputs, place)

    def _check_configurations(self, where: str) -> None:
        graphs = {graph.name: graph for graph in self.graphs}
        run: set[str] = set()
        for entry in self.configurations:
            place = f"{where}: configuration {entry.name!r}"
            self._check_choices(entry, place)
            check_route(entry.route, graphs, self, place)
            self._check_ranges(entry, graphs, place)
            run |= {stage.graph for stage in entry.route}
            if len(entry.stops) != len(entry.route):
                raise FormatError(
                    f"{place}: 'stops' has {len(entry.stops)} entries, expected one for each"
                    f" of the {len(entry.route)} stages of its route."
                )
            if abs(sum(entry.stops) - 1) > _ROUNDING:
                raise FormatError(
                    f"{place}: 'stops' sums up to {sum(entry.stops):g}, expected 1: every row"
                    " stops somewhere."
                )
            if entry.certificate is not None:
                entry.certificate.check_stages(len(entry.route), place)
            if entry.solved is not None and len(entry.solved.exits) != len(entry.route):
                raise FormatError(
                    f"{place}: 'solved' is of {len(entry.solved.exits)} exits, expected one"
                    f" for each of the {len(entry.route)} stages of its route."
                )
            if entry.routed is not None:
                self._check_routed(entry, entry.routed, place)
        idle = [name for name in graphs if name not in run]
        if idle:
            raise FormatError(f"{where}: graph {idle[0]!r}: no configuration runs it.")

    def _check_routed(self, entry: ConfigurationEntry, routed: Routed, place: str) -> None:
        test = entry.route[0].test
        stages = test.stages if test is not None else ()
        routed.check_stages(len(entry.route), len(stages), place)
        names = [one.name for one in self.configurations if one.routed is None]
        for name in routed.ways:
            if name not in names:
                raise _unknown(f"{place}: its router", "configuration", name, names)

    def _check_ranges(
        self, entry: ConfigurationEntry, graphs: Mapping[str, GraphEntry], place: str
    ) -> None:
        """Checks that errors of each answer can be told as a fraction of something."""
        for number, stage in enumerate(entry.route):
            ranges = graphs[stage.graph].verification.ranges
            for spec in self.outputs if stage.answers_at(number) else ():
                answer = stage.answers.get(spec.name, spec.name)
                if answer not in ranges:
                    raise FormatError(
                        f"{place}: stage {number} answers {answer!r}, but its graph's"
                        f" 'ranges' has {sorted(ranges)}."
                    )

    def _check_choices(self, entry: ConfigurationEntry, where: str) -> None:
        networks = {network.name: network for network in self.networks}
        for number, part in enumerate(entry.parts):
            place = f"{where}: parts[{number}]"
            if part.network not in networks:
                raise _unknown(place, "network", part.network, networks)
            axes = [axis.key for axis in networks[part.network].axes]
            for choice in part.choices:
                if choice.axis not in axes:
                    raise _unknown(place, "axis", choice.axis, axes)
                options = {one.name for one in networks[part.network].options(choice.axis)}
                for name in choice.taken:
                    if name not in options:
                        what = f"option of the axis {choice.axis!r}"
                        raise _unknown(place, what, name, options)

    def _check_files(self, where: str) -> None:
        used = [self.weights_file, self.golden_inputs]
        used += [one.file for one in self.graphs] + [one.golden for one in self.configurations]
        used += [self.prologue.golden] if self.prologue and self.prologue.golden else []
        check_listed(used, self.files, where)
        check_beside(self.weights_file, [graph.file for graph in self.graphs], where)
        listed = {file.path for file in self.files}
        foreign = [path for path in listed if path.startswith(_NOT_PORTABLE)]
        foreign += {"manifest.json"} & listed
        if foreign:
            raise FormatError(
                f"{where}: {min(foreign)!r} may not be listed in 'files': the manifest cannot"
                " hold its own hash, engines are listed in engines/<target>/engines.json, and"
                " measured tables come and go."
            )

    def _check_weights(self, where: str) -> None:
        end_bytes = 0
        for index, tensor in enumerate(self.weights):
            if tensor.offset_bytes < end_bytes:
                raise FormatError(
                    f"{where}: weights[{index}] starts at {tensor.offset_bytes} bytes and"
                    f" overlaps the tensor before it, which ends at {end_bytes}."
                )
            end_bytes = tensor.offset_bytes + tensor.size_bytes
        store = next(file for file in self.files if file.path == self.weights_file)
        if end_bytes > store.size_bytes:
            raise FormatError(
                f"{where}: the weights end at {end_bytes} bytes, but {store.path!r} has"
                f" {store.size_bytes}."
            )


def check_listed(used: Iterable[str], files: Iterable[FileEntry], where: str) -> None:
    """Raises ``FormatError`` where a document uses a file that is not in its list of files."""
    listed = {file.path for file in files}
    missing = [path for path in used if path not in listed]
    if missing:
        raise FormatError(f"{where}: {missing[0]!r} is used but not listed in 'files'.")


def _sizes_in(tensors: Iterable[TensorSpec]) -> set[str]:
    """Returns the sizes that are not fixed."""
    return {size for tensor in tensors for size in tensor.shape if isinstance(size, str)}


def _unknown(where: str, what: str, name: str, known: Iterable[str]) -> FormatError:
    return FormatError(
        f"{where}: {name[:80]!r} is no {what} of this bundle. {choices_text(name, known)}"
    )

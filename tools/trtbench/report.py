"""What a benchmark found: the document ``skipc.trtbench/2``, and what the tables print.

docs/trtbench.md says what its keys mean: they are these attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated, ClassVar

from skipc.runtime.backends.phases import LoadTimes, Wait, Way
from skipc.runtime.bundle.constraints import (
    AtLeast,
    AtMost,
    Count,
    Distinct,
    NotEmpty,
    Positive,
    Sha256,
    Text,
)
from skipc.runtime.bundle.device import Conditions
from skipc.runtime.bundle.records import read, read_json
from skipc.runtime.errors import FormatError, shown
from skipc.tools.trtbench.latency import Latency, NotNegative, RatioInterval, Times
from skipc.tools.trtbench.loop import Stop

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ONLY_COMPUTING = {
    "onnxruntime-cpu": "there are no transfers or graphs: a call is computation",
    "null": "nothing is run: times are scripted",
}
"""Backends whose calls hold nothing but computation, and what is said of them."""

_WITH_TRANSFERS = {
    "onnxruntime-cuda": "transfers included; one stream; a captured CUDA graph if possible"
}

_WAITS = {
    Wait.DRIVER: "the host waits as the driver decides",
    Wait.SPIN: "the host waits without pause (spin)",
    Wait.BLOCK: "the host waits asleep (blocking)",
}


@dataclass(frozen=True, slots=True)
class MeterInfo:
    """The meter that was read: what it covers, and whether it estimates without measuring."""

    name: str
    covers: str
    estimated: bool


@dataclass(frozen=True, slots=True)
class Regime:
    """Under what conditions was measured: numbers of two regimes are not comparable.

    Attributes:
        power_mode: What capped the clocks; empty where the system does not tell.
        before: What the device was like before the first engine was loaded.
        inputs: Shape and type by input, e.g. ``1x3x224x224 float32``.
        cases: How many inputs were taken in turn.
        streams: Calls of an engine at the same time.
        average_runs: How many calls in a row were averaged.
        way: How calls were made; None where the backend leaves no choice.
    """

    created_utc: str
    bundle: str
    manifest_sha256: Annotated[str, Sha256()]
    backend: str
    target: str
    threads: Count
    device: str
    power_mode: Text
    before: Conditions
    after: Conditions
    versions: Mapping[str, str]
    inputs: Mapping[str, str]
    cases: Count
    stop: Stop
    streams: Count
    average_runs: Count
    warm_up_rounds: int
    meter: MeterInfo | None
    way: Way | None

    @property
    def call_text(self) -> str:
        """What a call includes, and how it is made."""
        if self.way is None:
            other = "what a call includes is the backend's affair"
            return {**ONLY_COMPUTING, **_WITH_TRANSFERS}.get(self.backend, other)
        moved, made = "transfers included", "enqueued without a CUDA graph"
        if not self.way.transfers:
            moved = "no transfers, all arrays stay on the GPU"
        elif self.way.graph:  # none is captured over a caller's arrays
            made = "one captured CUDA graph of copies and engine"
        return f"{moved}; {made}; one stream; {_WAITS[self.way.wait]}"

    @property
    def streams_text(self) -> str:
        """How many calls were made at a time; empty for one."""
        return f"{self.streams} calls at a time, begun together" if self.streams > 1 else ""

    @property
    def phases_text(self) -> str:
        """How the calls are made that are taken apart; empty where the backend cannot."""
        if self.way is None:
            return ""
        parts = "copy in, computation, copy out" if self.way.transfers else "the computation"
        graph, none = "launched as a CUDA graph of its own", "enqueued without a graph"
        how = graph if self.way.graph else none
        return f"further calls, with CUDA events around {parts}; computation {how}"


@dataclass(frozen=True, slots=True)
class Share:
    """Memory that no other configuration uses, and memory that others use, too."""

    own_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceShare(Share):
    """Device memory as the bundle lists it: what engines take, and the workspace they share.

    ``taken_bytes`` is by how much free memory fell meanwhile, whoever took it. On a CPU all
    is 0.
    """

    taken_bytes: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one configuration, by place.

    Attributes:
        disk: Weights; a plan that holds its own counts as a whole.
        host: What this process grew by: ``own_bytes`` by loading and calling it after those
            listed before it, ``shared_bytes`` by opening the backend. None if not told.
    """

    disk: Share
    host: Share | None
    device: DeviceShare


@dataclass(frozen=True, slots=True)
class PhaseSummary:
    """The phases of one configuration's calls.

    Attributes:
        graph: Whether the computation of every one was a CUDA graph.
        latency: The device's phases together, which is what ``trtexec`` calls latency.
        enqueue: What enqueueing the computation took the host.
        h2d: Copying the inputs in, as ``d2h`` the outputs out; None without transfers.
    """

    runs: Count
    graph: bool
    latency: Times
    enqueue: Times
    h2d: Times | None
    compute: Times
    d2h: Times | None


@dataclass(frozen=True, slots=True)
class Energy:
    """Millijoules per call in each window; their mean and, of several, standard deviation."""

    mean_mj: Positive
    spread_mj: NotNegative | None
    windows_mj: Annotated[tuple[Positive, ...], NotEmpty()]

    @classmethod
    def of(cls, windows_mj: Sequence[float]) -> Energy:
        """Returns the energy that these windows come to."""
        spread_mj = stdev(windows_mj) if len(windows_mj) > 1 else None
        return cls(fmean(windows_mj), spread_mj, tuple(windows_mj))


@dataclass(frozen=True, slots=True)
class PlainCalls:
    """What was found of a plain session of a configuration's portable graph.

    Attributes:
        relative_error: How far its outputs are from the engine's, over their range.
        over_ours: Its latency over the engine's; None, as ``latency``, if only loading was
            timed.
    """

    load_ms: Positive
    first_call_ms: Positive
    relative_error: NotNegative
    latency: Latency | None = None
    over_ours: RatioInterval | None = None


@dataclass(frozen=True, slots=True)
class StageLatency:
    """One stage of a route, measured on what it is fed there.

    Attributes:
        answered: The share of inputs that the bundle says are answered here.
        upto_ms: The medians of the stages up to its end together, by the longest way to it.
    """

    graph: str
    answered: Annotated[float, AtLeast(0), AtMost(1)]
    latency: Latency
    upto_ms: Positive


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about some of the inputs.

    Attributes:
        group: Which: all, those answered with a class, or a quarter of them by how sure the
            answer was.
        inputs: How many.
        ran: By unit that gates decided about the share of them that it ran for; of a router by
            graph the share that it answered.
    """

    group: str
    inputs: Count
    ran: Mapping[str, Annotated[float, AtLeast(0), AtMost(1)]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found of one configuration; None is what was not asked for, or not to be had.

    Attributes:
        graphs: The graphs that its route runs.
        accuracy: 0 to 1.
        load_ms: What loading its engines took, but for those that were loaded before; the
            first one also loads what all share.
        load_parts: What reading and refitting took of it.
        over_reference: Its latency over the reference's; None for the reference.
        phases: Calls taken apart.
        energy: Its energy per call.
        plain: A plain session of the same, in the same rounds.
        stages: The stages of a route that has several.
        decided: What gates or a router decided about the inputs.
    """

    name: str
    graphs: Annotated[tuple[str, ...], NotEmpty()]
    accuracy: float | None
    memory: Memory
    load_ms: Positive
    load_parts: LoadTimes | None
    first_call_ms: Positive
    latency: Latency | None = None
    over_reference: RatioInterval | None = None
    phases: PhaseSummary | None = None
    energy: Energy | None = None
    plain: PlainCalls | None = None
    stages: tuple[StageLatency, ...] = ()
    decided: tuple[Decided, ...] = ()

    @property
    def expected_ms(self) -> float:
        """What an input takes where as many are answered at each stage as the bundle says."""
        return sum(stage.answered * stage.upto_ms for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Switching:
    """The cost of every switch, each made so often.

    In the loop every call follows one of another configuration: its medians would not do.

    Attributes:
        steady_ms: Per configuration, the median of its calls that follow one of its own.
        first_ms: Per configuration A and other B, the median of B's calls that follow A's.
    """

    repeats: Count
    steady_ms: Mapping[str, Positive]
    first_ms: Mapping[str, Mapping[str, Positive]]

    def ratios(self) -> dict[str, dict[str, float]]:
        """Returns, for A and B, B's first call after A over B's steady median."""
        steady_ms, rows = self.steady_ms, self.first_ms.items()
        return {a: {b: ms / steady_ms[b] for b, ms in row.items()} for a, row in rows}

    def worst(self) -> tuple[str, str, float]:
        """Returns the pair that costs most, relatively: A, B and the ratio."""
        pairs = [(a, b, ratio) for a, row in self.ratios().items() for b, ratio in row.items()]
        return max(pairs, key=lambda pair: pair[2])


@dataclass(frozen=True, slots=True)
class Report:
    """A benchmark of a family.

    Attributes:
        reference: The most accurate of the configurations, by the runtime's ranking.
        switching: None for a single configuration, or if only loading was timed.
        plain_not_run: Why the plain sessions could not be run; else empty.
    """

    FORMAT: ClassVar[str] = "skipc.trtbench/2"

    regime: Regime
    reference: str
    configurations: Annotated[tuple[Measured, ...], Distinct(by="name")]
    switching: Switching | None
    plain_not_run: Text

    @property
    def timed(self) -> dict[str, Latency]:
        """The latencies by configuration; empty if only loading was timed."""
        return {e.name: e.latency for e in self.configurations if e.latency is not None}

    @property
    def plain(self) -> dict[str, PlainCalls]:
        """The plain sessions by configuration; empty where there were none."""
        return {e.name: e.plain for e in self.configurations if e.plain is not None}

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where two values contradict one another."""
        names = [entry.name for entry in self.configurations]
        if self.reference not in names:
            raise FormatError(
                f"{where}: 'reference' is {shown(self.reference)}, which is none of"
                f" {shown(names)}."
            )
        latencies = [entry.latency for entry in self.configurations]
        latencies += [plain.latency for plain in self.plain.values()]
        if len({len(one.batch_medians_ms) if one else 0 for one in latencies}) > 1:
            raise FormatError(
                f"{where}: the latencies differ in the number of 'batch_medians_ms', but all"
                " were measured in the same rounds."
            )
        if self.switching is None:
            return
        steady_ms, first_ms = self.switching.steady_ms, self.switching.first_ms
        pairs = {(name, other) for name, row in first_ms.items() for other in row}
        if {*steady_ms} != {*names} or pairs != {*permutations(names, 2)}:
            raise FormatError(
                f"{where}: switching: 'steady_ms' and 'first_ms' are not of the configurations"
                f" {shown(names)} and of each pair of them."
            )


def read_report(path: Path) -> Report:
    """Returns the report that ``--json`` wrote to ``path``.

    Raises:
        FormatError: It cannot be read, or is not as docs/trtbench.md says.
    """
    return read(Report, read_json(path), str(path))

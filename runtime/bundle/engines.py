"""One target's engines, ``engines/<target>/engines.json``: for the keys see FORMAT.md, 6."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from ..errors import FormatError
from .constraints import Count, Distinct, NotEmpty, Positive, Sha256, Text
from .contained import check_beside
from .gates import CAP, THRESHOLDS
from .manifest import Files, check_listed
from .records import written

_NO_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class Latency:
    """Measured latency of one engine, by its threads, on the host that built the engines."""

    threads: Count
    p50_ms: Positive
    p95_ms: Positive
    p99_ms: Positive
    runs: Count


@dataclass(frozen=True, slots=True)
class SizedLatency:
    """Median latency of one engine at sizes that are not all typical."""

    threads: Count
    sizes: Mapping[str, Count]
    p50_ms: Positive
    runs: Count


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """One graph's engine.

    ``piece_file`` is the ONNX file of a graph that is a piece of one, by which its engine is
    given weights; empty where the engine holds them, or takes them by the graph's own file.
    ``settings`` are inputs that make it run this graph, where it can run several.
    """

    graph: str
    file: str
    weights_bytes: int
    own_bytes: int
    device_bytes: int
    workspace_bytes: int
    latency: tuple[Latency, ...]
    piece_file: Text = ""
    settings: Mapping[str, tuple[bool | float, ...]] = field(default_factory=dict)
    by_size: tuple[SizedLatency, ...] = ()


@dataclass(frozen=True, slots=True)
class Switches:
    """What one engine for all graphs switches.

    Attributes:
        graph: The graph that it runs with everything switched on.
        input: Its input for that: a boolean for each unit, true where it runs.
        units: The units' names, in that order.
        statistics: Its input for what norms are adapted to, a whole number; empty where they
            are the same for all graphs.
    """

    graph: str
    input: str
    units: Annotated[tuple[str, ...], NotEmpty(), Distinct()]
    statistics: Text = ""


@dataclass(frozen=True, slots=True)
class EngineSet:
    """All engines of one target, in the manifest's order of graphs once they are read.

    ``sha256`` is the hash of ``engines.json`` itself, with zeros in place of these digits;
    zeros where it was not written yet.
    """

    FORMAT: ClassVar[str] = "skipc.engines/2"
    AGAIN: ClassVar[str] = "build the engines again with `skipc finish`"

    target: str
    backend: str
    host: Mapping[str, str]
    bundle_sha256: Annotated[str, Sha256()]
    engines: Annotated[tuple[EngineEntry, ...], Distinct("graph")]
    packed_file: Text
    files: Files
    switches: Switches | None = None
    chosen: Text = ""
    sha256: Annotated[str, Sha256()] = _NO_HASH

    def check(self, where: str) -> None:
        """Raises ``FormatError`` where a file is not listed, or not beside the store."""
        used = [entry.file for entry in self.engines]
        others = [self.packed_file, *(entry.piece_file for entry in self.engines)]
        check_listed([*used, *filter(None, others)], self.files, where)
        if self.packed_file:
            check_beside(self.packed_file, used, where)
        for entry in self.engines:
            self._check_settings(entry, f"{where}: the engine of graph {entry.graph!r}")

    def _check_settings(self, entry: EngineEntry, here: str) -> None:
        """Checks that an engine is set as one that runs several graphs is to be."""
        switches, set_ = self.switches, [*entry.settings]
        if switches is None:
            if set_ and sorted(set_) != [CAP, THRESHOLDS]:
                expected = f"nothing, or {CAP!r} and {THRESHOLDS!r} of a graph with gates"
                raise FormatError(f"{here}: sets {set_}, expected {expected}.")
            return
        expected_inputs = [switches.input, *filter(None, [switches.statistics])]
        if set_ != expected_inputs:
            raise FormatError(f"{here}: sets {set_}, expected {expected_inputs}.")
        number = entry.settings.get(switches.statistics, (0,))
        if len(number) != 1 or number[0] not in range(len(self.engines)):
            raise FormatError(
                f"{here}: {switches.statistics!r} is {[*number]}, expected one whole number"
                f" below {len(self.engines)}."
            )
        mask = entry.settings[switches.input]
        booleans = [each for each in mask if isinstance(each, bool)]
        if not len(booleans) == len(mask) == len(switches.units):
            raise FormatError(
                f"{here}: {switches.input!r} is {[*mask]}, expected {len(switches.units)}"
                " booleans: one for each unit."
            )
        if entry.file != self.engine(switches.graph).file:
            raise FormatError(
                f"{here}: is the file {entry.file!r}, expected that of {switches.graph!r}:"
                " one engine runs all graphs."
            )
        if entry.graph == switches.graph and not all(mask):
            raise FormatError(f"{here}: {switches.input!r} is {[*mask]}, expected all true.")

    def engine(self, graph: str) -> EngineEntry:
        """Returns the engine of ``graph``, which the bundle is known to have."""
        return next(entry for entry in self.engines if entry.graph == graph)

    def encoded(self) -> bytes:
        """Returns the bytes of ``engines.json``."""
        return json.dumps(written(self), indent=1).encode() + b"\n"

    def sealed(self) -> EngineSet:
        """Returns these engines with the hash of their ``engines.json`` in them."""
        blank = replace(self, sha256=_NO_HASH).encoded()
        return replace(self, sha256=hashlib.sha256(blank).hexdigest())

    def is_whole(self, data: bytes) -> bool:
        """Tells whether the bytes that this was read from are those that were written."""
        blank = data.replace(self.sha256.encode(), _NO_HASH.encode())
        return hashlib.sha256(blank).hexdigest() == self.sha256

    def files_sha256(self) -> str:
        """Returns one hash of all files, by which measured tables name their engines."""
        lines = sorted(f"{file.sha256} {file.path}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

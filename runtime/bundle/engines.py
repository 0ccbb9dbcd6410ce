"""One target's engines: what FORMAT.md calls ``engines/<target>/engines.json``."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..errors import FormatError
from .manifest import FileEntry, read_files
from .records import Record, check_format

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "skipc.engines/1"


@dataclass(frozen=True, slots=True)
class Latency:
    """Measured latency of one configuration on the host that built the engines.

    Attributes:
        threads: Threads the engine ran with.
        p50_ms: Median.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        runs: How many calls were measured.
    """

    threads: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    runs: int


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """One configuration's engine.

    Attributes:
        configuration: The configuration's name.
        file: The engine's file, relative to the target's folder.
        weights_bytes: Bytes of the shared weights that the engine refers to: of the packed
            store, or of the bundle's weight store where the target has none. 0 where the
            engine's file holds its weights itself.
        own_bytes: Those of them that no other engine refers to.
        device_bytes: Device memory that the engine takes once loaded, shared with no other;
            0 on a CPU, or where it was built without the device.
        workspace_bytes: Scratch memory on the device that it needs while it runs, which
            engines that take turns share; 0 likewise.
        latency: One entry per thread count measured; may be empty.
    """

    configuration: str
    file: str
    weights_bytes: int
    own_bytes: int
    device_bytes: int
    workspace_bytes: int
    latency: tuple[Latency, ...]


@dataclass(frozen=True, slots=True)
class EngineSet:
    """All engines of one target.

    Attributes:
        target: The profile's name.
        backend: The name of the runtime backend that runs them.
        host: What the engines depend on (library version, CPU features …), by name; they
            run only where the host's own values are equal.
        bundle_sha256: Hash of the ``manifest.json`` that the engines were built from.
        engines: One entry per configuration, in the manifest's order.
        packed_file: The packed store, relative to the target's folder; empty if none.
        files: Every file of the target's folder except ``engines.json``.
    """

    target: str
    backend: str
    host: Mapping[str, str]
    bundle_sha256: str
    engines: tuple[EngineEntry, ...]
    packed_file: str
    files: tuple[FileEntry, ...]

    def engine(self, configuration: str) -> EngineEntry:
        """Returns the entry of ``configuration``, which the bundle is known to have."""
        return next(e for e in self.engines if e.configuration == configuration)

    def files_sha256(self) -> str:
        """Returns one hash of all files, by which measured tables name their engines."""
        lines = sorted(f"{file.sha256} {file.path}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def to_json(self) -> dict[str, object]:
        """Returns the JSON document, format line first."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: object, where: str) -> EngineSet:
        """Reads a JSON document.

        Raises:
            VersionError: The document's format is not ``skipc.engines/1``.
            FormatError: Anything else is not as FORMAT.md says.
        """
        check_format(value, FORMAT, where)
        doc = Record(value, where, ("format", *cls.__dataclass_fields__))
        result = cls(
            target=doc.text("target"),
            backend=doc.text("backend"),
            host=doc.strings("host"),
            bundle_sha256=doc.sha256("bundle_sha256"),
            engines=tuple(
                _engine(r) for r in doc.records("engines", *EngineEntry.__dataclass_fields__)
            ),
            packed_file=doc.optional_text("packed_file"),
            files=read_files(doc),
        )
        listed = {file.path for file in result.files}
        needed = [entry.file for entry in result.engines]
        needed += [result.packed_file] if result.packed_file else []
        missing = [path for path in needed if path not in listed]
        if missing:
            raise FormatError(f"{where}: {missing[0]!r} is used but not listed in 'files'.")
        return result


def _engine(record: Record) -> EngineEntry:
    return EngineEntry(
        configuration=record.text("configuration"),
        file=record.text("file"),
        weights_bytes=record.integer("weights_bytes"),
        own_bytes=record.integer("own_bytes"),
        device_bytes=record.integer("device_bytes"),
        workspace_bytes=record.integer("workspace_bytes"),
        latency=tuple(
            Latency(
                r.integer("threads", 1),
                r.positive("p50_ms"),
                r.positive("p95_ms"),
                r.positive("p99_ms"),
                r.integer("runs", 1),
            )
            for r in record.records("latency", *Latency.__dataclass_fields__)
        ),
    )

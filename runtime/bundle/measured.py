"""Tables measured on one device: what FORMAT.md calls ``measured/<key>.json``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..errors import FormatError, IntegrityError
from .contained import inside, names_in, regular_file, status_of
from .device import Device
from .records import Record, check_format, parse_json, read_document

if TYPE_CHECKING:
    from .engines import EngineSet
    from .folder import Bundle

FORMAT = "skipc.measured/1"
FOLDER = "measured"
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class TableKey:
    """What a table holds for: any other value, and it says nothing.

    Attributes:
        bundle_sha256: Hash of the bundle's ``manifest.json``.
        target: Whose engines ran.
        engines_sha256: ``EngineSet.files_sha256`` of them.
        device: Where they ran.
        threads: Threads of a call.
    """

    bundle_sha256: str
    target: str
    engines_sha256: str
    device: Device
    threads: int

    def path(self) -> str:
        """Returns the table's place, relative to the bundle."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{FOLDER}/{hashlib.sha256(text.encode()).hexdigest()[:16]}{_SUFFIX}"


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one configuration.

    Attributes:
        configuration: Its name.
        p50_ms: Median latency.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        runs: How many calls were measured.
        energy_mj: Energy of a call; None where no meter measured it.
        energy_spread_mj: Its standard deviation; None where it is not known.
    """

    configuration: str
    p50_ms: float
    p95_ms: float
    p99_ms: float
    runs: int
    energy_mj: float | None
    energy_spread_mj: float | None


@dataclass(frozen=True, slots=True)
class MeasuredTable:
    """Latencies and energies of all configurations on one device.

    Attributes:
        key: What they hold for.
        created_utc: When they were measured: ISO 8601 date and time.
        versions: Versions of the libraries that ran, by name; for people.
        meter: Spec of the meter that the energies are from; empty without one.
        rows: One for each configuration, in the manifest's order.
    """

    key: TableKey
    created_utc: str
    versions: dict[str, str]
    meter: str
    rows: tuple[Row, ...]

    def row(self, configuration: str) -> Row:
        """Returns the row of ``configuration``, which the bundle is known to have."""
        return next(row for row in self.rows if row.configuration == configuration)

    def to_json(self) -> dict[str, object]:
        """Returns the JSON document, format line first."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: object, where: str) -> MeasuredTable:
        """Reads a JSON document.

        Raises:
            VersionError: The document's format is not ``skipc.measured/1``.
            FormatError: Anything else is not as FORMAT.md says.
        """
        check_format(value, FORMAT, where)
        doc = Record(value, where, ("format", *cls.__dataclass_fields__))
        key = doc.record("key", *TableKey.__dataclass_fields__)
        device = key.record("device", *Device.__dataclass_fields__)
        return cls(
            key=TableKey(
                bundle_sha256=key.sha256("bundle_sha256"),
                target=key.text("target"),
                engines_sha256=key.sha256("engines_sha256"),
                device=Device(device.text("name"), device.optional_text("power_mode")),
                threads=key.integer("threads", 1),
            ),
            created_utc=doc.text("created_utc"),
            versions=doc.strings("versions"),
            meter=doc.optional_text("meter"),
            rows=tuple(_row(r) for r in doc.records("rows", *Row.__dataclass_fields__)),
        )


def table_key(bundle: Bundle, engines: EngineSet, device: Device, threads: int) -> TableKey:
    """Returns what a table of these engines, on this device, holds for."""
    return TableKey(
        bundle.manifest_sha256, engines.target, engines.files_sha256(), device, threads
    )


def find_table(bundle: Bundle, key: TableKey) -> MeasuredTable | None:
    """Returns the bundle's table for ``key``, None if there is none.

    Raises:
        FormatError: It is not as FORMAT.md says.
        IntegrityError: It lies outside of the bundle, cannot be read, or holds for something
            else.
    """
    if status_of(inside(bundle.path, key.path())) is None:
        return None
    table = _read(bundle, key.path())
    if table.key != key:
        raise IntegrityError(
            f"{bundle.path / key.path()}: the table was measured under other conditions than"
            f" its name says. Remove it, or measure again with `trtbench {bundle.path}"
            " --update`."
        )
    return table


def all_tables(bundle: Bundle) -> tuple[MeasuredTable, ...]:
    """Returns the tables of a bundle, of whatever device, those of stale engines included.

    Raises:
        FormatError: One is not as FORMAT.md says.
        IntegrityError: One lies outside of the bundle, or the folder cannot be read.
    """
    folder = inside(bundle.path, FOLDER)
    if not folder.is_dir():
        return ()
    # A leading dot marks a file that is still being written.
    names = [
        name
        for name in names_in(folder)
        if name.endswith(_SUFFIX) and not name.startswith(".")
    ]
    return tuple(_read(bundle, f"{FOLDER}/{name}") for name in names)


def _read(bundle: Bundle, path: str) -> MeasuredTable:
    file = regular_file(bundle.path, path)
    table = MeasuredTable.from_json(parse_json(read_document(file), str(file)), str(file))
    found = [row.configuration for row in table.rows]
    known = [entry.name for entry in bundle.manifest.configurations]
    if found != known:
        raise FormatError(
            f"{file}: has rows for {found}, expected one for each configuration of the"
            f" bundle, in its order: {known}. Remove it, or measure again with"
            f" `trtbench {bundle.path} --update`."
        )
    return table


def _row(record: Record) -> Row:
    energy_mj = record.optional_number("energy_mj")
    return Row(
        configuration=record.text("configuration"),
        p50_ms=record.positive("p50_ms"),
        p95_ms=record.positive("p95_ms"),
        p99_ms=record.positive("p99_ms"),
        runs=record.integer("runs", 1),
        energy_mj=None if energy_mj is None else record.positive("energy_mj"),
        energy_spread_mj=record.optional_number("energy_spread_mj"),
    )

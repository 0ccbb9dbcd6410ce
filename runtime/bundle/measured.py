"""Tables measured on one device, ``measured/<key>.json``: for the keys see FORMAT.md, 7."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from ..errors import FormatError, IntegrityError
from .constraints import Count, Positive, Sha256, Text
from .contained import inside, names_in, regular_file, status_of
from .device import Device
from .records import read, read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .engines import EngineSet
    from .folder import Bundle

FOLDER = "measured"
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class TableKey:
    """What a table holds for: any other value, and it says nothing."""

    bundle_sha256: Annotated[str, Sha256()]
    target: str
    engines_sha256: Annotated[str, Sha256()]
    device: Device
    threads: Count

    def path(self) -> str:
        """Returns the table's place, relative to the bundle."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{FOLDER}/{hashlib.sha256(text.encode()).hexdigest()[:16]}{_SUFFIX}"


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one graph's engine."""

    graph: str
    p50_ms: Positive
    p95_ms: Positive
    p99_ms: Positive
    runs: Count
    energy_mj: Positive | None
    energy_spread_mj: float | None


@dataclass(frozen=True, slots=True)
class MeasuredMode:
    """The power mode that was set for a table, by its name, and what coming to it took.

    ``change_ms`` is by the mode before: until calls take as long as the table says.
    """

    name: str
    change_ms: Mapping[str, Positive]


@dataclass(frozen=True, slots=True)
class MeasuredTable:
    """Latencies and energies of all engines on one device, in the manifest's order."""

    FORMAT: ClassVar[str] = "skipc.measured/2"
    AGAIN: ClassVar[str] = "measure again with `trtbench BUNDLE --update`"

    key: TableKey
    created_utc: str
    versions: Mapping[str, str]
    meter: Text
    rows: tuple[Row, ...]
    mode: MeasuredMode | None = None

    def row(self, graph: str) -> Row:
        """Returns the row of ``graph``, which the bundle is known to have."""
        return next(row for row in self.rows if row.graph == graph)


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

    Raises what ``find_table`` does.
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


def tables_of_modes(
    bundle: Bundle, key: TableKey, names: Sequence[str]
) -> dict[str, MeasuredTable]:
    """Returns the newest table of each of some modes, by name; of no other than ``key``'s.

    The power mode that ``key`` holds is not looked at. A table holds while the device tells
    the power mode that is in the table's own key, which is known once its mode is in force.

    Raises what ``find_table`` does.
    """
    found: dict[str, MeasuredTable] = {}
    for table in sorted(all_tables(bundle), key=lambda table: table.created_utc):
        device = replace(table.key.device, power_mode=key.device.power_mode)
        if (
            table.mode
            and table.mode.name in names
            and replace(table.key, device=device) == key
        ):
            found[table.mode.name] = table
    return {name: found[name] for name in names if name in found}


def _read(bundle: Bundle, path: str) -> MeasuredTable:
    file = regular_file(bundle.path, path)
    table = read(MeasuredTable, read_json(file), str(file))
    found = [row.graph for row in table.rows]
    known = [graph.name for graph in bundle.manifest.graphs]
    if found != known:
        raise FormatError(
            f"{file}: has rows for {found}, expected one for each graph of the"
            f" bundle, in its order: {known}. Remove it, or measure again with"
            f" `trtbench {bundle.path} --update`."
        )
    return table

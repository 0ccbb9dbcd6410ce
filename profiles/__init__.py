"""Profiles: what is known of each kind of device, one TOML file each."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.runtime.errors import FormatError, SkipcError, choices_text
from skipc.runtime.records import Record

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LatencyTable", "Profile", "ProfileError", "load_profile", "profile_names"]

FORMAT = "skipc.profile/1"
_FOLDER = Path(__file__).parent
_PLANNED = ("cuda", "jetson-orin", "jetson-xavier", "tensorrt")


class ProfileError(SkipcError):
    """There is no such profile, or its file does not have the form of one."""


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """What one network takes on the device, for ``skipc select`` on another machine.

    Attributes:
        base_ms: Latency with every unit skipped.
        unit_ms: What each unit adds, by its name.
    """

    base_ms: float
    unit_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of device.

    Attributes:
        name: The target's name, e.g. ``cpu``.
        backend: The runtime backend that runs its engines.
        description: One line for ``skipc targets``.
        sources: Where each number of the profile comes from, by the number's name.
        latency: Latencies measured on the device, where the profile is made for one network.
    """

    name: str
    backend: str
    description: str
    sources: Mapping[str, str]
    latency: LatencyTable | None = None


def profile_names() -> tuple[str, ...]:
    """Returns the names of the profiles that come with skipc, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_profile(name_or_path: str) -> Profile:
    """Returns a profile that comes with skipc, or the one in a ``.toml`` file.

    Args:
        name_or_path: A name of ``profile_names()``, or a path that ends in ``.toml``.

    Raises:
        ProfileError: There is no such profile, or the file is not one.
    """
    if name_or_path.endswith(".toml"):
        return _read(Path(name_or_path))
    if name_or_path in profile_names():
        return _read(_FOLDER / f"{name_or_path}.toml")
    if name_or_path in _PLANNED or name_or_path.startswith("jetson"):
        raise ProfileError(
            f"the target {name_or_path!r} is not in this version of skipc."
            f" {choices_text(name_or_path, profile_names())}"
        )
    raise ProfileError(
        f"unknown target {name_or_path!r}. {choices_text(name_or_path, profile_names())}"
        " A profile of your own is given as a path that ends in '.toml'."
    )


def _latency(doc: Record) -> LatencyTable:
    record = doc.record("latency", "base_ms", "unit_ms")
    table = LatencyTable(record.positive("base_ms"), record.numbers("unit_ms"))
    for unit, added_ms in table.unit_ms.items():
        if added_ms < 0:
            raise FormatError(
                f"{record.where}: unit_ms: {unit!r} adds {added_ms:g} ms; at least 0 is"
                " expected."
            )
    return table


def _read(path: Path) -> Profile:
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        raise ProfileError(f"{path}: not a profile that can be read: {cause}.") from cause
    found = value.get("format")
    if found != FORMAT:
        raise ProfileError(f"{path}: 'format' must be {FORMAT!r}, found {found!r}.")
    try:
        doc = Record(value, str(path), ("format", *Profile.__dataclass_fields__))
        profile = Profile(
            doc.text("name"),
            doc.text("backend"),
            doc.text("description"),
            doc.strings("sources"),
            _latency(doc) if "latency" in doc else None,
        )
    except FormatError as cause:
        raise ProfileError(str(cause)) from cause
    if profile.name != path.stem:
        raise ProfileError(
            f"{path}: 'name' is {profile.name!r}, but the file is called {path.stem!r}."
            " Engines lie in a folder of that name, so both must be equal."
        )
    return profile

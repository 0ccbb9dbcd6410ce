"""Profiles: what is known of each kind of device, one TOML file each."""

from __future__ import annotations

from pathlib import Path

from skipc.profiles.model import (
    PEAK_PRECISIONS,
    PRECISIONS_OF_BACKEND,
    Board,
    Detection,
    LatencyTable,
    Number,
    Profile,
    ProfileError,
    Software,
)
from skipc.profiles.reading import read_profile
from skipc.runtime.errors import choices_text

__all__ = [
    "PEAK_PRECISIONS",
    "PRECISIONS_OF_BACKEND",
    "Board",
    "Detection",
    "LatencyTable",
    "Number",
    "Profile",
    "ProfileError",
    "Software",
    "load_profile",
    "profile_names",
]

_FOLDER = Path(__file__).parent


def profile_names() -> tuple[str, ...]:
    """Returns the names of the profiles that come with skipc, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_profile(name_or_path: str) -> Profile:
    """Returns a profile that comes with skipc, by its name, or that in a ``.toml`` file."""
    if name_or_path.endswith(".toml"):
        return read_profile(Path(name_or_path))
    if name_or_path in profile_names():
        return read_profile(_FOLDER / f"{name_or_path}.toml")
    raise ProfileError(
        f"unknown target {name_or_path!r}. {choices_text(name_or_path, profile_names())}"
        " A profile of your own is given as a path that ends in '.toml'."
    )

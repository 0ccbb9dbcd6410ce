"""Reading TOML files, and profiles from them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from skipc.profiles.model import Profile, ProfileError
from skipc.runtime.bundle.records import read, read_document

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path


def read_profile(path: Path) -> Profile:
    """Returns the profile in ``path``; a ``ProfileError`` names the key that is wrong."""
    profile = read(Profile, read_toml(path, ProfileError), str(path), ProfileError)
    if profile.name != path.stem:
        raise ProfileError(
            f"{path}: 'name' is {profile.name!r}, but the file is called {path.stem!r}."
            " Engines lie in a folder of that name, so both must be equal."
        )
    return profile


def read_toml(path: Path, error: type[Exception]) -> dict[str, object]:
    """Returns what a TOML file in UTF-8 holds, or raises ``error``."""
    data = read_document(path, error)
    try:
        value: dict[str, object] = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as cause:
        raise error(f"{path}: not valid TOML: {cause}.") from cause
    return value

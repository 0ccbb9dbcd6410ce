"""A device's engines, brought here and checked before they replace anything."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import staged_folder
from skipc.compiler.errors import RemoteError, TargetError
from skipc.compiler.remote.copy import StreamEndedError, read_tar
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.engines import EngineSet
from skipc.runtime.bundle.folder import ENGINES_FILE, ENGINES_FOLDER
from skipc.runtime.bundle.records import MAX_DOCUMENT_BYTES, parse_json, read
from skipc.runtime.errors import SkipcError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skipc.compiler.remote.connection import Connection
    from skipc.profiles import Profile

MAX_FILES = 10_000
"""More files than this are not taken from a device."""

ENGINE_SPARE_BYTES = 256 * 1024 * 1024
"""Engines may hold this, and twice the portable files, for every configuration."""


def fetch_engines(
    connection: Connection, remote: str, bundle: Bundle, profile: Profile
) -> EngineSet:
    """Brings a target's engines into ``bundle``, as a whole or not at all.

    Args:
        connection: To the device.
        remote: The ``engines`` folder of the bundle there.
        bundle: The bundle here that they were built from.
        profile: The target.

    Raises:
        RemoteError: What comes is not the complete, sound engines of this bundle.
        TargetError: They cannot be written here.
    """
    target = profile.name
    folder = bundle.engine_dir(target)
    data = _read_document(connection, f"{remote}/{target}/{ENGINES_FILE}")
    try:
        listed = read(EngineSet, parse_json(data, ENGINES_FILE), ENGINES_FILE)
    except SkipcError as cause:
        raise RemoteError(
            f"{connection.host}: what it built cannot be used: {cause}"
        ) from cause
    if listed.backend != profile.backend:
        raise RemoteError(
            f"{connection.host}: its engines are for the backend {listed.backend[:100]!r}, but"
            f" the target {target!r} has {profile.backend!r}. Build them there again."
        )
    sizes_bytes = {entry.path: entry.size_bytes for entry in listed.files}
    _check_bounds(sizes_bytes, bundle)
    sizes_bytes[ENGINES_FILE] = len(data)
    try:
        folder.parent.mkdir(exist_ok=True)
        hidden = tempfile.TemporaryDirectory(
            prefix=f".{target}.", suffix=".tmp", dir=folder.parent
        )
        with hidden as name:
            # A root of its own, in which the bundle's checks find engines/<target>.
            incoming = Path(name, ENGINES_FOLDER, target)
            incoming.mkdir(parents=True)
            _receive(connection, remote, target, sizes_bytes, incoming)
            engines = _checked(bundle, Path(name), target, connection.host)
            with staged_folder(folder) as staging:
                for path in incoming.iterdir():
                    path.rename(staging / path.name)
    except OSError as cause:
        raise TargetError(f"{folder} cannot be written: {cause.strerror or cause}.") from cause
    return engines


def _read_document(connection: Connection, path: str) -> bytes:
    with connection.session(("cat", path), f"reading its {ENGINES_FILE}") as session:
        data = session.output.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise RemoteError(
                f"{connection.host}: its {ENGINES_FILE} is larger than {MAX_DOCUMENT_BYTES}"
                " bytes, which no family's is. Build the engines there again."
            )
        session.expect_success()
    return data


def _check_bounds(sizes_bytes: Mapping[str, int], bundle: Bundle) -> None:
    portable_bytes = sum(entry.size_bytes for entry in bundle.manifest.files)
    each_bytes = 2 * portable_bytes + ENGINE_SPARE_BYTES
    most_bytes = each_bytes * len(bundle.manifest.graphs)
    total_bytes = sum(sizes_bytes.values())
    if len(sizes_bytes) > MAX_FILES or total_bytes > most_bytes:
        raise RemoteError(
            f"the device's {ENGINES_FILE} lists {len(sizes_bytes)} files of {total_bytes}"
            f" bytes in all; for this bundle at most {MAX_FILES} files of {most_bytes} bytes"
            " are taken. Finish on the device and copy the folder yourself if you trust it."
        )


def _receive(
    connection: Connection,
    remote: str,
    target: str,
    sizes_bytes: Mapping[str, int],
    incoming: Path,
) -> None:
    words = ("tar", "-c", "-f", "-", "-C", remote, "--", target)
    with connection.session(words, "copying the engines back") as session:
        try:
            read_tar(session.output, target, sizes_bytes, incoming)
        except StreamEndedError as cause:
            ended = session.end()
            if ended.code != 0:
                raise session.failure(ended) from cause
            raise
        session.expect_success()


def _checked(bundle: Bundle, root: Path, target: str, host: str) -> EngineSet:
    """Returns the engines under ``root``, checked as those of ``bundle``, hashes too."""
    without_files = replace(bundle.manifest, files=())
    arrived = Bundle(root, without_files, bundle.manifest_sha256)
    try:
        arrived.verify_hashes()
        return arrived.engine_set(target)
    except SkipcError as cause:
        raise _unusable(host, cause) from cause


def _unusable(host: str, cause: SkipcError) -> RemoteError:
    return RemoteError(
        f"{host}: what it built cannot be used, and nothing was taken over: {cause}"
    )

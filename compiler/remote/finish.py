"""A bundle's engines, built on a device and brought back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import staged_folder
from skipc.compiler.errors import RemoteError, TargetError
from skipc.compiler.remote.connection import SSH_FAILED, last_lines, one_line
from skipc.compiler.remote.copy import StreamEndedError, read_files, write_tar
from skipc.compiler.remote.device import check_device, temporary_folder
from skipc.compiler.targets import builder_for, kept_folder, target_of
from skipc.compiler.targets.options import TargetOptions
from skipc.profiles import load_profile
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.engines import EngineSet
from skipc.runtime.bundle.folder import ENGINES_FILE, ENGINES_FOLDER, MANIFEST_FILE
from skipc.runtime.bundle.records import MAX_DOCUMENT_BYTES, parse_json, read
from skipc.runtime.errors import SkipcError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from skipc.compiler.remote.connection import Device
    from skipc.profiles import Profile

    Progress = Callable[[str], None]

MAX_FILES = 10_000
"""More files than this are not taken from a device."""

ENGINE_SPARE_BYTES = 256 * 1024 * 1024
"""Engines may hold this, and twice the portable files, for every configuration."""

_BUNDLE_NAME = "bundle.skipc"
_LINE_BYTES = 4096
_MESSAGE_BYTES = 2000
_STEP_CHARACTERS = 200
_STEP_END = " ..."

_SEND_FILES = 'cd "$0" && exec cat -- "$@"'
_FILES_AT_ONCE = 100
"""Their names are one word of a command line."""

# Runs "$@" and ends it when this side does. What it reports comes on standard output, where
# ssh's own messages are not.
_RUN_WATCHED = (
    "exec 3<&0;"
    ' "$@" < /dev/null 2>&1 > /dev/null 3<&- & child=$!;'
    ' { cat <&3; kill "$child"; } > /dev/null 2>&1 & watcher=$!;'
    ' wait "$child"; code=$?; kill "$watcher" 2> /dev/null; exit "$code"'
)


def finish_on(
    device: Device,
    path: str | os.PathLike[str],
    target: str | None = None,
    progress: Progress = lambda line: None,
    options: TargetOptions | None = None,
) -> EngineSet:
    """Builds the engines of the bundle at ``path`` on ``device`` and brings them back.

    Engines that are already there are replaced in the end, or left as they were. Nothing is
    left on the device.

    Args:
        device: What builds them.
        path: The bundle's folder, here.
        target: A profile's name, or a path to one here; None for what the bundle was built
            for.
        progress: Called with a short line before each step, here or there.
        options: Options of the target; see ``compiler.targets.finish``.

    Returns:
        What ``engines/<target>/engines.json`` says.

    Raises:
        ProfileError: The target is unknown.
        BundleError: The bundle cannot be used.
        TargetError: No builder makes engines for the target.
        RemoteError: The device cannot be used, failed, or sent what cannot be trusted.
    """
    bundle = Bundle.open(path)
    wanted = target_of(bundle, target)
    profile = load_profile(wanted)
    builder_for(profile)
    progress(f"asking {device.host} for its skipc")
    check_device(device)
    own = Path(wanted) if wanted.endswith(".toml") else None
    return finish_bundle_on(device, bundle, profile, own, options or TargetOptions(), progress)


def finish_bundle_on(
    device: Device,
    bundle: Bundle,
    profile: Profile,
    own: Path | None,
    options: TargetOptions,
    progress: Progress,
) -> EngineSet:
    """Builds the engines of a bundle on a device that ``check_device`` allows.

    Args:
        device: What builds them.
        bundle: The bundle, here.
        profile: The target, for which there is a builder.
        own: The target's file here, where it does not come with skipc.
        options: Options of the target.
        progress: Called with a short line before each step, here or there.
    """
    host = device.host
    with temporary_folder(device) as folder:
        there = profile.name
        portable = [MANIFEST_FILE, *(entry.path for entry in bundle.manifest.files)]
        files = {f"{_BUNDLE_NAME}/{name}": bundle.path / name for name in portable}
        if own is not None:
            there = f"{folder}/{own.name}"
            files[own.name] = own
        progress(f"copying the bundle to {host}")
        _send(device, folder, files)
        target = (there, *options.arguments)
        _build(device, f"{folder}/{_BUNDLE_NAME}", target, progress)
        progress(f"copying the engines from {host}")
        remote = f"{folder}/{_BUNDLE_NAME}/{ENGINES_FOLDER}"
        engines = fetch_engines(device, remote, bundle, profile)
    # What an interrupted build here had left, or the bundle that this one replaces.
    shutil.rmtree(kept_folder(bundle.path, profile.name), ignore_errors=True)
    return engines


def _send(device: Device, folder: str, files: Mapping[str, Path]) -> None:
    # -m and -o: neither this machine's clock nor its users matter there.
    words = ("tar", "-x", "-m", "-o", "-f", "-", "-C", folder)
    with device.session(words, "copying the bundle there") as session:
        try:
            write_tar(session.input, files)
        except BrokenPipeError as cause:
            session.end()
            raise session.failure(session.errors) from cause
        session.expect_success()


def _build(device: Device, path: str, target: tuple[str, ...], progress: Progress) -> None:
    """Runs ``skipc finish`` there; its steps are told here."""
    host = device.host
    finish = device.skipc("finish", path, "--target", *target)
    words = ("sh", "-c", _RUN_WATCHED, "skipc", *finish)
    said = b""
    with device.session(words, "running `skipc finish` there") as session:
        while line := session.output.readline(_LINE_BYTES):
            text = one_line(line)
            if text.endswith(_STEP_END):
                progress(f"{host}: {text.removesuffix(_STEP_END)}"[:_STEP_CHARACTERS])
            else:
                said = (said + line)[-_MESSAGE_BYTES:]
        code = session.end()
    if code != 0:
        before, mark, message = said.rpartition(b"Error: ")
        told = one_line(message) if mark else last_lines(before + message)
        raise session.failure(told if told and code != SSH_FAILED else session.errors)


def fetch_engines(device: Device, remote: str, bundle: Bundle, profile: Profile) -> EngineSet:
    """Brings a target's engines into ``bundle`` from a folder there, as a whole or not at all.

    Raises:
        RemoteError: What comes is not the complete, sound engines of this bundle.
        TargetError: They cannot be written here.
    """
    target = profile.name
    folder = bundle.engine_dir(target)
    data = _read_document(device, f"{remote}/{target}/{ENGINES_FILE}")
    try:
        listed = read(EngineSet, parse_json(data, ENGINES_FILE), ENGINES_FILE)
    except SkipcError as cause:
        raise RemoteError(f"{device.host}: what it built cannot be used: {cause}") from cause
    if listed.backend != profile.backend:
        raise RemoteError(
            f"{device.host}: its engines are for the backend {listed.backend[:100]!r}, but"
            f" the target {target!r} has {profile.backend!r}. Build them there again."
        )
    sizes_bytes = {entry.path: entry.size_bytes for entry in listed.files}
    _check_bounds(sizes_bytes, bundle)
    try:
        with staged_folder(folder) as staging:
            (staging / ENGINES_FILE).write_bytes(data)
            _receive(device, f"{remote}/{target}", sizes_bytes, staging)
            try:
                return bundle.verify_engines(staging, target)
            except SkipcError as cause:
                raise RemoteError(
                    f"{device.host}: what it built cannot be used, and nothing was taken"
                    f" over: {cause}"
                ) from cause
    except OSError as cause:
        raise TargetError(f"{folder} cannot be written: {cause.strerror or cause}.") from cause


def _read_document(device: Device, path: str) -> bytes:
    with device.session(("cat", path), f"reading its {ENGINES_FILE}") as session:
        data = session.output.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise RemoteError(
                f"{device.host}: its {ENGINES_FILE} is larger than {MAX_DOCUMENT_BYTES}"
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
    device: Device, remote: str, sizes_bytes: Mapping[str, int], incoming: Path
) -> None:
    names = list(sizes_bytes)
    for start in range(0, len(names), _FILES_AT_ONCE):
        some = {name: sizes_bytes[name] for name in names[start : start + _FILES_AT_ONCE]}
        words = ("sh", "-c", _SEND_FILES, remote, *some)
        with device.session(words, "copying the engines back") as session:
            try:
                read_files(session.output, some, incoming)
            except StreamEndedError:
                session.expect_success()
                raise
            session.expect_success()

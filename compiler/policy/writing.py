"""Another entry of a configuration in a bundle, whose engines and tables stay good.

Engines are of graphs, and no graph changes: what names the manifest's hash is sealed anew, and
the folder changes places with the old one in one step.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import staged_folder, write_json, write_whole
from skipc.compiler.errors import PolicyError
from skipc.compiler.front import ExitTest, read_front, write_front
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.folder import ENGINES_FILE, MANIFEST_FILE, file_sha256
from skipc.runtime.bundle.measured import all_tables
from skipc.runtime.bundle.records import written
from skipc.runtime.errors import IntegrityError, choices_text

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.runtime.bundle.manifest import ConfigurationEntry


def replace_entry(bundle: Bundle, entry: ConfigurationEntry) -> None:
    """Writes a bundle anew with another entry for the configuration of its name.

    Args:
        bundle: The bundle.
        entry: What takes the entry's place; of its route only tests may differ.

    Raises:
        BundleError: Engines of the bundle cannot be read, or were altered.
        OSError: The folder cannot be written.
    """
    old = bundle.manifest
    manifest = replace(
        old,
        configurations=tuple(
            entry if one.name == entry.name else one for one in old.configurations
        ),
    )
    targets = {name: bundle.engine_set(name) for name in bundle.targets()}
    for name, engines in targets.items():
        file = bundle.engine_dir(name) / ENGINES_FILE
        if not engines.is_whole(file.read_bytes()):
            raise IntegrityError(
                f"{file}: its content does not have the hash that is in it. The file was"
                f" altered or damaged. Run `skipc finish {bundle.path} --target {name}` again."
            )
    tables = [t for t in all_tables(bundle) if t.key.bundle_sha256 == bundle.manifest_sha256]
    with staged_folder(bundle.path.resolve()) as folder:
        shutil.copytree(
            bundle.path,
            folder,
            symlinks=True,
            ignore=shutil.ignore_patterns("*.skipc-tmp"),
            copy_function=_link,
            dirs_exist_ok=True,
        )
        write_json(folder / MANIFEST_FILE, written(manifest))
        sha256 = file_sha256(folder / MANIFEST_FILE)
        made = Bundle.open(folder)
        for name, engines in targets.items():
            sealed = replace(engines, bundle_sha256=sha256).sealed()
            write_whole(made.engine_dir(name) / ENGINES_FILE, sealed.encoded())
        for table in tables:
            (folder / table.key.path()).unlink()
            key = replace(table.key, bundle_sha256=sha256)
            write_json(folder / key.path(), written(replace(table, key=key)))


def _link(source: str, destination: str) -> None:
    """Puts a file into another folder, without its bytes where the file system can."""
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, destination, follow_symlinks=False)


def check_front(path: Path, entry: ConfigurationEntry) -> None:
    """Checks that a front has an entry that ``write_into_front`` can change.

    Raises:
        FrontError: It is no front.
        PolicyError: It has no such entry, or one with another number of tests.
    """
    found = {one.name: one for one in read_front(path).configurations}
    if entry.name not in found:
        raise PolicyError(
            f"--front {path}: it has no configuration {entry.name!r}."
            f" {choices_text(entry.name, found)}"
        )
    if (found[entry.name].router is None) != (entry.routed is None):
        raise PolicyError(
            f"--front {path}: its {entry.name!r} and the bundle's do not both have a router:"
            " it is not the front that the bundle was built from."
        )
    tests = len(found[entry.name].tests)
    if entry.routed is None and tests != len(entry.route) - 1:
        raise PolicyError(
            f"--front {path}: its {entry.name!r} has {tests} tests, the bundle's"
            f" {len(entry.route) - 1}: it is not the front that the bundle was built from."
        )


def write_into_front(path: Path, entry: ConfigurationEntry) -> None:
    """Writes tests, stops and metrics of a configuration into a front, for the next build.

    Of one that a router chooses the bias is what is written of its tests.
    """
    front = read_front(path)
    own = next(one for one in front.configurations if one.name == entry.name)
    router, first = own.router, entry.route[0].test
    if router is not None and first is not None:
        router = replace(router, bias=first.bias)
    tests = tuple(
        ExitTest(test.threshold, test.scores, test.temperature, test.jump)
        for test in (stage.test for stage in entry.route if router is None)
        if test is not None
    )
    entries = tuple(
        replace(one, tests=tests, stops=entry.stops, metrics=entry.metrics, router=router)
        if one.name == entry.name
        else one
        for one in front.configurations
    )
    write_front(path, replace(front, configurations=entries))

"""Plans kept from build to build: one is built again only if what it is made of changed.

A plan's file carries a key in its name: the hash of the graph, of the weights that it takes
from the store, of the library, the GPU and the options. Plans of an interrupted build wait
in ``engines/.<target>.plans``; a finished build takes them over and removes that folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import write_whole
from skipc.runtime.backends.onnxruntime.locations import external_tensors
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.contained import inside
from skipc.runtime.bundle.folder import ENGINES_FOLDER, file_sha256
from skipc.runtime.errors import BundleError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skipc.compiler.targets.tensorrt.plan import PlanSettings
    from skipc.runtime.bundle.manifest import ConfigurationEntry

_KEY_DIGITS = 16
_SUFFIX = ".plan"
_BUILT_HOW = 1
"""Raised whenever plans are built otherwise than before, so that none of before is kept."""
_CACHE_FILE = "timing.cache"


@dataclass(frozen=True)
class PlanStore:
    """The plans of one target.

    Attributes:
        bundle: The bundle.
        target: The target's name.
        host: What plans depend on besides their graph: library, GPU.
        settings: How they are built.
    """

    bundle: Bundle
    target: str
    host: Mapping[str, str]
    settings: PlanSettings

    @property
    def waiting(self) -> Path:
        """The folder of plans that no finished build has taken over."""
        return inside(self.bundle.path, _waiting(self.target))

    def file_name(self, entry: ConfigurationEntry) -> str:
        """Returns the name of the configuration's plan, its key included."""
        return f"{entry.name}.{self._key(entry)}{_SUFFIX}"

    def find(self, entry: ConfigurationEntry) -> Path | None:
        """Returns the plan if it was built before, here or in the finished set."""
        name = self.file_name(entry)
        waiting = self.waiting / name
        if waiting.is_file() and not waiting.is_symlink():
            return waiting
        try:
            engines = self.bundle.engine_set(self.target)
        except BundleError:
            return None  # none, or of another version of the bundle
        for file in engines.files:
            finished = self.bundle.engine_dir(self.target) / file.path
            if file.path == name and file_sha256(finished) == file.sha256:
                return finished
        return None

    def keep(self, entry: ConfigurationEntry, data: object, timing_cache: bytes) -> Path:
        """Writes a plan whole, and what was timed for it; returns the plan's file."""
        self.waiting.mkdir(parents=True, exist_ok=True)
        path = self.waiting / self.file_name(entry)
        write_whole(path, bytes(memoryview(data)))  # type: ignore[arg-type]
        if timing_cache:
            write_whole(self.waiting / _CACHE_FILE, timing_cache)
        return path

    def timing_cache(self) -> bytes:
        """Returns what the last build of this target timed; empty if there is nothing.

        TensorRT itself refuses a cache of another GPU or version.
        """
        for folder in (self.waiting, self.bundle.engine_dir(self.target)):
            file = folder / _CACHE_FILE
            if file.is_file() and not file.is_symlink():
                return file.read_bytes()
        return b""

    def drop(self, file: Path) -> None:
        """Removes a plan that did not pass, if it waits; a finished set stays as it is."""
        if file.parent == self.waiting:
            file.unlink(missing_ok=True)

    def take(self, plans: Mapping[str, Path], staging: Path) -> None:
        """Copies the plans, by file name, and the timing cache into ``staging``."""
        for name, path in plans.items():
            shutil.copyfile(path, staging / name)
        cache = self.timing_cache()
        if cache:
            write_whole(staging / _CACHE_FILE, cache)

    def clear(self) -> None:
        """Removes the plans that wait."""
        shutil.rmtree(self.waiting, ignore_errors=True)

    def _key(self, entry: ConfigurationEntry) -> str:
        graph = self.bundle.file(entry.graph)
        weights = {place.offset_bytes: place.sha256 for place in self.bundle.manifest.weights}
        try:
            used = [
                (tensor.name, weights[tensor.offset_bytes])
                for tensor in external_tensors(graph.read_bytes())
            ]
        except (KeyError, ValueError) as cause:
            raise IntegrityError(
                f"{graph}: takes tensors from places that the manifest does not list"
                f" ({cause}). Copy the bundle again."
            ) from cause
        made_of = {
            "how": _BUILT_HOW,
            "graph": file_sha256(graph),
            "weights": used,
            "host": dict(self.host),
            "settings": asdict(self.settings),
        }
        text = json.dumps(made_of, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def carry_over(path: Path, new: Path, target: str) -> None:
    """Gives a bundle that replaces another one its plans, for what did not change.

    Args:
        path: The bundle that will be gone; there may be none.
        new: The folder of the one that takes its place.
        target: The target whose plans are wanted.
    """
    try:
        old = Bundle.open(path)
        files = old.engine_set(target).files
    except BundleError:
        return  # none, without such engines, or damaged: they are built
    folder = old.engine_dir(target)
    plans = [
        file
        for file in files
        if file.path.endswith(_SUFFIX)
        and "/" not in file.path
        and file_sha256(folder / file.path) == file.sha256
    ]
    if not plans:
        return
    place = new / _waiting(target)
    place.mkdir(parents=True)
    for file in plans:
        shutil.copyfile(folder / file.path, place / file.path)
    if any(file.path == _CACHE_FILE for file in files):
        shutil.copyfile(folder / _CACHE_FILE, place / _CACHE_FILE)


def _waiting(target: str) -> str:
    return f"{ENGINES_FOLDER}/.{target}.plans"

"""Plans kept from build to build: one is built again only if what it is made of changed.

A plan's file carries a key in its name: the hash of the graph, of the weights that it takes
from the store, of the library, the GPU and the options. Plans of an interrupted build wait
in ``kept_folder``; a finished build takes them over.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import write_whole
from skipc.compiler.targets import kept_folder
from skipc.runtime.bundle.folder import file_sha256
from skipc.runtime.bundle.onnx_graph import external_tensors
from skipc.runtime.errors import BundleError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skipc.compiler.targets.tensorrt.plan import PlanSettings
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import GraphEntry

_KEY_DIGITS = 16
_SUFFIX = ".plan"
_BUILT_HOW = 1
"""Raised whenever plans are built otherwise than before, so that none of before is kept."""
_CACHE_FILE = "timing.cache"


def reusable(path: str) -> bool:
    """Tells whether a file is a plan or what was timed for one."""
    return path == _CACHE_FILE or (path.endswith(_SUFFIX) and "/" not in path)


@dataclass(frozen=True)
class PlanStore:
    """The plans of one target.

    Attributes:
        bundle: The bundle.
        target: The target's name.
        host: What plans depend on besides their graph: library, GPU.
        settings: How they are built.
        sources: The ONNX file of each graph.
    """

    bundle: Bundle
    target: str
    host: Mapping[str, str]
    settings: PlanSettings
    sources: Mapping[str, Path]

    @property
    def waiting(self) -> Path:
        """The folder of plans that no finished build has taken over."""
        return kept_folder(self.bundle.path, self.target)

    def file_name(self, graph: GraphEntry) -> str:
        """Returns the name of the graph's plan, its key included."""
        return f"{graph.name}.{self._key(graph)}{_SUFFIX}"

    def find(self, graph: GraphEntry) -> Path | None:
        """Returns the plan if it was built before, here or in the finished set."""
        name = self.file_name(graph)
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

    def keep(self, graph: GraphEntry, data: object, timing_cache: bytes) -> Path:
        """Writes a plan whole, and what was timed for it; returns the plan's file."""
        self.waiting.mkdir(parents=True, exist_ok=True)
        path = self.waiting / self.file_name(graph)
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

    def _key(self, graph: GraphEntry) -> str:
        file = self.sources[graph.name]
        weights = {place.offset_bytes: place.sha256 for place in self.bundle.manifest.weights}
        try:
            used = [
                (tensor.name, weights[tensor.offset_bytes])
                for tensor in external_tensors(file)
            ]
        except KeyError as cause:
            raise IntegrityError(
                f"{file}: takes tensors from places that the manifest does not list"
                f" ({cause}). Copy the bundle again."
            ) from cause
        made_of = {
            "how": _BUILT_HOW,
            "graph": file_sha256(file),
            "weights": used,
            "host": dict(self.host),
            "settings": asdict(self.settings),
        }
        text = json.dumps(made_of, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]

"""What an export depends on: where all of it is the same, the export is the same.

A library's network depends on the checkpoint, the options and some versions; it need not be
built to know them. Code of the user's own is built first: its key is made of the source files
of every module that was imported, of what these hold in plain variables (a configuration read
from a file, a flag from the environment) and of all that the built network holds.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pickle
import sys
from dataclasses import asdict
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from skipc.compiler.bundle.files import checkpoint_sha256
from skipc.compiler.errors import CheckpointError
from skipc.compiler.read.factories import reason_of
from skipc.runtime.bundle.folder import file_sha256

if TYPE_CHECKING:
    from torch import nn

    from skipc.compiler.read.checkpoint import ModelOptions

_PACKAGES = (
    *("skipc", "torch", "onnx", "onnx-ir", "onnxscript", "numpy", "safetensors"),
    *("timm", "torchvision", "transformers"),
)

_OURS = ("skipc", "__main__", "__mp_main__", "_remote_module_non_scriptable")
"""The last one PyTorch writes into a temporary folder, and imports."""


def export_key(checkpoint: Path, options: ModelOptions, code: str = "") -> str:
    """Returns 64 hexadecimal digits for all that the export of a checkpoint depends on.

    ``code`` is the hash of the user's code and of what it built; "" for a library's.
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    own = Path(__file__).parents[1]
    sources = {str(path.relative_to(own)): file_sha256(path) for path in own.rglob("*.py")}
    return key_of(
        checkpoint_sha256(checkpoint), asdict(options), versions, sorted(sources.items()), code
    )


def key_of(*parts: object) -> str:
    """Returns 64 hexadecimal digits that only these JSON values have."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def code_of(module: nn.Module, factory: str) -> str:
    """Returns a hash of the user's code, as it is imported now, and of the network it built.

    Raises:
        CheckpointError: It cannot be known, e.g. since a module has no source file.
    """
    package = factory.partition(":")[0].partition(".")[0]
    state = _State(package)
    for name, imported in sorted(sys.modules.items()):
        if not _is_users(name, package):
            continue
        file = getattr(imported, "__file__", None)
        if file is None and (imported.__spec__ is None or hasattr(imported, "__path__")):
            continue  # made by code that is elsewhere, or a folder without code
        try:
            state.add(name, (name, file_sha256(Path(str(file)))))
        except OSError as cause:
            raise CheckpointError(
                f"the module {name!r}, which --model {factory} imports, has no source file"
                " that could be compared."
            ) from cause
        state.add(name, {key: each for key, each in vars(imported).items() if key[:2] != "__"})
    state.add(factory, module)
    for folder in filter(None, sys.path):
        state.add(folder, sorted(path.name for path in Path(folder).glob("*-info")))
    return state.digest.hexdigest()


def _is_users(name: str, package: str) -> bool:
    """Tells whether a module may be changed without a version that says so."""
    top = name.partition(".")[0]
    if top == package:
        return True
    if top in sys.stdlib_module_names or top in _OURS:
        return False
    found = sys.modules.get(top)
    places = [getattr(found, "__file__", None) or "", *getattr(found, "__path__", ())]
    return not any({"site-packages", "dist-packages"} & set(Path(p).parts) for p in places)


class _State(pickle.Pickler):
    """Hashes values by what they hold, as far as pickle looks into them; writes nothing."""

    def __init__(self, package: str) -> None:
        self.digest = hashlib.sha256()
        self._package = package
        super().__init__(self, protocol=4)

    def write(self, data: bytes) -> int:
        """Takes what would be written."""
        self.digest.update(data)
        return len(data)

    def add(self, name: str, value: object) -> None:
        """Adds what ``name`` holds; what was added before counts as the same object again."""
        try:
            self.dump(value)
        # Nested too deeply for Python, a sparse tensor, an object that refuses ...
        except Exception as cause:
            raise CheckpointError(
                f"what {name!r} holds cannot be compared: {reason_of(cause)}."
            ) from cause

    def persistent_id(self, value: object) -> object:
        """Returns what stands for a value that pickle would write otherwise; None for others.

        Text is never "the same object again": that depends on how the source was compiled.
        """
        import torch

        if isinstance(value, (set, frozenset)):
            return sorted(value, key=repr)
        if isinstance(value, torch.Tensor):
            array = value.detach().cpu().contiguous()
            digest = hashlib.sha256(f"{array.dtype} {tuple(array.shape)} ".encode())
            digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, (ModuleType, type)):
            digest = hashlib.sha256(f"{value!r}".encode())
        elif isinstance(value, (str, bytes)):
            digest = hashlib.sha256(repr(value).encode())
        else:
            return None
        return int.from_bytes(digest.digest(), "big")

    def reducer_override(self, value: Any) -> Any:
        """Returns what an object is made of; its type where pickle's protocol does not say."""
        if isinstance(value, FunctionType):
            held: tuple[object, ...] = ()
            if _is_users(value.__module__ or "", self._package):
                cells = [c.cell_contents for c in value.__closure__ or () if c != CellType()]
                held = value.__defaults__, value.__kwdefaults__, cells
            return str, (f"{value.__module__}.{value.__qualname__}",), held
        try:
            found = value.__reduce_ex__(4)
        # A lock, a generator or an object that refuses: it can hold no constant of a network.
        except Exception:
            return str, (repr(type(value)),)
        return (str, (found,)) if isinstance(found, str) else found

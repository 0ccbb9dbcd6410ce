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
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING

from skipc.compiler.bundle.files import checkpoint_sha256, sha256_of
from skipc.compiler.errors import CheckpointError
from skipc.compiler.read.factories import reason_of

if TYPE_CHECKING:
    from torch import nn

    from skipc.compiler.read.checkpoint import ModelOptions

_PACKAGES = (
    *("skipc", "torch", "onnx", "onnx-ir", "onnxscript", "numpy", "safetensors"),
    *("timm", "torchvision", "transformers"),
)

_OURS = ("skipc", "__main__", "__mp_main__", "_remote_module_non_scriptable")
"""The last one PyTorch writes into a temporary folder, and imports."""


@dataclass(frozen=True, slots=True)
class ExportKey:
    """What an export depends on.

    Attributes:
        checkpoint_sha256: The checkpoint's content.
        options: How it is read: factory, arguments, inputs, batch, output.
        versions: Those of the packages that take part.
        sources: Hash of this compiler's own source files.
        code: Hash of the user's code and of the network that it built; "" of a library's.
        rows: The largest batch, where it was made dynamic to evaluate faster.
        without: What a network leaves out that switches more than its units.
    """

    checkpoint_sha256: str
    options: ModelOptions
    versions: dict[str, str]
    sources: str
    code: str = ""
    rows: int | None = None
    without: tuple[str, ...] = ()

    def text(self) -> str:
        """Returns 64 hexadecimal digits that only this key has."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()


def export_key(checkpoint: Path, options: ModelOptions) -> ExportKey:
    """Returns the key of a checkpoint read with ``options``, but for the user's code."""
    return ExportKey(
        checkpoint_sha256=checkpoint_sha256(checkpoint),
        options=options,
        versions=_versions(),
        sources=_sources_of(Path(__file__).parents[1]),
    )


def code_of(module: nn.Module, factory: str) -> str:
    """Returns a hash of the user's code, as it is imported now, and of what it built.

    Args:
        module: The network, with its weights.
        factory: ``PKG.MODULE:FACTORY``, which built it.

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
            state.add((name, sha256_of(Path(str(file)))))
        except OSError as cause:
            raise CheckpointError(
                f"the module {name!r}, which --model {factory} imports, has no source file"
                " that could be compared."
            ) from cause
        held = {key: each for key, each in vars(imported).items() if key[:2] != "__"}
        _add(state, name, held)
    _add(state, factory, module)
    for folder in sys.path:
        state.add(sorted(path.name for path in Path(folder).glob("*-info")) if folder else ())
    return state.digest()


def _add(state: _State, name: str, value: object) -> None:
    try:
        state.add(value)
    # Nested too deeply for Python, a sparse tensor, an object that cannot be iterated over ...
    except Exception as cause:
        raise CheckpointError(
            f"what {name!r} holds cannot be compared: {reason_of(cause)}."
        ) from cause


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


class _State:
    """Hashes values by what they hold, as far as pickle would look into them."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._digest = hashlib.sha256()
        self._seen: dict[int, tuple[int, object]] = {}

    def digest(self) -> str:
        """Returns 64 hexadecimal digits."""
        return self._digest.hexdigest()

    def add(self, value: object) -> None:
        """Adds a value; what was added before counts as the same object again."""
        kind = type(value)
        self._text(f"{kind.__module__}.{kind.__qualname__}")
        if isinstance(value, (str, bytes, int, float, complex, type(None))):
            self._text(repr(value))
        elif id(value) in self._seen:
            self._text(f"again {self._seen[id(value)][0]}")
        else:
            # Kept, so that no other object gets its id.
            self._seen[id(value)] = (len(self._seen), value)
            self._look_into(value)

    def _look_into(self, value: object) -> None:
        import torch

        if isinstance(value, torch.Tensor):
            array = value.detach().cpu().contiguous()
            self._text(f"{array.dtype} {tuple(array.shape)}")
            self._digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, (ModuleType, type)):
            self._text(value.__name__)
        elif isinstance(value, FunctionType):
            self._text(f"{value.__module__}.{value.__qualname__}")
            if _is_users(value.__module__ or "", self._package):
                cells = [c.cell_contents for c in value.__closure__ or () if c != CellType()]
                self._all((value.__defaults__, value.__kwdefaults__, cells))
        elif isinstance(value, Mapping):
            self._all(item for pair in value.items() for item in pair)
        elif isinstance(value, (list, tuple)):
            self._all(value)
        else:
            self._all(_parts(value))

    def _all(self, values: Iterable[object]) -> None:
        self._text("(")
        for value in values:
            self.add(value)
        self._text(")")

    def _text(self, text: str) -> None:
        self._digest.update(text.encode() + b"\0")


def _parts(value: object) -> Iterable[object]:
    """Returns what an object is made of, by pickle's protocol; nothing where it has none."""
    try:
        if isinstance(value, (set, frozenset)):
            return sorted(value, key=repr)
        found = value.__reduce_ex__(4)
    # A lock, a generator or an object that refuses: it can hold no constant of a network.
    except Exception:
        return ()
    if isinstance(found, str):
        return (found,)
    function, arguments, *rest = found
    return (function, arguments, *(list(r) if isinstance(r, Iterator) else r for r in rest))


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _sources_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()

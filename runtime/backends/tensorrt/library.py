"""The TensorRT library: which module, which version, what it logs, what its engines fit.

Written to the names that TensorRT 10.3 to 11.4 and TensorRT-RTX 1.4 to 1.7 have in common.
Enumerators are taken by name: their values moved between versions.
"""

from __future__ import annotations

import importlib
import platform
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ...errors import BackendUnavailableError, EngineError, install_text
from ..cuda import DeviceMemoryError
from ..host import stale_reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

    from ..cuda import Cuda

# Per backend: the modules to try (the second is what the wheel of the bindings alone brings)
# and what to say where none is there.
_MODULES: dict[str, tuple[tuple[str, ...], str]] = {
    "tensorrt": (
        ("tensorrt", "tensorrt_bindings"),
        (
            "A Jetson brings it with JetPack: make the virtual environment with"
            " --system-site-packages. Elsewhere: pip install tensorrt"
        ),
    ),
    "tensorrt-rtx": (
        ("tensorrt_rtx", "tensorrt_rtx_bindings"),
        f"Install it with: {install_text('rtx')}",
    ),
}
BACKENDS = tuple(_MODULES)

_MODEL = Path("/proc/device-tree/model")

CAPABILITIES = "compute_capabilities"
"""Key of an engine set built ahead: every GPU generation that it runs on."""

_KEPT_LINES = 400
_NOISE = ("cudaError 35", "CUDA initialization failure with error: 35")


@dataclass(frozen=True)
class Library:
    """An imported TensorRT: the backend's name, the module, and its version.

    ``logger`` is the process's one ``ILogger``: TensorRT keeps the first it is given.
    """

    backend: str
    module: Any
    version: str
    logger: Any

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Yields what is logged from here on."""
        yield Listener(self.logger.lines, self.logger.lines.mark)


@dataclass(frozen=True, slots=True)
class Listener:
    """Warnings and errors logged since a moment.

    TensorRT is silent where the application gave the process's logger before us.
    """

    lines: _Lines
    mark: int

    def text(self) -> str:
        """Returns them as one line, the same ones once, without what a lack of GPU adds."""
        found = dict.fromkeys(self.lines.since(self.mark))
        said = [line for line in found if not any(noise in line for noise in _NOISE)]
        return " ".join(said) or "it gave no reason"

    def out_of_memory(self) -> bool:
        """Tells whether the device had too little memory."""
        text = " ".join(self.lines.since(self.mark)).lower()
        return "out of memory" in text or "outofmemory" in text

    def error(self, message: str, *, short: bool = False) -> EngineError:
        """Returns a ``DeviceMemoryError`` if the log speaks of memory, or an ``EngineError``.

        A full device is the one error that TensorRT does not tell apart by itself. ``short``
        tells whether the device has less memory left than was wanted.
        """
        full = short or self.out_of_memory()
        return DeviceMemoryError(message) if full else EngineError(message)


def open_library(backend: str) -> Library:
    """Returns the library of one of the ``BACKENDS``, imported now.

    Raises:
        BackendUnavailableError: It is not installed, or cannot be imported.
    """
    modules, advice = _MODULES[backend]
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError as cause:
            if isinstance(cause, ModuleNotFoundError) and cause.name == name:
                continue
            raise BackendUnavailableError(
                f"the library of the backend {backend!r} is installed but cannot be imported:"
                f" {cause}. {advice}"
            ) from cause
        # The metapackage of another TensorRT is an empty module.
        if hasattr(module, "Runtime"):
            return Library(backend, module, str(module.__version__), _logger(module))
    raise BackendUnavailableError(
        f"engines of the backend {backend!r} run on the Python module {modules[0]!r}, which"
        f" is not installed. {advice}"
    )


class _Lines:
    """The last warnings and errors, numbered since the process began."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=_KEPT_LINES)
        self._count = 0
        self._lock = Lock()

    def add(self, text: str) -> None:
        with self._lock:
            self._count += 1
            self._lines.append((self._count, " ".join(text.split())))

    def since(self, mark: int) -> list[str]:
        """Returns the lines logged after ``mark``, oldest first."""
        with self._lock:
            return [text for number, text in self._lines if number > mark]

    @property
    def mark(self) -> int:
        """The number of lines logged so far."""
        return self._count


_LOGGERS: dict[str, Any] = {}


def _logger(module: ModuleType) -> Any:
    """Returns the process's logger for ``module``; it prints nothing."""
    if module.__name__ not in _LOGGERS:
        loud = (
            module.ILogger.Severity.INTERNAL_ERROR,
            module.ILogger.Severity.ERROR,
            module.ILogger.Severity.WARNING,
        )

        class Logger(module.ILogger):  # type: ignore[misc, name-defined]
            """Keeps warnings and errors."""

            def __init__(self) -> None:
                module.ILogger.__init__(self)
                self.lines = _Lines()

            def log(self, severity: object, message: str) -> None:
                if severity in loud:
                    self.lines.add(message)

        _LOGGERS[module.__name__] = Logger()
    return _LOGGERS[module.__name__]


def current_host(library: Library, cuda: Cuda) -> dict[str, str]:
    """Returns the key of engines built or run here.

    The keys are ``architecture``, the backend with its version, ``gpu``,
    ``compute_capability`` and, where there is a device tree, ``board``: every Jetson Orin
    calls its GPU alike. A plan runs on the kind of GPU that it was timed on; another of the
    same generation may run it slowly or not at all.
    """
    device = cuda.device()
    key = {
        "architecture": platform.machine() or "unknown",
        library.backend: library.version,
        "gpu": device.name,
        "compute_capability": device.compute_capability,
    }
    board = _board()
    return {**key, "board": board} if board else key


def _board() -> str:
    try:
        text = _MODEL.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return " ".join(text.replace("\0", " ").split())


def ahead_host(library: Library, capabilities: tuple[str, ...]) -> dict[str, str]:
    """Returns the key of engines built ahead, for any GPU of these generations."""
    return {library.backend: library.version, CAPABILITIES: " ".join(capabilities)}


def stale(built: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """Returns why engines built with one key do not fit ``current_host`` of here, or None."""
    if CAPABILITIES not in built:
        return stale_reason(built, here)
    fits = built[CAPABILITIES].split()
    if here["compute_capability"] not in fits:
        return (
            f"they are for the compute capabilities {', '.join(fits)}, and this GPU"
            f" ({here['gpu']}) has {here['compute_capability']}"
        )
    version = {name: value for name, value in built.items() if name != CAPABILITIES}
    return stale_reason(version, {name: here.get(name, "unknown") for name in version})

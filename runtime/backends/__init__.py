"""Backends: what loads and runs engines. Each is imported only when it is used.

A backend module has one function ``open_backend``, with the arguments of the one here, which
returns a ``Backend``. ``_MODULES`` is the registry. Which engines are loaded, and what a
configuration runs, is decided above all backends, in ``load/``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError, choices_text

if TYPE_CHECKING:
    from ..bundle.engines import EngineSet
    from ..bundle.folder import Bundle

Arrays: TypeAlias = Mapping[str, NDArray[np.generic]]
Outputs: TypeAlias = dict[str, NDArray[Any]]
Run: TypeAlias = Callable[[Arrays], Outputs]
"""An engine's ``run``, or what does the same."""

_MODULES: dict[str, str] = {
    "onnxruntime-cpu": ".onnxruntime.cpu",
    "onnxruntime-cuda": ".onnxruntime.device",
    "tensorrt": ".tensorrt.backend",
    "tensorrt-rtx": ".tensorrt.backend",
}


class Engine(Protocol):
    """One graph, loaded. ``run`` may be called from several threads at once."""

    def run(self, inputs: Arrays) -> Outputs:
        """Returns the outputs by name, in new arrays that belong to the caller.

        The inputs are checked against the manifest's shapes and types already; they may be
        read only until it returns.

        Raises:
            InputError: Arrays lie on a GPU, and the engine does not take them from there.
            EngineError: The library failed.
        """

    def close(self) -> None:
        """Frees what only this engine holds. May be called again."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What the loaded engines of a family share, in words a user can act on.

    How the weights are held (``one mapped file``), who owns the scratch memory (``one arena``)
    and the threads (``one pool of 2``).
    """

    weights: str
    arena: str
    threads: str


class Backend(Protocol):
    """A library that runs the engines of one family.

    Attributes:
        name: The backend's name in the registry.
        threads: Threads that one call runs on; picks the row of the latency table.
    """

    name: str
    threads: int

    def load(self, graph: str) -> Engine:
        """Loads one graph's engine.

        Raises:
            DeviceMemoryError: The device is full.
            EngineError: The library refused it.
        """

    def sharing(self) -> Sharing:
        """Returns what the engines loaded so far share."""

    def close(self) -> None:
        """Frees what the engines share; called after every engine was closed."""


def comes_from(error: Exception, *libraries: str) -> bool:
    """Tells whether an exception is a library's or ours, and not what interrupted it.

    A signal's handler or another thread may raise anything into a call. What one of
    ``libraries``, by their packages, raises is of its own kinds or of Python's, and was raised
    by its own code, or by C code of ours. ``error`` is as it was caught.
    """
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    module = "" if place is None else str(place.tb_frame.f_globals.get("__name__"))
    # Ours is the runtime alone: what it was copied into raises what is the application's.
    packages = (__name__.rpartition(".")[0], *libraries)
    if not error.args:  # as one that another thread raised by its class: a library says why
        return False
    kind = type(error).__module__
    return _is_in(module, packages) and _is_in(kind, (*packages, "builtins"))


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return f"{module}.".startswith(tuple(f"{package}." for package in packages))


def open_backend(
    bundle: Bundle,
    engines: EngineSet,
    threads: int | None = None,
    device_bytes: int | None = None,
    quick: bool = False,
) -> Backend:
    """Returns the backend that ``engines`` names, imported now.

    ``threads`` are those of a call; None for its default. ``device_bytes`` is the most device
    memory that loaded engines may take; None for no limit. ``quick`` is as
    ``AdaptiveEngine.open`` takes it.

    Raises:
        BackendError: No such backend.
        BackendUnavailableError: Its library is not installed.
        StaleEngineError: The engines were built for another host.
    """
    if engines.backend not in _MODULES:
        raise BackendError(
            f"engines/{engines.target} needs the backend {engines.backend!r}, which this"
            f" skipc does not have. {choices_text(engines.backend, _MODULES)}"
        )
    module = importlib.import_module(_MODULES[engines.backend], __package__)
    opened: Backend = module.open_backend(bundle, engines, threads, device_bytes, quick)
    return opened

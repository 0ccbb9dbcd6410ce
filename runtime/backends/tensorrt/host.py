"""What TensorRT engines are keyed by: its version, the GPU, and the machine around it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from ..host import stale_reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..cuda import Cuda
    from .library import Library

_MODEL = Path("/proc/device-tree/model")

CAPABILITIES = "compute_capabilities"
"""Key of an engine set built ahead: every GPU generation that it runs on."""


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

"""The one error that TensorRT does not tell apart by itself: a full device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import EngineError
from ..cuda import DeviceMemoryError

if TYPE_CHECKING:
    from .library import Listener


def engine_error(heard: Listener, message: str, *, short: bool = False) -> EngineError:
    """Returns a ``DeviceMemoryError`` if the log speaks of memory, else an ``EngineError``.

    Args:
        heard: What TensorRT logged. It is silent where the application gave the process's
            logger before us.
        message: The error's text.
        short: Whether the device has less memory left than was wanted.
    """
    full = short or heard.out_of_memory()
    return DeviceMemoryError(message) if full else EngineError(message)

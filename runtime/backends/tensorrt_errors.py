"""The one error that TensorRT does not tell apart by itself: a full device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import EngineError
from .cuda import DeviceMemoryError

if TYPE_CHECKING:
    from .tensorrt_library import Listener


def engine_error(heard: Listener, message: str) -> EngineError:
    """Returns a ``DeviceMemoryError`` if the log speaks of memory, else an ``EngineError``."""
    return DeviceMemoryError(message) if heard.out_of_memory() else EngineError(message)

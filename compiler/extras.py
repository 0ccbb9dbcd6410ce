"""Optional dependencies: imported when used, with an error that names the extra."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from skipc.compiler.errors import ExtraMissingError
from skipc.runtime.errors import install_text

if TYPE_CHECKING:
    from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Returns the optional module (``onnx``), imported now, which ``extra`` of skipc installs.

    Raises:
        ExtraMissingError: The module's package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as cause:
        package = module.partition(".")[0]
        if cause.name is None or cause.name.partition(".")[0] != package:
            raise
        raise ExtraMissingError(
            f"{package!r} is needed here and is not installed."
            f" Install it with: {install_text(extra)}"
        ) from cause

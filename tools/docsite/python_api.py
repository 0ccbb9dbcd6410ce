"""The Python reference: one directive of mkdocstrings for each public name."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING

from skipc.tools.docsite.errors import DocsError

if TYPE_CHECKING:
    from types import ModuleType


def module_text(name: str) -> str:
    """Returns the directives for what a module offers, in alphabetical order.

    Args:
        name: A module; its ``__all__`` says what is public, without one every class and
            function that it defines and that has no leading underscore.

    Raises:
        DocsError: It cannot be imported.
    """
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise DocsError(f"marker 'site: module {name}': {error}.") from error
    return "\n".join(f"::: {_path(module, each)}\n" for each in _public(module))


def _path(module: ModuleType, name: str) -> str:
    """Returns where mkdocstrings finds a name; a module of the same name is in its way."""
    home: str = getattr(getattr(module, name), "__module__", "")
    return f"{home if home.endswith(f'.{name}') else module.__name__}.{name}"


def _public(module: ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    )

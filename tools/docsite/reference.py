"""What the site generates: the commands' help, and a directive for each public name."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING

import click

from skipc.runtime.errors import choices_text
from skipc.tools.docsite import DocsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


_PROGRAMS = {
    "skipc": ("skipc.tools.cli", "cli"),
    "trtbench": ("skipc.tools.trtbench.command", "command"),
}
_WIDTH = 88  # of what --help prints: fits the page without scrolling


def commands_text(program: str) -> str:
    """Returns what ``--help`` prints for a program and each of its commands, as Markdown.

    Raises:
        DocsError: There is no such program.
    """
    if program not in _PROGRAMS:
        raise DocsError(f"no program {program!r}. {choices_text(program, _PROGRAMS)}")
    module, name = _PROGRAMS[program]
    command: click.Command = getattr(importlib.import_module(module), name)
    return "\n".join(_sections(command, _context(command, program)))


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    # The environment's width would make two machines' pages differ.
    settings = {"terminal_width": _WIDTH, "max_content_width": _WIDTH}
    return click.Context(command, parent, name, **{**command.context_settings, **settings})


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _sections(inner, _context(inner, name, context))


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

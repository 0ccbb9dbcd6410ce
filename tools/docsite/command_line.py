"""The command line's reference, from the commands themselves."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

from skipc.runtime.errors import choices_text
from skipc.tools.docsite.errors import DocsError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAMS = {
    "skipc": ("skipc.tools.cli", "cli"),
    "trtbench": ("skipc.tools.trtbench.command", "command"),
}
_WIDTH = 88  # of what --help prints: fits the page without scrolling


def commands_text(program: str) -> str:
    """Returns what ``--help`` prints for a program and each of its commands, as Markdown.

    Args:
        program: ``skipc`` or ``trtbench``.

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

"""What the shell's tab key completes beside commands, options and paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from skipc.profiles import profile_names

if TYPE_CHECKING:
    from click import Context, Parameter


def complete_target(context: Context, parameter: Parameter, text: str) -> list[CompletionItem]:
    """Returns the targets whose names begin with ``text``; of none, it is a profile's path."""
    names = [name for name in profile_names() if name.startswith(text)]
    return [CompletionItem(name) for name in names] or [CompletionItem(text, type="file")]

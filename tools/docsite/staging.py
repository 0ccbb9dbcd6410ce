"""``docs/`` as mkdocs reads it: markers replaced, links made to fit the site."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from skipc.runtime.errors import choices_text
from skipc.tools.docsite.command_line import commands_text
from skipc.tools.docsite.errors import DocsError
from skipc.tools.docsite.links import fitted
from skipc.tools.docsite.python_api import module_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MARKER = re.compile(r"^<!-- site: (\w+) ?(\S*) -->$", re.MULTILINE)


def stage(root: Path, out: Path) -> None:
    """Writes the pages that mkdocs reads.

    Args:
        root: The checkout.
        out: The folder for them; replaced.

    Raises:
        DocsError: A page has an unknown marker, or a link that leads nowhere.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for path in sorted((root / "docs").iterdir()):
        if path.suffix == ".md":
            (out / path.name).write_text(page_text(root, path), encoding="utf-8")
        elif path.is_file():
            shutil.copyfile(path, out / path.name)
        else:
            shutil.copytree(path, out / path.name)


def page_text(root: Path, path: Path) -> str:
    """Returns a page of ``docs/`` as the site has it.

    Raises:
        DocsError: It has an unknown marker, or a link that leads nowhere.
    """

    def replaced(found: re.Match[str]) -> str:
        kind, argument = found.groups()
        if kind not in _GENERATED:
            raise DocsError(
                f"{path}: no marker 'site: {kind}'. {choices_text(kind, _GENERATED)}"
            )
        return _GENERATED[kind](root, argument)

    text = fitted(path.read_text(encoding="utf-8"), path, root)
    return _MARKER.sub(replaced, text)


def _commands(root: Path, argument: str) -> str:
    return commands_text(argument)


def _module(root: Path, argument: str) -> str:
    return module_text(argument)


def _file(root: Path, argument: str) -> str:
    path = root / argument
    if not path.is_file():
        raise DocsError(f"marker 'site: file {argument}': there is no such file.")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        # Without its title: the page has one of its own.
        return fitted(text, path, root).partition("\n")[2]
    return f"```{path.suffix[1:]}\n{text.rstrip()}\n```"


_GENERATED: dict[str, Callable[[Path, str], str]] = {
    "commands": _commands,
    "file": _file,
    "module": _module,
}

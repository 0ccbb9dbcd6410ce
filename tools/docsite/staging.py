"""``docs/`` as mkdocs reads it: markers replaced, links made to fit the site.

On the site are the pages of ``docs/`` and a few files from elsewhere; a link to any other file
of the repository becomes that file's path. A link called by its page's file name is called by
the page's title there.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.runtime.errors import choices_text
from skipc.tools.docsite import DocsError
from skipc.tools.docsite.reference import commands_text, module_text

if TYPE_CHECKING:
    from collections.abc import Callable


_FIGURES = "benchmarks"
"""Pages written by benchmarks; their pictures are on the site, too."""
_MARKER = re.compile(r"^<!-- site: (\w+) ?(\S*) -->$", re.MULTILINE)


def stage(root: Path, out: Path) -> None:
    """Writes the pages that mkdocs reads from the checkout ``root`` into a new folder ``out``.

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
    for path in sorted((root / _FIGURES).rglob("*.png")):
        there = out / path.relative_to(root)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, there)


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
    "commands": lambda root, argument: commands_text(argument),
    "file": _file,
    "module": lambda root, argument: module_text(argument),
}


# Files that are a page of the site under another name.
_PAGE_OF = {
    "CHANGELOG.md": "changelog.md",
    "benchmarks/budgets/results.md": "results.md",
    "benchmarks/policies/policies.md": "results.md",
    "benchmarks/results.md": "results.md",
    "benchmarks/trtbench/results.md": "results.md",
    "compiler/front.schema.json": "formats.md",
    "runtime/FORMAT.md": "bundle-format.md",
}
# A fence, a piece of code, or a link: the first two are passed as they are.
_PIECE = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]+`(?!\]))|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)


def fitted(text: str, path: Path, root: Path) -> str:
    """Returns a page's Markdown, of the file ``path``, with its links made to fit the site.

    Raises:
        DocsError: A link leads nowhere.
    """

    def one(found: re.Match[str]) -> str:
        if found["code"] or ":" in found["to"] or found["to"].startswith("#"):
            return found[0]
        return f"{found['image']}{_link(found['text'], found['to'], path, root)}"

    return _PIECE.sub(one, text)


def _link(text: str, target: str, path: Path, root: Path) -> str:
    file, sharp, anchor = target.partition("#")
    there = Path(os.path.normpath(path.parent / file))
    if not there.exists() or not there.is_relative_to(root):
        raise DocsError(f"{path}: the link to {target!r} leads nowhere.")
    name = there.relative_to(root).as_posix()
    if _PAGE_OF.get(name, path.name) != path.name:
        return f"[{text}]({_PAGE_OF[name]}{sharp}{anchor})"
    if name.startswith("docs/"):
        shown = _title(there) if text == there.name and there.suffix == ".md" else text
        return f"[{shown}]({name.removeprefix('docs/')}{sharp}{anchor})"
    if name.startswith(f"{_FIGURES}/") and there.suffix == ".png":
        return f"[{text}]({name})"
    bare = text.strip("`")
    # A link called by its file's name says nothing that the path does not.
    return f"`{name}`" if name.endswith(bare.rstrip("/")) else f"{text} (`{name}`)"


def _title(page: Path) -> str:
    heading, _, _ = page.read_text(encoding="utf-8").partition("\n")
    return heading.removeprefix("# ").strip()

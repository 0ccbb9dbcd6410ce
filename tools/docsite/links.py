"""Links of a page in the repository, made to fit the site.

On the site are the pages of ``docs/`` and a few files from elsewhere; a link to any other file
of the repository becomes that file's path. A link called by its page's file name is called by
the page's title there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from skipc.tools.docsite.errors import DocsError

# Files that are a page of the site under another name.
_PAGE_OF = {
    "CHANGELOG.md": "changelog.md",
    "benchmarks/budgets/results.md": "results.md",
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
    """Returns a page's text with its links made to fit the site.

    Args:
        text: The page, in Markdown.
        path: Its file, which relative links begin at.
        root: The checkout.

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
    bare = text.strip("`")
    # A link called by its file's name says nothing that the path does not.
    return f"`{name}`" if name.endswith(bare.rstrip("/")) else f"{text} (`{name}`)"


def _title(page: Path) -> str:
    heading, _, _ = page.read_text(encoding="utf-8").partition("\n")
    return heading.removeprefix("# ").strip()

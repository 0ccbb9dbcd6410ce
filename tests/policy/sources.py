"""The repository's Python files, each read and parsed once: who looks shares a process."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOOR = (3, 10)
"""The oldest Python: that of JetPack 6."""


@cache
def text_of(file: Path | str) -> str:
    """Returns the text of a file, named from the root."""
    return (ROOT / file).read_text(encoding="utf-8")


@cache
def nodes_of(source: str) -> tuple[ast.AST, ...]:
    """Returns all nodes of a source, as ``ast.walk`` does: the first is the module.

    Raises:
        SyntaxError: It is no Python, or needs a newer one than the floor.
    """
    return tuple(ast.walk(ast.parse(source, feature_version=FLOOR)))

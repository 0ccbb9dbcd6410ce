"""Sizes that follow from those of free dimensions, such as ``(T-1)//2+1``."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping
from functools import lru_cache

UNKNOWN = "?"
"""A size that only the engine can tell."""

_TEXT = re.compile(r"[A-Za-z0-9_+\-*/() ]{1,200}")
_OPERATIONS = {
    ast.Add: operator.add,
    ast.FloorDiv: operator.floordiv,
    ast.Mult: operator.mul,
    ast.Sub: operator.sub,
}


@lru_cache(maxsize=4096)
def names_in(text: str) -> frozenset[str] | None:
    """Returns the dimensions that a size follows from; None where the text is no size."""
    tree = _parsed(text)
    if tree is None:
        return None
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    try:
        _value(tree, dict.fromkeys(names, 1))
    except ValueError:
        return None
    except ZeroDivisionError:
        pass
    return frozenset(names)


def size_at(text: str, sizes: Mapping[str, int]) -> int:
    """Returns the size that a text means at some sizes; -1 where they do not tell."""
    known = sizes.get(text)
    if known is not None:
        return known
    tree = _parsed(text)
    try:
        return -1 if tree is None else max(_value(tree, sizes), -1)
    except (ValueError, KeyError, ZeroDivisionError):
        return -1


@lru_cache(maxsize=4096)
def _parsed(text: str) -> ast.expr | None:
    if not _TEXT.fullmatch(text):
        return None
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def _value(node: ast.expr, sizes: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return int(number)
        case ast.Name(id=name):
            return sizes[name]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, sizes)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            operation = _OPERATIONS[type(op)]
            return int(operation(_value(left, sizes), _value(right, sizes)))
    raise ValueError(ast.dump(node))

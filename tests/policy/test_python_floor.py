"""Python 3.10, the Python of JetPack 6, is the floor: its syntax, its standard library."""

from __future__ import annotations

import ast
import re

import pytest

from tests.policy.sources import FLOOR, ROOT, nodes_of, text_of

FOLDERS = ("compiler", "runtime", "profiles", "tools", "tests")
# What the standard library got later, as far as one may be tempted.
LATER_MODULES = {"tomllib", "compression", "annotationlib", "concurrent.interpreters"}
LATER_NAMES = {
    "asyncio": {"TaskGroup", "timeout", "Runner"},
    "contextlib": {"chdir"},
    "datetime": {"UTC"},
    "enum": {"StrEnum", "ReprEnum", "verify", "EnumCheck", "member", "nonmember"},
    "hashlib": {"file_digest"},
    "inspect": {"getmembers_static"},
    "itertools": {"batched"},
    "logging": {"getLevelNamesMapping", "getHandlerByName"},
    "operator": {"call"},
    "typing": {
        *("Self", "assert_never", "assert_type", "reveal_type", "LiteralString", "Never"),
        *("NotRequired", "Required", "TypeVarTuple", "Unpack", "dataclass_transform"),
        *("override", "TypeAliasType", "ReadOnly", "TypeIs", "get_protocol_members"),
    },
    "types": {"get_original_bases"},
    "warnings": {"deprecated"},
}
LATER_BUILTINS = {"BaseExceptionGroup", "ExceptionGroup", "PythonFinalizationError"}
LATER_METHODS = {"add_note", "walk", "is_junction", "full_match"}  # of exceptions and Path


def later_names(source):
    """Yields (line, name) of what Python 3.10 lacks, unless a version test guards it."""
    guarded = {
        id(inner)
        for node in (nodes_of(source) if "version_info" in source else ())
        if isinstance(node, ast.If) and "sys.version_info" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in nodes_of(source):
        if id(node) not in guarded:
            yield from _later(node)


def _later(node):
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name in LATER_MODULES:
                yield node.lineno, alias.name
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        if node.module in LATER_MODULES:
            yield node.lineno, node.module
        for alias in node.names:
            if alias.name in LATER_NAMES.get(node.module, ()):
                yield node.lineno, f"{node.module}.{alias.name}"
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.attr in LATER_NAMES.get(node.value.id, ()):
            yield node.lineno, f"{node.value.id}.{node.attr}"
    elif isinstance(node, ast.Name) and node.id in LATER_BUILTINS:
        yield node.lineno, node.id
    if isinstance(node, ast.Attribute) and node.attr in LATER_METHODS:
        value = node.value
        if not (isinstance(value, ast.Name) and value.id in ("ast", "os")):
            yield node.lineno, f".{node.attr}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_source_is_python_3_10(folder):
    files = sorted(f.relative_to(ROOT).as_posix() for f in (ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        assert list(later_names(text_of(file))) == [], file  # parsed as Python 3.10 on the way


@pytest.mark.parametrize(
    "bad",
    [
        "import tomllib",
        "from enum import StrEnum",
        "import itertools\nitertools.batched(x, 2)",
        "raise ExceptionGroup('a', [])",
        "try:\n    f()\nexcept E as e:\n    e.add_note('x')",
        "if TYPE_CHECKING:\n    from typing import Self",
    ],
)
def test_check_finds_what_is_later(bad):
    assert list(later_names(bad))


def test_check_accepts_a_version_test():
    good = (
        "import sys, os\nif sys.version_info >= (3, 11):\n    import tomllib\nelse:\n"
        "    import tomli as tomllib\nos.walk('.')"
    )
    assert list(later_names(good)) == []


def test_newer_syntax_is_refused_by_the_parser():
    with pytest.raises(SyntaxError):
        nodes_of("try:\n    f()\nexcept* E:\n    pass")


def test_floor_is_the_same_everywhere():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.10"' in text
    assert re.search(r'python_version = "3\.10"', text)
    assert 'target-version = "py310"' in text
    assert str(FLOOR) in (ROOT / "Makefile").read_text(encoding="utf-8")

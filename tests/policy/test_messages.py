"""Slips in message texts that neither types nor tests of single errors find."""

from __future__ import annotations

import ast
import itertools
import re
from functools import cache

import pytest

from tests.policy.sources import ROOT, nodes_of, text_of

FILES = sorted(
    file.relative_to(ROOT).as_posix()
    for folder in ("compiler", "runtime", "profiles", "tools")
    for file in (ROOT / folder).rglob("*.py")
)
# Strings that mean their braces: templates for str.format and the like.
FIELD = re.compile(r"\{[a-z_][\w.]*(\[[^\]]*\])?(![rsa])?(:[^{}]*)?\}")


@cache
def raises(source):
    """Returns the raises and the handlers in a source, which the checks look through."""
    return [
        node for node in nodes_of(source) if isinstance(node, (ast.Raise, ast.ExceptHandler))
    ]


# A literal that ends a line with a word, a bracket or a sentence (a semicolon: likely code),
# and one that begins the next line with a word.
ENDS = re.compile(r"""[\w.,:!?)\]}]["']\s*(#.*)?$""")
BEGINS = re.compile(r"""\s*f?["'][A-Za-z0-9]""")


def joins(source):
    """Yields (line, text) where two literals meet without white space between them."""
    for line, (first, then) in enumerate(itertools.pairwise(source.splitlines()), 2):
        if BEGINS.match(then) and ENDS.search(first):
            yield line, f"{first.strip()[-20:]} | {then.strip()[:20]}"


def plain_fields(source):
    """Yields (line, text) of a plain string in a raise that looks like an f-string."""
    for node in raises(source):
        if not isinstance(node, ast.Raise) or node.exc is None:
            continue
        parts = list(ast.walk(node.exc))
        formatted = {
            id(value)
            for part in parts
            if isinstance(part, ast.JoinedStr)
            for value in part.values
        }
        for part in parts:
            plain = isinstance(part, ast.Constant) and isinstance(part.value, str)
            if plain and id(part) not in formatted and FIELD.search(part.value):
                yield part.lineno, part.value


def bare_raises(source):
    """Yields (line, name) where an exception is raised without a text."""
    for node in raises(source):
        if not isinstance(node, ast.Raise) or node.exc is None:
            continue
        exc = node.exc
        if isinstance(exc, ast.Call) and not exc.args and not exc.keywords:
            yield node.lineno, ast.unparse(exc)
        elif isinstance(exc, ast.Name) and exc.id[0].isupper() and exc.id != "StopIteration":
            yield node.lineno, exc.id


def lost_causes(source):
    """Yields (line, text) where a handler raises a new error and drops the old one."""
    for node in raises(source):
        if isinstance(node, ast.ExceptHandler):
            for inner in ast.walk(node):
                if (
                    isinstance(inner, ast.Raise)
                    and inner.exc is not None
                    and inner.cause is None
                ):
                    yield inner.lineno, ast.unparse(inner.exc)[:60]


CHECKS = [joins, plain_fields, bare_raises, lost_causes]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_messages_are_free_of(check):
    slips = [f"{file}:{line}: {text}" for file in FILES for line, text in check(text_of(file))]
    assert slips == []


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (joins, 'raise E("one word"\n        "and another")'),
        (joins, 'raise E(f"found {x}."\n        "Use y.")'),
        (joins, 'raise E(f"found {x}"\n        f"and {y}")'),
        (plain_fields, 'raise E("found {value!r}")'),
        (plain_fields, 'raise E(f"{a}" + "found {type(x).name}" + "{b}")'),
        (bare_raises, "raise E()"),
        (bare_raises, "raise ValueError"),
        (lost_causes, "try:\n    f()\nexcept OSError as e:\n    raise E('x')"),
    ],
)
def test_check_finds_a_slip(check, bad):
    assert list(check(bad))


@pytest.mark.parametrize("check", CHECKS)
def test_check_accepts_a_good_message(check):
    good = """
try:
    f()
except OSError as cause:
    raise E(f"{path}: cannot be read: {cause}."  # a reason
        " Use y.") from cause
except TypeError:
    raise
x = ["a", "b"]
"""
    assert list(check(good)) == []


# What another part of the program, or a library, said: it may end without a stop.
TOLD = re.compile(r"\b(cause|error|failure|full|message|reason|reasons|stale)\b")


def glued(source):
    """Yields (line, text) where what was told is followed by another sentence."""
    for node in raises(source):
        if not isinstance(node, ast.Raise):
            continue
        for text in ast.walk(node):
            if not isinstance(text, ast.JoinedStr):
                continue
            for told, then in itertools.pairwise(text.values):
                if (
                    isinstance(told, ast.FormattedValue)
                    and isinstance(then, ast.Constant)
                    and re.match(r" [A-Z`][a-z]", then.value)
                    and TOLD.search(ast.unparse(told.value))
                    and not ast.unparse(told.value).startswith(("sentence(", "choices_text("))
                ):
                    yield text.lineno, ast.unparse(told.value) + then.value[:20]


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("raise E(f'no engine: {reason} Run it there.')", 1),
        ("raise E(f'no engine: {str(cause)} Run it there.')", 1),
        ("raise E(f'no engine: {sentence(reason)} Run it there.')", 0),
        ("raise E(f'no engine: {reason}. Run it there.')", 0),
        ("raise E(f'no {name} Runtime.')", 0),
    ],
)
def test_glued_sentences_are_found(source, count):
    assert len([*glued(source)]) == count


def test_what_was_told_ends_before_the_next_sentence_begins():
    found = [
        f"{file}:{line}: {text!r}: wrap it in sentence()"
        for file in FILES
        for line, text in glued(text_of(file))
    ]
    assert found == []

"""Run in a process of its own: prints a binding's classes, methods and parameters as JSON."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from typing import Any


def main() -> None:
    module = importlib.import_module(sys.argv[1])
    print(json.dumps({"version": module.__version__, "classes": classes(module)}))


def classes(module: Any) -> dict[str, dict[str, list[list[int]] | None]]:
    """Returns per class its members: for methods the parameter counts of each overload."""
    found = {}
    for name, value in vars(module).items():
        if inspect.isclass(value):
            found[name] = members(value)
            for inner, nested in vars(value).items():
                if inspect.isclass(nested):
                    found[f"{name}.{inner}"] = members(nested)
    found[""] = {name: [] for name, value in vars(module).items() if callable(value)}
    return found


def members(value: type) -> dict[str, list[list[int]] | None]:
    found: dict[str, list[list[int]] | None] = {}
    for name in dir(value):
        member = inspect.getattr_static(value, name)
        document = getattr(getattr(value, name, None), "__doc__", None) or ""
        method = callable(getattr(value, name, None)) and not isinstance(member, property)
        found[name] = overloads(name, document) if method else None
    return found


def overloads(name: str, document: str) -> list[list[int]]:
    """Returns, per overload that the docstring shows, the least and the most parameters."""
    pattern = rf"^(?:\d+\. )?{re.escape(name)}\((?P<inner>.*)\) -> "
    found = []
    for match in re.finditer(pattern, document, re.MULTILINE):
        if match["inner"].startswith("*args"):
            continue
        parameters = split(match["inner"])[1:]  # without self
        required = [parameter for parameter in parameters if "=" not in parameter]
        found.append([len(required), len(parameters)])
    return found


def split(text: str) -> list[str]:
    """Splits parameters at commas that are in no brackets."""
    parts, depth, last = [], 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}>" and text[index - 1] != "-")
        if letter == "," and depth == 0:
            parts.append(text[last:index])
            last = index + 1
    parts.append(text[last:])
    return [part.strip() for part in parts if part.strip()]


if __name__ == "__main__":
    main()

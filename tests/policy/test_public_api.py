"""What the packages say is public is what they have, and all of it is documented."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import skipc.runtime

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(skipc.runtime.__path__, "skipc.runtime.")
)


def test_all_is_sorted_and_holds_every_public_name():
    names = [
        name
        for name, value in vars(skipc.runtime).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    ]
    assert sorted(skipc.runtime.__all__) == sorted(names)
    assert len(set(skipc.runtime.__all__)) == len(skipc.runtime.__all__)


def test_every_error_of_the_runtime_is_public():
    errors = importlib.import_module("skipc.runtime.errors")
    classes = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert set(classes) <= set(skipc.runtime.__all__)


def test_every_error_is_drawn_in_the_tree():
    errors = importlib.import_module("skipc.runtime.errors")
    classes = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert [name for name in classes if name not in errors.__doc__] == []


def _own(module):
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        yield f"{module.__name__}.{name}", value
        if inspect.isclass(value):
            for part, member in vars(value).items():
                function = inspect.unwrap(getattr(member, "__func__", member))
                if not part.startswith("_") and (
                    inspect.isfunction(function) or isinstance(member, property)
                ):
                    yield f"{module.__name__}.{name}.{part}", member


@pytest.mark.parametrize("name", ["skipc.runtime", *MODULES])
def test_everything_public_has_a_docstring(name):
    module = importlib.import_module(name)
    bare = [path for path, value in _own(module) if not inspect.getdoc(value)]
    assert module.__doc__
    # A dataclass or Protocol gets a generated text where none was written.
    generated = [
        path
        for path, value in _own(module)
        if inspect.isclass(value) and (value.__doc__ or "").startswith(f"{value.__name__}(")
    ]
    assert bare + generated == []

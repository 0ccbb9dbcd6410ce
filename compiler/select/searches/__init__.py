"""Ways to choose what to evaluate, behind one small interface.

A search is a function ``search(space, evaluate, seed)``: it evaluates configurations until it
has nothing more to try, or ``evaluate`` ends it by an exception of its own. The same seed
gives the same configurations. ``_SEARCHES`` is the registry: the module beside this one that
holds the function of that name, imported when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from skipc.compiler.errors import SelectError
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from skipc.compiler.select.archive import Archive
    from skipc.compiler.select.space import Space

    Search = Callable[[Space, Archive, int], None]

DEFAULT_SEARCH = "surrogate"

_SEARCHES = {
    DEFAULT_SEARCH: "surrogate",
    "greedy": "stepwise",
    "rank": "stepwise",
    "beam": "stepwise",
    "nsga2": "nsga2",
    "exhaustive": "stepwise",
    "stages": "stages",
}


def search_names() -> tuple[str, ...]:
    """Returns the names of the searches, the default first."""
    return tuple(_SEARCHES)


def find_search(name: str) -> Search:
    """Returns the search of that name.

    Raises:
        SelectError: There is none.
    """
    if name not in _SEARCHES:
        raise SelectError(f"unknown search {name!r}. {choices_text(name, _SEARCHES)}")
    module = importlib.import_module(f".{_SEARCHES[name]}", __package__)
    search: Search = getattr(module, name)
    return search

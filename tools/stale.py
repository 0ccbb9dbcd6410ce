"""Rebuilding engines that were built for another host, where this one can."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from skipc.compiler.targets import finish, unavailable_reason
from skipc.profiles import load_profile
from skipc.runtime.errors import SkipcError, StaleEngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skipc.tools.console import Steps

T = TypeVar("T")


def with_fresh_engines(bundle: Path, target: str, step: Steps, action: Callable[[], T]) -> T:
    """Returns what ``action`` does; if the engines are stale, rebuilds them first.

    Args:
        bundle: The bundle's folder.
        target: Whose engines to rebuild: a profile's name, or a path to one.
        step: Told of the rebuilding.
        action: Opens the bundle; called a second time after the rebuilding.

    Raises:
        StaleEngineError: They cannot be rebuilt here; the message says what is missing.
        SkipcError: What ``action`` and ``finish`` raise.
    """
    try:
        return action()
    except StaleEngineError as stale:
        reason = _unavailable_reason(target)
        if reason is not None:
            raise StaleEngineError(f"{stale} They cannot be rebuilt here: {reason}") from stale
        step.note(f"{stale} Doing so now.")
        finish(bundle, target, step)
    return action()


def _unavailable_reason(target: str) -> str | None:
    try:
        return unavailable_reason(load_profile(target))
    except SkipcError as reason:
        return str(reason)

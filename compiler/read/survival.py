"""Survival probabilities of stochastic depth, read off a module tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_CLASS_WORDS = ("droppath", "stochasticdepth", "dropconnect", "droplayer")
"""Parts of the class names that libraries give to stochastic depth, in lower case."""

_DROP_ATTRIBUTES = ("drop_prob", "drop_rate", "drop_path_prob", "drop_path", "p")
_SURVIVAL_ATTRIBUTES = ("survival_prob", "survival_probability", "survival_rate", "keep_prob")


def survival_from_modules(module: nn.Module) -> dict[str, float]:
    """Returns the survival probability of every stochastic-depth module, by module path.

    Known by their class name (DropPath, StochasticDepth, DropConnect …) and by the
    attribute that holds the probability. One that drops nothing (0 or None) survives with
    probability 1. The unit is a module around (``blocks.3`` of ``blocks.3.drop``).
    """
    survival: dict[str, float] = {}
    for path, child in module.named_modules():
        name = type(child).__name__.lower().replace("_", "")
        if any(word in name for word in _CLASS_WORDS):
            probability = _survival(child)
            if probability is not None:
                survival[path] = probability
    return survival


def _survival(module: nn.Module) -> float | None:
    for attribute in _SURVIVAL_ATTRIBUTES:
        value = _probability(getattr(module, attribute, None))
        if value is not None:
            return value
    for attribute in _DROP_ATTRIBUTES:
        if hasattr(module, attribute):
            held: object = getattr(module, attribute)
            value = 0.0 if held is None else _probability(held)
            if value is not None:
                return 1.0 - value
    return None


def _probability(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0.0 <= value <= 1.0 else None

"""Our own networks, which a checkpoint may name as ``skipc:NAME``.

Only the networks: what trains them is in ``skipc.tools.training``. ``RECIPES`` is the
registry.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.errors import CheckpointError
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.runtime.errors import choices_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


@dataclass(frozen=True, slots=True)
class Recipe:
    """A network of ours: the module here that defines it, its class, and what goes into it.

    ``inputs`` are those of the network as its arguments' defaults make it, at a batch of 1.
    """

    module: str
    factory: str
    inputs: tuple[TensorSpec, ...]

    def load(self) -> Callable[..., nn.Module]:
        """Returns the factory; imports torch."""
        factory: Callable[..., nn.Module] = getattr(
            importlib.import_module(self.module, __package__), self.factory
        )
        return factory


_DIGITS = (TensorSpec("images", "float32", (1, 1, 8, 8)),)

RECIPES: dict[str, Recipe] = {
    "resnet": Recipe(".resnet", "ResNet", _DIGITS),
    "vit": Recipe(".vit", "ViT", _DIGITS),
    "subpath-resnet": Recipe(".sub_paths", "SubPathResNet", _DIGITS),
    "subpath-vit": Recipe(".sub_paths", "SubPathViT", _DIGITS),
}


def find_recipe(name: str) -> Recipe:
    """Returns the recipe of that name; a ``CheckpointError`` lists those that there are."""
    if name not in RECIPES:
        raise CheckpointError(
            f"unknown recipe 'skipc:{name}'. {choices_text(name, RECIPES)} Recipes are written"
            " skipc:NAME."
        )
    return RECIPES[name]

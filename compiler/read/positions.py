"""A network whose positions were learnt for one size of images, made to fit another.

Vision transformers add a learnt vector to each patch. At another size there are more patches
or fewer, and whoever wrote the network says how the vectors are interpolated. That is done
here once, by their own code, so that the graph at that size holds numbers, and no resize:

- A network with a method ``set_input_size(img_size=(height, width))`` is asked by it, as
  timm's are, and our own.
- Where parts of a network have a method ``interpolate_pos_encoding``, as transformers' have,
  what it returns at that size takes its place; ``forward`` is told to ask it.
- torchvision's have a function that interpolates the weights.
"""

from __future__ import annotations

import copy
import inspect
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from skipc.compiler.network import Size

_METHOD = "interpolate_pos_encoding"
_TABLE = "positions_at_size"
_FUNCTION = "interpolate_embeddings"


def at_size(module: nn.Module, size: Size, inputs: Mapping[str, torch.Tensor]) -> nn.Module:
    """Returns a network whose positions are those of another size of its images.

    A copy that shares all other weights; the network itself where nothing depends on the size.

    Args:
        module: The network, in eval mode.
        size: Height and width.
        inputs: Some inputs of that size.

    Raises:
        Exception: Whatever the network's own code says of a size that it cannot.
    """
    made: nn.Module
    if callable(getattr(module, "set_input_size", None)):
        made = _copied(module)
        made.set_input_size(img_size=size)  # type: ignore[operator]
    elif any(callable(getattr(part, _METHOD, None)) for part in module.modules()):
        made = _asked(_copied(module), inputs)
    elif hasattr(sys.modules.get(type(module).__module__), _FUNCTION):
        made = _of_torchvision(_copied(module), size)
    else:
        made = module
    return made


def _copied(module: nn.Module) -> Any:
    """Returns a copy that shares the tensors, so that weights are stored once."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def _asked(made: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    """Replaces what interpolates positions by what it returns for some inputs."""
    if _METHOD in inspect.signature(made.forward).parameters:
        made.forward = partial(made.forward, **{_METHOD: True})
    found: dict[nn.Module, torch.Tensor] = {}

    def remember(part: nn.Module, method: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        found[part] = method(*args, **kwargs)
        return found[part]

    parts = [part for part in made.modules() if callable(getattr(part, _METHOD, None))]
    for part in parts:
        setattr(part, _METHOD, partial(remember, part, getattr(part, _METHOD)))
    made(**inputs)
    for part in parts:
        delattr(part, _METHOD)
        if part in found:
            part.register_buffer(_TABLE, found[part].detach().clone(), persistent=False)
            setattr(part, _METHOD, partial(_table, part))
    return made


def _table(part: nn.Module, *args: object, **kwargs: object) -> torch.Tensor:
    """Returns the positions, whatever the method would have been told."""
    del args, kwargs
    found: torch.Tensor = getattr(part, _TABLE)
    return found


def _of_torchvision(made: Any, size: Size) -> Any:
    """Interpolates positions as torchvision does; it knows squares alone."""
    from torch import nn

    interpolate: Any = getattr(sys.modules[type(made).__module__], _FUNCTION)
    height, width = size
    if height != width:
        raise ValueError("torchvision interpolates positions of squares alone.")
    key = "encoder.pos_embedding"
    weights = interpolate(height, made.patch_size, {key: made.encoder.pos_embedding})
    made.encoder.pos_embedding = nn.Parameter(weights[key].detach())
    made.image_size, made.seq_length = height, weights[key].shape[1]
    return made

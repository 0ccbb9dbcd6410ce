"""Heads with random weights for networks of the zoo, and what they answer by other means."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from skipc.compiler.axes.exit_places import places_of
from skipc.compiler.heads import Head
from tests.zoo import NETS, exported, module_of
from tests.zoo.net import tensors, zeroed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from skipc.compiler.network import Network
    from skipc.compiler.verify.numerics import Case


def with_heads(name: str, units: Iterable[str]) -> Network:
    """Returns a network of the zoo with a random head after each of some units."""
    network, _ = exported(name)
    return replace(network, heads=heads_for(network, units))


def heads_for(network: Network, units: Iterable[str]) -> tuple[Head, ...]:
    """Returns a random head for each of some units."""
    rng = np.random.default_rng(0)
    places = {place.name: place for place in places_of(network)}
    classes = network.outputs[0].shape[1]
    return tuple(
        Head(
            name,
            rng.normal(size=(classes, places[name].channels)).astype(np.float32),
            rng.normal(size=classes).astype(np.float32),
            accuracy=0.5,
            temperature=1.0,
        )
        for name in units
    )


def eager_answers(
    name: str,
    streams: Mapping[str, str],
    heads: Iterable[Head],
    skipped: Iterable[str],
    case: Case,
) -> dict[str, NDArray[Any]]:
    """Returns what eager PyTorch answers at each head, and at the end under ``end``.

    Args:
        name: The network's.
        streams: By head the module that returns the stream which it reads.
        heads: The heads.
        skipped: The units that are zero.
        case: The inputs.
    """
    net = NETS[name]
    module = module_of(net)
    seen: dict[str, torch.Tensor] = {}
    with ExitStack() as stack, torch.no_grad():
        for unit in skipped:
            for where in net.units[unit].split("+"):
                stack.enter_context(zeroed(module, where))
        for head, path in streams.items():

            def keep(_module: object, _args: object, value: object, head: str = head) -> None:
                seen[head] = value[0] if isinstance(value, tuple) else value  # type: ignore[assignment]

            handle = module.get_submodule(path).register_forward_hook(keep)
            stack.callback(handle.remove)
        inputs = {key: torch.tensor(array) for key, array in case.items()}
        (end,) = tensors(module(**inputs), net.output)
    answers = {"end": end.numpy()}
    for head in heads:
        stream = seen[head.name]
        mean = stream.mean((2, 3)) if stream.ndim == 4 else stream.mean(1)
        layer = torch.from_numpy(head.weight), torch.from_numpy(head.bias)
        answers[head.name] = torch.nn.functional.linear(mean, *layer).numpy()
    return answers

"""What a network of the zoo is, and its reference: eager PyTorch with zeroing hooks."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from skipc.compiler.verify.golden import draw_inputs
from skipc.runtime.bundle.tensors import BATCH, Dimension, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

Case = dict[str, "NDArray[Any]"]

IMAGE = (TensorSpec("x", "float32", (1, 3, 16, 16)),)


@dataclass(frozen=True)
class Net:
    """One network.

    Attributes:
        name: Its name in test ids.
        build: Returns the module; called after seeding.
        units: The expected units in network order; for each the module whose output is zero
            when the unit is skipped (``path@1`` is the second call of ``path``, ``a+b`` two
            modules).
        inputs: The network's inputs.
        rejected: For each join that is no unit, a fragment of the reason.
        high: Exclusive upper bound of whole-number inputs.
        output: The output to keep.
        batch: The dynamic batch.
    """

    name: str
    build: Callable[[], nn.Module]
    units: Mapping[str, str]
    inputs: tuple[TensorSpec, ...] = IMAGE
    rejected: tuple[str, ...] = ()
    high: Mapping[str, int] = field(default_factory=dict)
    output: str | None = None
    dimensions: tuple[Dimension, ...] = ()


@cache
def _module(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = build().eval()
    randomise(module)
    return module


def module_of(net: Net) -> nn.Module:
    """Returns the network in eval mode, the same object on every call."""
    return _module(net.build)


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Makes every bias, scale and statistic a number of its own: no zeros, no ones."""
    generator = torch.Generator().manual_seed(1)
    for tensor in module.parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim <= 1:
            tensor.add_(0.2 * noise)
        elif tensor.numel() and bool((tensor == tensor.flatten()[0]).all()):
            tensor.add_(0.1 * noise)
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            assert child.running_mean is not None
            assert child.running_var is not None
            child.running_mean.normal_(0, 0.2, generator=generator)
            child.running_var.uniform_(0.5, 2.0, generator=generator)


def case_for(net: Net, seed: int = 0, batch: int = 2) -> Case:
    """Returns one array per input."""
    return draw_inputs(net.inputs, {BATCH: batch}, seed, dict(net.high))


def eager_outputs(net: Net, skipped: Iterable[str], case: Case) -> list[NDArray[Any]]:
    """Returns the tensors that eager PyTorch returns with the named units zeroed."""
    module = module_of(net)
    inputs = {name: torch.tensor(array) for name, array in case.items()}
    with ExitStack() as stack, torch.no_grad():
        for unit in skipped:
            for where in net.units[unit].split("+"):
                stack.enter_context(zeroed(module, where))
        result = module(**inputs)
    return [value.numpy() for value in tensors(result, net.output)]


@contextmanager
def zeroed(module: nn.Module, where: str) -> Iterator[None]:
    """Lets what a module returns be zero: ``PATH``, or ``PATH@N`` for its call number N."""
    path, _, call = where.partition("@")
    wanted = int(call) if call else None
    calls = 0

    def hook(_module: nn.Module, _args: object, output: object) -> object:
        nonlocal calls
        calls += 1
        return output if wanted not in (None, calls - 1) else _zeros(output)

    handle = module.get_submodule(path).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _zeros(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return torch.zeros_like(value)
    if isinstance(value, tuple):
        return tuple(_zeros(item) for item in value)
    return value


def tensors(value: object, output: str | None = None) -> list[torch.Tensor]:
    """Returns the tensors of a forward's result, the chosen or the logits alone."""
    if isinstance(value, torch.Tensor):
        return [value]
    if hasattr(value, "items"):
        fields = dict(value.items())
        wanted = output or ("logits" if "logits" in fields else None)
        chosen = [fields[wanted]] if wanted else list(fields.values())
        return [item for item in chosen if isinstance(item, torch.Tensor)]
    assert isinstance(value, (tuple, list))
    return [item for item in value if isinstance(item, torch.Tensor)]


def assert_close(actual: NDArray[Any], expected: NDArray[Any], share: float = 1e-4) -> None:
    """Asserts that two arrays agree up to a share of the expected one's range."""
    assert actual.shape == expected.shape
    spread = float(expected.max() - expected.min()) or 1.0
    assert float(np.abs(actual - expected).max()) <= share * spread

"""``eager`` and ``compile``: PyTorch on the CPU running the same configuration."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.tools.trtbench.baselines.baseline import BaselineUnavailableError, Loaded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skipc.runtime.backends import Arrays
    from skipc.tools.trtbench.baselines.baseline import Ground
    from skipc.tools.trtbench.baselines.torch_network import TorchNetwork

Module = Callable[..., Any]
"""Takes tensors, returns a tuple of tensors."""

_LONGEST_REASON = 300


class ModuleRuns:
    """A module called with arrays; satisfies ``Runs``.

    Args:
        module: What is called.
        inputs: The names of its inputs, in its order.
        outputs: The names of its outputs, in its order.
    """

    def __init__(
        self, module: Module, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> None:
        import torch

        self._torch = torch
        self._module = module
        self._inputs = inputs
        self._outputs = outputs

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name. Arrays become tensors, and back, without a copy."""
        torch = self._torch
        # torch warns of arrays that may not be written.
        arrays = [np.require(inputs[name], requirements=("C", "W")) for name in self._inputs]
        with torch.inference_mode():
            found = self._module(*map(torch.from_numpy, arrays))
        return {
            name: tensor.numpy() for name, tensor in zip(self._outputs, found, strict=True)
        }


class CompiledRuns:
    """A module that its first call compiles; satisfies ``Runs``.

    Args:
        module: The module.
        inputs: The names of its inputs, in its order.
        outputs: The names of its outputs, in its order.
        configuration: What it is called in messages.
    """

    def __init__(
        self,
        module: Module,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        configuration: str,
    ) -> None:
        self._plain = module, inputs, outputs
        self._compiled: ModuleRuns | None = None
        self._configuration = configuration

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Returns the outputs by name.

        Raises:
            BaselineUnavailableError: It cannot be compiled here.
        """
        if self._compiled is not None:
            return self._compiled.run(inputs)
        try:
            return self._first(inputs)
        except Exception as cause:  # the compiler's, and those of the compilers that it calls
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
            reason = " ".join(lines)[:_LONGEST_REASON]
            raise BaselineUnavailableError(
                f"torch.compile fails for configuration {self._configuration!r}:"
                f" {type(cause).__name__}: {reason}"
            ) from cause

    def _first(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        import torch

        module, *names = self._plain
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's, about itself
            compiled = ModuleRuns(torch.compile(module), *names)
            found = compiled.run(inputs)
        self._compiled = compiled
        return found


class Eager:
    """The network in PyTorch, operator by operator; satisfies ``Baseline``.

    PyTorch's number of threads is the process's: it is set here and restored by ``close``.
    """

    def __init__(self, ground: Ground) -> None:
        import torch

        assert ground.network is not None  # the options see to it
        self._network: TorchNetwork = ground.network
        self._loaded = False
        self._before = torch.get_num_threads()
        torch.set_num_threads(ground.threads)

    def load(self, configuration: str) -> Loaded:
        """Returns the configuration; the first load is that of the checkpoint.

        Raises:
            CompileError: The checkpoint does not fit the bundle.
            BaselineUnavailableError: PyTorch would not compute the same.
        """
        runs = ModuleRuns(*self._network.module(configuration))
        load_ms = None if self._loaded else self._network.read_ms
        self._loaded = True
        return Loaded(runs, load_ms)

    def close(self) -> None:
        """Restores PyTorch's number of threads."""
        import torch

        torch.set_num_threads(self._before)


class Compiled(Eager):
    """The same under ``torch.compile``, which compiles in the first call."""

    def load(self, configuration: str) -> Loaded:
        """Returns the configuration, not compiled yet.

        Raises:
            CompileError: The checkpoint does not fit the bundle.
            BaselineUnavailableError: PyTorch would not compute the same.
        """
        runs = CompiledRuns(*self._network.module(configuration), configuration)
        load_ms = None if self._loaded else self._network.read_ms
        self._loaded = True
        return Loaded(runs, load_ms)

"""What a baseline is: something else that runs a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.runtime import Bundle
    from skipc.runtime.backends import Arrays
    from skipc.tools.trtbench.baselines.torch_network import TorchNetwork


class BaselineUnavailableError(Exception):
    """A baseline cannot run this family here; the message says why.

    No mistake of the user's: the others are measured, and the reason is told.
    """


class Runs(Protocol):
    """One configuration of a baseline, loaded."""

    def run(self, inputs: Arrays) -> Mapping[str, NDArray[Any]]:
        """Returns the outputs by name."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration of a baseline, and what loading it took.

    Attributes:
        runs: Runs it.
        load_ms: What loading took; None where it came with another configuration.
    """

    runs: Runs
    load_ms: float | None


class Baseline(Protocol):
    """Another way to run the configurations of a bundle."""

    def load(self, configuration: str) -> Loaded:
        """Returns a configuration, ready to run.

        Raises:
            BaselineUnavailableError: It cannot be run here.
        """
        ...

    def close(self) -> None:
        """Undoes what was set for the process."""
        ...


@dataclass(frozen=True, slots=True)
class Ground:
    """What a baseline is made from.

    Attributes:
        bundle: The bundle that is measured.
        threads: Threads of a call, the same as for the engines.
        scratch: A folder for temporary files.
        network: The PyTorch network that the bundle was built from; None without
            ``--checkpoint``.
    """

    bundle: Bundle
    threads: int
    scratch: Path
    network: TorchNetwork | None

"""From what ``--baseline`` says to baselines that are ready to be timed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.tools.trtbench.baselines.baseline import Ground
from skipc.tools.trtbench.baselines.loading import ReadyBaseline, load_baselines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack

    from skipc.runtime import Bundle
    from skipc.runtime.backends import Arrays, Engine
    from skipc.tools.console import Steps
    from skipc.tools.trtbench.baselines.options import BaselineOptions


def opened_baselines(
    asked: BaselineOptions,
    bundle: Bundle,
    threads: int,
    engines: Mapping[str, Engine],
    case: Arrays,
    now_ns: Callable[[], int],
    stack: ExitStack,
    step: Steps,
) -> tuple[ReadyBaseline, ...]:
    """Returns the baselines asked for, each configuration called once.

    Args:
        asked: Which ones, and the network that some need.
        bundle: The family.
        threads: Threads of a call.
        engines: Our engines by configuration, loaded.
        case: The inputs of the first call.
        now_ns: The clock.
        stack: Closes them, and removes their temporary files.
        step: Told of the steps.

    Raises:
        CompileError: One answers otherwise than our engines, or the checkpoint does not fit.
    """
    if not asked.names:
        return ()
    network = None
    if asked.network is not None:
        from skipc.tools.trtbench.baselines.torch_network import TorchNetwork

        network = TorchNetwork(bundle, asked.network)
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="trtbench-"))
    ground = Ground(bundle, threads, Path(scratch), network)
    return load_baselines(asked.names, ground, engines, case, now_ns, stack, step)

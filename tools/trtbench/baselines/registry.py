"""The baselines by name. Each is imported when it is made: two of them need PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from skipc.tools.trtbench.baselines.baseline import Baseline, Ground


def _plain(ground: Ground) -> Baseline:
    from skipc.tools.trtbench.baselines.plain import Plain

    return Plain(ground)


def _eager(ground: Ground) -> Baseline:
    from skipc.tools.trtbench.baselines.torch_runs import Eager

    return Eager(ground)


def _compile(ground: Ground) -> Baseline:
    from skipc.tools.trtbench.baselines.torch_runs import Compiled

    return Compiled(ground)


def _branching(ground: Ground) -> Baseline:
    from skipc.tools.trtbench.baselines.branching import Branching

    return Branching(ground)


BASELINES: dict[str, Callable[[Ground], Baseline]] = {
    "plain": _plain,
    "if": _branching,
    "eager": _eager,
    "compile": _compile,
}

OF_PYTORCH: tuple[str, ...] = ("eager", "compile")
"""Those that need the checkpoint."""

"""What networks with skippable sub-paths share (Adaptive Depth Networks, arXiv 2312.16392).

The blocks of a stage are cut into a mandatory first half and a skippable second half. The
norms of the mandatory blocks exist twice: one set runs when the whole stage runs, the other
when its second half is skipped (the paper's skip-aware norms).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import torch


def mandatory_blocks(depth: int) -> int:
    """Returns how many blocks of a stage of ``depth`` always run: half, at least one."""
    return max(1, min(depth - 1, (depth + 1) // 2))


class SwitchedNorm(nn.Module):
    """Two norms, of which one runs.

    Args:
        make: Makes a norm for a number of channels.
        channels: That number.

    Attributes:
        skipping: Whether the norm of the shortened stage runs.
    """

    def __init__(self, make: Callable[[int], nn.Module], channels: int) -> None:
        super().__init__()
        self.whole = make(channels)
        self.short = make(channels)
        self.skipping = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``x`` normalised."""
        normed: torch.Tensor = self.short(x) if self.skipping else self.whole(x)
        return normed


class SubPathStage(nn.Module):
    """A stage whose second half can be skipped.

    Args:
        mandatory: Its first blocks, with norms to switch.
        skippable: The others; may be empty.

    Attributes:
        skipped: Whether the second half is skipped; set it with ``skip``.
    """

    def __init__(self, mandatory: list[nn.Module], skippable: list[nn.Module]) -> None:
        super().__init__()
        self.mandatory = nn.Sequential(*mandatory)
        self.skippable = nn.Sequential(*skippable)
        self.skipped = False

    def skip(self, skipped: bool) -> None:
        """Says whether the second half is skipped, and switches the norms of the first."""
        self.skipped = skipped
        for module in self.mandatory.modules():
            if isinstance(module, SwitchedNorm):
                module.skipping = skipped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns what the stage, or its first half, makes of ``x``."""
        first: torch.Tensor = self.mandatory(x)
        if self.skipped:
            return first
        both: torch.Tensor = self.skippable(first)
        return both


class SubPathNetwork(nn.Module):
    """A network of such stages: a ``SwitchingNetwork`` for the compiler.

    Subclasses put ``SubPathStage`` modules into ``stages``.
    """

    stages: nn.Sequential

    def skippable(self) -> tuple[str, ...]:
        """Returns ``stage1``, ``stage2``, ...: those that have a second half."""
        return tuple(self._stages())

    def set_skipped(self, names: Collection[str]) -> None:
        """Skips the second half of the named stages and of no other.

        Raises:
            ValueError: A name is not one of ``skippable``.
        """
        stages = self._stages()
        unknown = sorted(set(names) - stages.keys())
        if unknown:
            raise ValueError(f"no stage {unknown[0]!r} among {', '.join(stages)}")
        for name, stage in stages.items():
            stage.skip(name in names)

    def _stages(self) -> dict[str, SubPathStage]:
        found = {}
        for number, stage in enumerate(self.stages, start=1):
            if isinstance(stage, SubPathStage) and len(stage.skippable):
                found[f"stage{number}"] = stage
        return found

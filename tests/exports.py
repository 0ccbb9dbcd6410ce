"""PyTorch networks that are exported once, though many tests build from them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from skipc.compiler.read import ModelOptions, TorchSupernet
from skipc.compiler.read.cached import open_checkpoint
from skipc.compiler.read.export_cache import ExportCache, default_folder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from skipc.compiler.network import Network

PLAIN = ModelOptions()
_MADE: dict[tuple[object, ...], tuple[nn.Module, Network]] = {}


class ExportedOnce(TorchSupernet):
    """A network whose module nobody changes: one export, which takes seconds, per process."""

    def exported(self) -> Network:
        """Returns the network; callers must not change its graph."""
        key = (id(self.source), self.inputs, self.dimensions, self.output)
        if key not in _MADE:
            _MADE[key] = self.source, super().exported()  # the module keeps its id taken
        _, network = _MADE[key]
        return replace(
            network,
            description=self.model,
            survival=self.survival,
            residual_scale=self.residual_scale,
        )


def kept_export(checkpoint: Path, options: ModelOptions = PLAIN) -> Network:
    """Returns the network in a checkpoint, whose export the commands then take."""
    cache = ExportCache(default_folder(), print)
    return open_checkpoint(checkpoint, options, cache, print).exported()

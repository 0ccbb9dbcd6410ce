"""The networks of the benchmark: transformers' ResNet-50 and ViT-B/16, random weights."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.extras import require
from skipc.compiler.front import Front, FrontEntry, write_front

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


@dataclass(frozen=True, slots=True)
class Network:
    """One network and its six configurations.

    Attributes:
        name: For the table.
        factory: The transformers class.
        units: Units (or modules that hold several), in the order in which they are skipped.
        counts: How many of them each configuration skips.
    """

    name: str
    factory: str
    units: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def folder(self) -> str:
        """The name of the folder that its bundles lie in."""
        return self.name.replace("/", "-")

    def front(self, counts: tuple[int, ...]) -> Front:
        """Returns the front with these numbers of skipped units."""
        entries = (FrontEntry(f"skip{n}", {"skip": list(self.units[:n])}) for n in counts)
        return Front(tuple(entries))


# The blocks without a projection, last stage first; a stage's first block is never skipped.
_RESNET_BLOCKS = tuple(
    f"resnet.encoder.stages.{stage}.layers.{layer}"
    for stage, depth in ((2, 6), (3, 3), (1, 4), (0, 3))
    for layer in range(depth - 1, 0, -1)
)

RESNET50 = Network(
    "ResNet-50", "ResNetForImageClassification", _RESNET_BLOCKS[:10], (0, 2, 4, 6, 8, 10)
)
VIT_B16 = Network(
    "ViT-B/16",
    "ViTForImageClassification",
    tuple(f"vit.layers.{layer}" for layer in (10, 8, 6, 4, 2)),
    (0, 1, 2, 3, 4, 5),
)
NETWORKS = (RESNET50, VIT_B16)
INPUT = "1x3x224x224"


def find(name: str) -> Network:
    """Returns the network of that name."""
    return next(network for network in NETWORKS if network.name == name)


def write_checkpoint(network: Network, path: Path) -> None:
    """Writes the network's state_dict, randomly initialised from a fixed seed."""
    import torch

    transformers = require("transformers", "dev")
    torch.manual_seed(0)
    factory = getattr(transformers, network.factory)
    model = factory(factory.config_class())
    randomise(model)
    torch.save(model.state_dict(), path)


def randomise(model: nn.Module) -> None:
    """Makes norms and biases random in place.

    Fresh ones are zeros and ones, which the exporter would merge into one tensor.
    """
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, torch.nn.Linear) and module.bias is not None:
            torch.nn.init.normal_(module.bias, std=0.02)


def build_command(network: Network, checkpoint: Path, front: Path, out: Path) -> list[str]:
    """Returns the ``skipc build`` command line that a user would type."""
    return [
        sys.executable, "-m", "skipc.tools.cli", "build", str(checkpoint),
        "--front", str(front), "--target", "cpu",
        "--model", f"transformers:{network.factory}", "--input", INPUT,
        "--out", str(out), "--overwrite", "--no-cache", "--json",
    ]  # fmt: skip


def prepare(network: Network, folder: Path) -> None:
    """Writes checkpoint and fronts (six configurations, and the full one alone)."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "ckpt.pt").exists():
        # In a process of its own: the build's peak memory must not start from this one's.
        code = (
            "import sys; from pathlib import Path;"
            " from skipc.tools.bench import networks as n;"
            " n.write_checkpoint(n.find(sys.argv[1]), Path(sys.argv[2]))"
        )
        subprocess.run(
            [sys.executable, "-c", code, network.name, str(folder / "ckpt.pt")], check=True
        )
    write_front(folder / "six.json", network.front(network.counts))
    write_front(folder / "one.json", network.front((0,)))

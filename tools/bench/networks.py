"""The networks of the benchmark: transformers' ResNet-50 and ViT-B/16, random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipc.compiler.extras import require
from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.tools.bench.harness import in_fresh_process, skipc

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from skipc.tools.bench.harness import Spent


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

    def folder(self, place: Path) -> Path:
        """Returns the folder that its bundles lie in."""
        return place / self.name.replace("/", "-")

    def front(self, counts: tuple[int, ...]) -> Front:
        """Returns the front with these numbers of skipped units."""
        entries = (FrontEntry(f"skip{n}", {"skip": list(self.units[:n])}) for n in counts)
        return Front(tuple(entries))

    def made(self) -> nn.Module:
        """Returns the network as its factory makes it, ready to run."""
        factory = getattr(require("transformers", "dev"), self.factory)
        module: nn.Module = factory(factory.config_class()).eval()
        return module


# The blocks without a projection, last stage first; a stage's first block is never skipped.
_RESNET_BLOCKS = tuple(
    f"resnet.encoder.stages.{stage}.layers.{layer}"
    for stage, depth in ((2, 6), (3, 3), (1, 4), (0, 3))
    for layer in range(depth - 1, 0, -1)
)
_VIT_BLOCKS = tuple(f"vit.layers.{layer}" for layer in (10, 8, 6, 4, 2))

RESNET50 = Network(
    "ResNet-50", "ResNetForImageClassification", _RESNET_BLOCKS[:10], (0, 2, 4, 6, 8, 10)
)
VIT_B16 = Network("ViT-B/16", "ViTForImageClassification", _VIT_BLOCKS, (0, 1, 2, 3, 4, 5))
NETWORKS = {network.name: network for network in (RESNET50, VIT_B16)}


def write_checkpoint(name: str, path: str) -> None:
    """Writes a network's state_dict, randomly initialised from a fixed seed."""
    import torch

    torch.manual_seed(0)
    module = NETWORKS[name].made()
    randomise(module)
    torch.save(module.state_dict(), path)


def randomise(module: nn.Module) -> None:
    """Makes norms and biases random in place.

    Fresh ones are zeros and ones, which the exporter would merge into one tensor.
    """
    import torch

    for each in module.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(each.weight, 0.5, 1.5)
            torch.nn.init.normal_(each.bias, std=0.1)
            assert each.running_mean is not None
            assert each.running_var is not None
            torch.nn.init.normal_(each.running_mean, std=0.1)
            torch.nn.init.uniform_(each.running_var, 0.5, 1.5)
        elif isinstance(each, torch.nn.Linear) and each.bias is not None:
            torch.nn.init.normal_(each.bias, std=0.02)


def prepare(network: Network, folder: Path) -> None:
    """Writes checkpoint and fronts (six configurations, and the full one alone)."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "ckpt.pt").exists():
        # In a process of its own: the build's peak memory must not start from this one's.
        in_fresh_process(write_checkpoint, network.name, folder / "ckpt.pt")
    write_front(folder / "six.json", network.front(network.counts))
    write_front(folder / "one.json", network.front((0,)))


def build(network: Network, folder: Path, front: str) -> Spent:
    """Builds a front (``six`` or ``one``) that ``prepare`` wrote, as a user would."""
    return skipc(
        *("build", folder / "ckpt.pt", "--front", folder / f"{front}.json", "--target", "cpu"),
        *("--model", f"transformers:{network.factory}", "--input", "1x3x224x224"),
        *("--out", folder / f"{front}.skipc", "--overwrite", "--no-cache", "--json"),
    )


def six_of(network: Network, folder: Path) -> Path:
    """Returns the bundle of the six configurations, built if it is not there."""
    path = folder / "six.skipc"
    if not path.exists():
        prepare(network, folder)
        build(network, folder, "six")
    return path

"""A sub-path ResNet-50 (random weights): what its configurations cost and share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.build import BuildOptions, build_bundle
from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.compiler.read import TorchSupernet
from skipc.compiler.recipes import find_recipe
from skipc.runtime import Bundle
from skipc.runtime.bundle.tensors import TensorSpec
from skipc.tools.bench.harness import Bar
from skipc.tools.bench.networks import randomise

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

NAME = "sub-path ResNet-50"
SHARES = {"FFFF": 1.0, "TFFF": 0.947, "TTFF": 0.840, "TTTF": 0.680, "TTTT": 0.626}
"""MACs over the full network's: arXiv 2312.16392 counts the same, rounded."""


def bars(place: Path) -> list[Bar]:
    """Builds the five configurations; returns the bars of MACs and weights."""
    folder = place / "subpaths"
    folder.mkdir(parents=True, exist_ok=True)
    module = _module()
    network = TorchSupernet(
        module, (TensorSpec("images", "float32", (1, 3, 224, 224)),), (), None, NAME, {}
    )
    (folder / "ckpt.pt").write_bytes(b"random weights")
    entries = (
        FrontEntry(flags, {"skip": [f"stage{i}" for i, f in enumerate(flags, 1) if f == "T"]})
        for flags in SHARES
    )
    write_front(folder / "front.json", Front(tuple(entries)))
    path = build_bundle(
        network, folder / "ckpt.pt", folder / "front.json", BuildOptions(overwrite=True)
    )
    manifest = Bundle.open(path).manifest
    macs = {entry.name: manifest.macs(entry) for entry in manifest.configurations}
    shares = {name: count / macs["FFFF"] for name, count in macs.items()}
    worst = max(abs(shares[name] - share) for name, share in SHARES.items())
    tensors = [t for t in module.state_dict().values() if t.is_floating_point()]
    everything_bytes = sum(t.numel() * t.element_size() for t in tensors)
    stored_bytes = sum(tensor.size_bytes for tensor in manifest.weights)
    return [
        Bar(NAME, "MACs of TFFF TTFF TTTF TTTT over FFFF: largest deviation", worst, 0.002,
            note=" ".join(f"{share:.3f}" for share in shares.values())),
        Bar(NAME, "weights.bin of five configurations, over one full export, both norm sets",
            stored_bytes / everything_bytes, 1.01, note=f"{stored_bytes / 1e6:.1f} MB"),
    ]  # fmt: skip


def _module() -> nn.Module:
    """Returns the network with weights and statistics that are all different."""
    import torch

    torch.manual_seed(0)
    module = find_recipe("subpath-resnet").load()(
        widths=[256, 512, 1024, 2048], depths=[3, 4, 6, 3], bottleneck=True,
        stem="imagenet", channels=3, classes=1000,
    )  # fmt: skip
    randomise(module)
    evaluated: nn.Module = module.eval()
    return evaluated

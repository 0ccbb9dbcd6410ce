"""Three widths, with blocks skipped and without: what it costs that all share weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.front import FrontEntry
from skipc.tools.bench.engines import opened
from skipc.tools.bench.harness import Bar, in_fresh_process
from skipc.tools.bench.networks import RESNET50, prepare
from skipc.tools.bench.sharing import Shared, built

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.tools.bench.networks import Network

NAME = "widths"
_INSIDE = {RESNET50.name: "resnet.encoder"}
_SHARES = (1.0, 0.75, 0.5)
_SKIPPED = 4


def bars(network: Network, folder: Path) -> list[Bar]:
    """Builds the configurations together and alone; returns the bars of store and time."""
    prepare(network, folder)
    words = ("--model", f"transformers:{network.factory}", "--input", "1x3x224x224")
    inside = _INSIDE.get(network.name, "vit.layers")
    plain, skipping = (
        tuple(_entry(inside, share, network.units[:skipped]) for share in _SHARES)
        for skipped in (0, _SKIPPED)
    )
    shared = Shared(
        network.name,
        built(folder, "widths", (*plain, *skipping), *words),
        {entry.name: built(folder, entry.name, (entry,), *words) for entry in plain},
    )
    bundles = {"all": shared.together, "widest": shared.alone["w100"]}
    held = {key: in_fresh_process(opened, b.path, 0)[1] for key, b in bundles.items()}
    what = "of three widths, with blocks skipped and without, over the widest"
    return [
        shared.over_alone("latency of a width over a network of that width alone, worst"),
        shared.faster("… latency of half the width over the full one", "w50", "w100"),
        *shared.stores(what, 1.02, 1.03),
        Bar(network.name, f"memory (PSS) {what}", held["all"] / held["widest"], 1.15,
            note=f"{held['all'] / 1e6:.0f} MB"),
    ]  # fmt: skip


def _entry(inside: str, share: float, skipped: tuple[str, ...]) -> FrontEntry:
    width = {} if share == 1.0 else {"width": {inside: share}}
    name = f"w{round(100 * share)}{'-skip' * bool(skipped)}"
    return FrontEntry(name, {"skip": list(skipped), **width})

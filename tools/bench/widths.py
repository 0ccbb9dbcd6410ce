"""Three widths, with blocks skipped and without: what it costs that all share their weights.

What is compared is the same configuration alone in its bundle: there each kernel is one, and
has the channels that the configuration has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.runtime import Bundle
from skipc.tools.bench.dense import packed_bytes, run_of, weights_bytes
from skipc.tools.bench.engines import opened
from skipc.tools.bench.harness import Bar, by_turns_ms, in_fresh_process, ratio, skipc
from skipc.tools.bench.networks import RESNET50, prepare

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.tools.bench.networks import Network

NAME = "widths"
_INSIDE = {RESNET50.name: "resnet.encoder"}
_SHARES = (1.0, 0.75, 0.5)
_SKIPPED = 4
_ROUNDS = 40


def bars(network: Network, folder: Path) -> list[Bar]:
    """Builds the configurations together and alone; returns the bars of store and time."""
    prepare(network, folder)
    inside = _INSIDE.get(network.name, "vit.layers")
    made = [
        _entry(inside, share, network.units[:skipped])
        for skipped in (0, _SKIPPED)
        for share in _SHARES
    ]
    entries = {entry.name: entry for entry in made}
    together = _built(network, folder, "widths", entries)
    names = [name for name in entries if "skip" not in name]
    alone = {name: _built(network, folder, name, {name: entries[name]}) for name in names}
    over = {}
    for name, bundle in alone.items():
        runs = (run_of(together, name), run_of(bundle, name))
        over[name] = ratio(by_turns_ms(*runs, _ROUNDS))
    worst = max(over, key=lambda name: over[name])
    listed = ", ".join(f"{name} {each:.3f}" for name, each in over.items())
    narrow = ratio(by_turns_ms(run_of(together, "w50"), run_of(together, "w100"), _ROUNDS))
    widest = alone["w100"]
    held = {b: in_fresh_process(opened, b.path, 0)[1] for b in (together, widest)}
    what = "of three widths, with blocks skipped and without, over the widest"
    return [
        Bar(network.name, "latency of a width over a network of that width alone, worst",
            over[worst], 1.01, note=listed),
        Bar(network.name, "… latency of half the width over the full one", narrow, None),
        *(
            Bar(network.name, f"{kind} {what}", size(together) / size(widest), limit,
                note=f"{size(together) / 1e6:.1f} MB; of three bundles"
                f" {sum(map(size, alone.values())) / 1e6:.1f} MB")
            for (kind, size), limit in zip(
                {"weights.bin": weights_bytes, "packed store": packed_bytes}.items(),
                (1.02, 1.03), strict=True)
        ),
        Bar(network.name, f"memory (PSS) {what}", held[together] / held[widest], 1.15,
            note=f"{held[together] / 1e6:.0f} MB"),
    ]  # fmt: skip


def _entry(inside: str, share: float, skipped: tuple[str, ...]) -> FrontEntry:
    width = {} if share == 1.0 else {"width": {inside: share}}
    name = f"w{round(100 * share)}{'-skip' * bool(skipped)}"
    return FrontEntry(name, {"skip": list(skipped), **width})


def _built(
    network: Network, folder: Path, name: str, entries: dict[str, FrontEntry]
) -> Bundle:
    """Returns the bundle of some entries, built if it is not there."""
    path = folder / f"{name}.skipc"
    if not path.exists():
        write_front(folder / f"{name}.json", Front(tuple(entries.values())))
        skipc(
            *("build", folder / "ckpt.pt", "--front", folder / f"{name}.json"),
            *("--target", "cpu", "--model", f"transformers:{network.factory}"),
            *("--input", "1x3x224x224", "--out", path),
        )
    return Bundle.open(path)

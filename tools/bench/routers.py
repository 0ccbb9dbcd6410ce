"""A router over the exits of a network on clutter, beside the best configuration alone.

The demo's network and its heads; what the router may name ends at a head, or at the end. Times
are what their engines took, on average over the report part, the router's own included.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from skipc.compiler.front import Front, FrontEntry, write_front
from skipc.compiler.heads import read_heads
from skipc.tools.bench.harness import Bar, skipc
from skipc.tools.bench.policies import checkpoint_of
from skipc.tools.demo.__main__ import DEMO

if TYPE_CHECKING:
    from pathlib import Path

NAME = "routers"
_DROPS = (1, 2, 5)


def bars(place: Path) -> list[Bar]:
    """Trains, builds and routes; returns what a sample takes, over one as accurate alone."""
    checkpoint, folder = checkpoint_of(place, 0), place / NAME
    folder.mkdir(parents=True, exist_ok=True)
    front, path = folder / "front.json", folder / "exits.skipc"
    ends = [FrontEntry("full")]
    for at, head in enumerate(read_heads(checkpoint)):
        ends.append(FrontEntry(f"ends{at}", {"exits": [head.name]}))
    write_front(front, Front(tuple(ends)))
    if not path.exists():
        skipc("build", checkpoint, "--front", front, "--target", "cpu", "--out", path)
    ways = ",".join(entry.name for entry in ends)
    drops = ",".join(map(str, _DROPS))
    asked = ("--data", DEMO.data, "--ways", ways, "--drop", drops, "--json")
    told = json.loads(skipc("router", path, "--front", front, *asked).out)
    shares = " / ".join(told["ways"])
    found = []
    for entry in told["entries"]:
        outcome, static_ms = entry["outcome"], entry["static_ms"]
        if static_ms is None:  # more accurate than each of them alone
            continue
        sent = " / ".join(f"{100 * share:.0f}" for share in outcome["shares"])
        found.append(
            Bar(NAME, f"{entry['name']}: time of a sample, over the fastest as accurate",
                outcome["mean_ms"] / static_ms, 0.8,
                note=f"{100 * outcome['accuracy']:.1f} % right; {sent} % to {shares}")
        )  # fmt: skip
    whole_ms = max(alone["mean_ms"] for alone in told["alone"])
    return [
        *found,
        Bar(NAME, "… the router's own, over the whole network", told["router_ms"] / whole_ms,
            None),
        Bar(NAME, "… who knew the labels, over the whole network",
            told["best"]["mean_ms"] / whole_ms, None),
    ]  # fmt: skip

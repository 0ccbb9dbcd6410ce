"""ResNet-50 on smaller images; and on clutter a route that looks at small ones first.

Clutter's network is trained at three resolutions at once. Its route is solved by ``skipc
policy``, with what each resolution takes as measured when its engines were built.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from skipc.compiler.front import ExitTest, Front, FrontEntry, FrontPart, write_front
from skipc.tools.bench.harness import Bar, by_turns_ms, ratio, skipc
from skipc.tools.bench.networks import prepare
from skipc.tools.bench.policies import ROUTE, Trained, solved_of
from skipc.tools.bench.sharing import built, run_of, weights_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.tools.bench.networks import Network

NAME = "resolutions"
_PIXELS = 224
_LIMITS = {160: 0.56, 112: 0.33}
_ROUNDS = 40
_COARSE = (16, 24)
_CLUTTER = (
    *("--network-arg", "widths=[16,32,64]", "--network-arg", "depths=[1,1,2]"),
    *("--network-arg", "drop=0.1", "--rate", "0.01", "--epochs", "8"),
)


def bars(network: Network, folder: Path) -> list[Bar]:
    """Builds three resolutions of a network; returns the bars of store and time."""
    prepare(network, folder)
    model = ("--model", f"transformers:{network.factory}")
    words = (*model, "--input", f"1x3x{_PIXELS}x{_PIXELS}")
    entries = tuple(
        FrontEntry(f"p{pixels}", {"resolution": pixels} if pixels < _PIXELS else {})
        for pixels in (_PIXELS, *_LIMITS)
    )
    together = built(folder, NAME, entries, *words)
    alone = built(folder, "full", entries[:1], *words)
    matrices = sum(2 * 4 * _PIXELS * pixels for pixels in _LIMITS)
    beyond = weights_bytes(together) - weights_bytes(alone) - matrices
    whole = run_of(together, f"p{_PIXELS}")
    return [
        Bar(network.name, "bytes of weights beyond one resolution's", beyond / 1e6, 0,
            unit="MB", note=f"without the matrices that resize, {matrices / 1e6:.2f} MB"),
        *(
            Bar(network.name, f"latency at {pixels} over {_PIXELS} pixels",
                ratio(by_turns_ms(run_of(together, f"p{pixels}"), whole, _ROUNDS)), limit)
            for pixels, limit in _LIMITS.items()
        ),
    ]  # fmt: skip


def clutter(place: Path) -> list[Bar]:
    """Trains at three resolutions and solves the route through them; returns its bar."""
    folder = place / NAME
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, path = folder / "ckpt.pt", folder / f"{ROUTE}.skipc"
    if not checkpoint.exists():
        trained_at = [word for pixels in _COARSE for word in ("--resolution", pixels)]
        skipc(
            *("train", "stochastic-depth", "--data", "clutter", *_CLUTTER, *trained_at),
            *("--out", folder),
        )
    if not path.exists():
        parts = [FrontPart(choices={"resolution": pixels}) for pixels in _COARSE]
        tests = tuple(ExitTest(1.0) for _ in parts)
        route = FrontEntry(ROUTE, parts=(*parts, FrontPart()), tests=tests)
        write_front(folder / "front.json", Front((route,)))
        skipc(
            *("build", checkpoint, "--front", folder / "front.json", "--target", "cpu"),
            *("--norm", "scalar", "--reestimate", "clutter", "--out", path),
        )
        skipc("policy", path, "--data", "clutter", "--samples", 5000)
    solved = solved_of(path)
    assert solved is not None
    found = Trained(solved, {outcome.name: outcome for outcome in solved.outcomes})
    upto_ms = [0.0, *(each.upto_ms for each in solved.exits)]
    each_ms = [after - before for before, after in pairwise(upto_ms)]
    # Full size alone does not pay for what a route has computed before it.
    whole = found.full.mean_ms / each_ms[-1]
    alone = ", ".join(
        f"{100 * exit_.accuracy:.1f} % in {ms / each_ms[-1]:.2f}"
        for exit_, ms in zip(solved.exits, each_ms, strict=True)
    )
    return [
        Bar("clutter", "route from coarse to fine, time at equal accuracy over full",
            whole * found.time_within(0.0), 0.6, note=f"alone {alone}; {solved.policy}"),
        Bar("clutter", "… losing 0.3 points", whole * found.time_within(0.3), None),
        Bar("clutter", "… what the policy takes", whole * found.time, None,
            note=f"{found.drop:.2f} points lost on the report part"),
    ]  # fmt: skip

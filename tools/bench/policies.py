"""Policies of early exits on clutter: ours beside one threshold, myopic gates and the oracle.

The demo's network and its heads, trained with seeds 0 to 4. Policies are solved by ``skipc
policy``, for a route that may answer at every head, with what each exit takes as measured when
its engines were built.
"""

from __future__ import annotations

import io
import statistics
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from skipc.compiler.bundle.files import write_whole
from skipc.compiler.extras import require
from skipc.compiler.front import ExitTest, Front, FrontEntry, write_front
from skipc.compiler.heads import read_heads
from skipc.compiler.policy.solving import FULL
from skipc.runtime import Bundle
from skipc.tools.bench.harness import Bar, skipc
from skipc.tools.demo.__main__ import DEMO
from skipc.tools.web.palette import LIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.runtime.bundle.solved import PolicyOutcome, SolvedPolicy

    Floats = NDArray[np.float64]

NAME = "clutter policies"
SEEDS = range(5)
ROUTE = "route"
_DROP = 0.3
_GRID = 201
# By kind: what it is called in the picture, and how it is drawn.
_KINDS = {
    "oracle": ("oracle, which knows the label", LIGHT.muted, ":"),
    "learnt gates": ("learnt gates", LIGHT.own, "-"),
    "budget solver": ("budget solver", LIGHT.every, "-."),
    "uniform threshold": ("one threshold", LIGHT.ink, "-"),
    "myopic gates": ("myopic gates", LIGHT.some, "--"),
}


class Trained(NamedTuple):
    """What the policies of one training come to, on the report part.

    Attributes:
        solved: What ``skipc policy`` found.
        outcomes: By kind.
    """

    solved: SolvedPolicy
    outcomes: dict[str, PolicyOutcome]

    @property
    def ours(self) -> PolicyOutcome:
        """The kind that is taken."""
        return self.outcomes[self.solved.policy]

    @property
    def full(self) -> PolicyOutcome:
        """All samples to the end."""
        return self.outcomes[FULL]

    @property
    def drop(self) -> float:
        """Points of accuracy that ours loses."""
        return 100 * (self.full.accuracy - self.ours.accuracy)

    @property
    def time(self) -> float:
        """What a sample takes with ours, over the whole network."""
        return self.ours.mean_ms / self.full.mean_ms

    @property
    def fastest(self) -> float:
        """What the first exit takes, over the whole network."""
        return self.solved.exits[0].upto_ms / self.full.mean_ms

    def accuracy_at(self, kind: str, times: Floats) -> Floats:
        """Returns the best accuracy within each mean time, over that of the whole network.

        Straight between the kind's points; the first exit alone and the end are among them.
        """
        ends = self.solved.exits[0], self.solved.exits[-1]
        points = [(end.upto_ms, end.accuracy) for end in ends]
        points += [(at.mean_ms, at.accuracy) for at in self.outcomes[kind].curve]
        points.sort()
        known = np.array(points)
        best = np.maximum.accumulate(known[:, 1])
        found: Floats = np.interp(times, known[:, 0] / self.full.mean_ms, best)
        return found

    def time_within(self, drop: float) -> float:
        """Returns the least time in which ours loses so many points on the report part."""
        times = np.linspace(self.fastest, 1, _GRID)
        enough = self.accuracy_at(self.solved.policy, times) >= self.full.accuracy - drop / 100
        return float(times[enough][0])

    def area(self, kind: str) -> float:
        """Returns the mean accuracy over all times from the first exit's to the whole's."""
        return float(self.accuracy_at(kind, np.linspace(self.fastest, 1, _GRID)).mean())

    def areas_over(self, kind: str) -> tuple[float, float]:
        """Returns our area over a kind's, and the same of what lies above the first exit's."""
        first = self.solved.exits[0].accuracy
        ours, theirs = self.area(self.solved.policy), self.area(kind)
        return ours / theirs, (ours - first) / (theirs - first)


def bars(place: Path) -> list[Bar]:
    """Trains, builds and solves; returns what the policies come to, medians over trainings."""
    return _bars([_trained(seed, place) for seed in SEEDS])


def _bars(found: Sequence[Trained]) -> list[Bar]:
    kinds = " / ".join(one.solved.policy for one in found)
    times, drops = [one.time for one in found], [one.drop for one in found]
    within = [one.time_within(_DROP) for one in found]
    made = [
        Bar(NAME, f"mean time with the policy taken, losing {_DROP} points, over the whole",
            statistics.median(within), 0.5, note=f"{_listed(within)}; {kinds}"),
        Bar(NAME, f"… chosen to lose {_DROP} points on the selection part",
            statistics.median(times), None,
            note=f"{_listed(times)}; points lost on the report part: {_listed(drops)}"),
    ]  # fmt: skip
    for kind, least in (("uniform threshold", 1.0), ("myopic gates", 1.0), ("oracle", 0.9)):
        areas = [one.areas_over(kind) for one in found]
        whole, above = ([pair[at] for pair in areas] for at in (0, 1))
        made += [
            Bar(NAME, f"area under accuracy over time: the policy taken, over {kind}",
                statistics.median(whole), None, least=least, note=_listed(whole)),
            Bar(NAME, "… above the accuracy of the first exit",
                statistics.median(above), None, note=_listed(above)),
        ]  # fmt: skip
    return made


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _folder(place: Path, seed: int) -> Path:
    return place / f"policies/clutter-{seed}"


def checkpoint_of(place: Path, seed: int) -> Path:
    """Returns a seed's network, its heads beside it; trains them where they are missing."""
    folder = _folder(place, seed)
    if not (folder / "ckpt.pt").exists():
        skipc("train", "early-exit", "--data", DEMO.data, *DEMO.train, "--seed", seed,
              "--out", folder)  # fmt: skip
    return folder / "ckpt.pt"


def _trained(seed: int, place: Path) -> Trained:
    """Returns what the policies of a seed's network come to; makes what is missing."""
    checkpoint, folder = checkpoint_of(place, seed), _folder(place, seed)
    path = folder / f"{ROUTE}.skipc"
    if not path.exists():
        heads, front = read_heads(checkpoint), folder / "front.json"
        route = FrontEntry(
            ROUTE,
            {"exits": [*(head.name for head in heads), "end"]},
            tests=tuple(ExitTest(1.0) for _ in heads),
            stops=(*(0.0 for _ in heads), 1.0),
        )
        write_front(front, Front((route,)))
        skipc("build", checkpoint, "--front", front, "--target", "cpu", "--out", path)
    solved = solved_of(path)
    if solved is None:
        skipc("policy", path, "--data", DEMO.data, "--samples", 5000)
        solved = solved_of(path)
    assert solved is not None
    return Trained(solved, {outcome.name: outcome for outcome in solved.outcomes})


def solved_of(path: Path) -> SolvedPolicy | None:
    """Returns the policy that was solved for a bundle's route; None before."""
    return Bundle.open(path).manifest.configuration(ROUTE).solved


def write_page(place: Path, out: Path) -> None:
    """Writes what ``bars`` found as a page with a picture, ``policies.md``, into a folder."""
    found = [_trained(seed, place) for seed in SEEDS]
    write_whole(out / "policies.png", _picture(found))
    write_whole(out / "policies.md", _page(found).encode())


def _page(found: Sequence[Trained]) -> str:
    return f"""# Policies of early exits, on clutter

Written by `make bench`, or by `python -m skipc.tools.bench --network '{NAME}' --out
benchmarks/policies`: the network of `make demo`, {len(found)} trainings; medians (least …
greatest). Accuracies are of {found[0].solved.samples} pictures that nothing was chosen by,
times what the stages' engines took on one thread, without what the runtime adds between them.

![Accuracy over mean time of five kinds of policy](policies.png)

Each kind where it is wanted: the fastest that loses at most {_DROP} points on the selection
part; what it loses is told of the report part. *Area* is the mean accuracy over all mean times
from the first exit's to the whole network's; *taken* says in how many trainings the kind is
the one that `skipc policy` takes. The oracle knows the label, and no policy can be better;
myopic gates know of one later exit only.

{_kinds_table(found)}

{_exits_table(found)}

What was aimed at; medians, with the trainings in the note:

{_bars_table(found)}
"""


def _kinds_table(found: Sequence[Trained]) -> str:
    lines = ["| policy | mean time, over the whole | points lost | area | taken |",
             "|---|---:|---:|---:|---:|"]  # fmt: skip
    for kind in (FULL, *_KINDS):
        outcomes = [one.outcomes[kind] for one in found]
        times = [
            at.mean_ms / one.full.mean_ms for at, one in zip(outcomes, found, strict=True)
        ]
        lost = [
            100 * (one.full.accuracy - at.accuracy)
            for at, one in zip(outcomes, found, strict=True)
        ]
        areas = [one.area(kind) for one in found if one.outcomes[kind].curve]
        area = f"{statistics.median(areas):.3f}" if areas else ""
        taken = sum(one.solved.policy == kind for one in found)
        cells = (kind, _spread(times), _spread(lost), area, str(taken or ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _exits_table(found: Sequence[Trained]) -> str:
    lines = ["| exit, alone | accuracy | time, over the whole |", "|---:|---:|---:|"]
    for number, exits in enumerate(zip(*(one.solved.exits for one in found), strict=True), 1):
        accuracies = [100 * each.accuracy for each in exits]
        times = [at.upto_ms / one.full.mean_ms for at, one in zip(exits, found, strict=True)]
        lines.append(f"| {number} | {_spread(accuracies)} | {_spread(times)} |")
    return "\n".join(lines)


def _bars_table(found: Sequence[Trained]) -> str:
    lines = ["| what | measured | bar | | note |", "|---|---:|---:|---|---|"]
    return "\n".join((*lines, *(f"| {' | '.join(bar.cells[1:])} |" for bar in _bars(found))))


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} … {max(values):.2f})"


def _picture(found: Sequence[Trained]) -> bytes:
    """Returns a PNG: points below the whole network over mean time, means of the trainings."""
    figure = require("matplotlib.figure", "select").Figure(
        figsize=(8, 4.4), dpi=150, layout="constrained"
    )
    axes = figure.subplots()
    times = np.linspace(max(one.fastest for one in found), 1, _GRID)
    for kind, (label, colour, line) in _KINDS.items():
        below = [100 * (o.accuracy_at(kind, times) - o.full.accuracy) for o in found]
        axes.plot(times, np.mean(below, 0), line, color=colour, label=label, linewidth=1.6)
    axes.scatter(
        [one.time for one in found], [-one.drop for one in found], s=30, zorder=3,
        color=LIGHT.accent, label="what is taken, each training",
    )  # fmt: skip
    exits = [(e.upto_ms / o.full.mean_ms, e.accuracy - o.full.accuracy)
             for o in found for e in o.solved.exits]  # fmt: skip
    axes.scatter(
        [at for at, _ in exits], [100 * below for _, below in exits], s=30, marker="x",
        linewidth=1, color=LIGHT.muted, label="an exit alone, each training",
    )  # fmt: skip
    axes.set_xlabel("mean time of a sample, over the whole network's")
    axes.set_ylabel("accuracy, points from the whole network's")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()

"""A router for the configurations of a bundle, top to bottom: answers, training, files."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx_ir as ir

from skipc.compiler.errors import RouterError
from skipc.compiler.front import FrontEntry, read_front, write_front
from skipc.compiler.front_files import FrontRouter
from skipc.compiler.policy.answers import check_classifier, open_runs
from skipc.compiler.policy.routing import (
    RoutedAnswers,
    WayAnswers,
    bias_for_drop,
    bias_for_mean,
    most_that_can_be,
    static_ms,
    undominated,
    way_answers,
)
from skipc.compiler.router import SCORES, Router, RouterHeader, Way, network_of, write_router
from skipc.compiler.select.data.sketch import sketch_of
from skipc.compiler.verify.sessions import GraphRunner
from skipc.runtime.bundle.folder import file_sha256
from skipc.runtime.bundle.routed import Biased
from skipc.runtime.errors import choices_text
from skipc.runtime.load.points import GUESSED_MS_PER_MAC, points_here
from skipc.tools.training.router import looked_at, pool_of, trained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skipc.compiler.policy.policies import Outcome
    from skipc.compiler.select.problem import Notes
    from skipc.compiler.select.samples import Samples
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.manifest import ConfigurationEntry

_TIMED = 200
MOST_WAYS = 16
LEAST_SAMPLES = 20
"""Of each part, for each configuration that may be named."""


class Aim(NamedTuple):
    """What a bias is chosen for: the accuracy that may be lost, a fraction, or a mean time."""

    drop: float | None
    mean_ms: float | None

    @property
    def suffix(self) -> str:
        """What a configuration's name ends in."""
        return f"{100 * self.drop:g}" if self.drop is not None else f"{self.mean_ms:g}ms"


@dataclass(frozen=True, slots=True)
class RoutedEntry:
    """A configuration as it came out.

    Attributes:
        name: Its name.
        bias: Its router's.
        outcome: What it comes to on the report part, its shares by way.
        static_ms: What the fastest configuration takes that is as accurate there; None if
            none is.
    """

    name: str
    bias: float
    outcome: Outcome
    static_ms: float | None


@dataclass(frozen=True, slots=True)
class TrainedRouter:
    """What came out, on the report part.

    Attributes:
        path: The router's file.
        ways: The configurations that it names.
        alone: What each of them comes to by itself: accuracy and mean time.
        entries: The configurations that were written into the front.
        best: What somebody comes to who knows the labels.
        router_ms: What the router takes.
        source: Where times are from, as of an ``OperatingPoint``.
        samples: How many were looked at.
        ties: How many of them go elsewhere than in PyTorch.
        sent: By configuration written and sample, the way that it goes.
    """

    path: Path
    ways: tuple[str, ...]
    alone: tuple[tuple[float, float], ...]
    entries: tuple[RoutedEntry, ...]
    best: Outcome
    router_ms: float
    source: str
    samples: int
    ties: int
    sent: tuple[NDArray[np.intp], ...]


def candidates(bundle: Bundle, front: Path, asked: Sequence[str]) -> list[ConfigurationEntry]:
    """Returns the configurations that a router may name: all without one, or those asked for.

    Raises:
        RouterError: There are fewer than two, or too many, or one is not in the front.
        PolicyError: They do not classify, or cannot be asked one sample at a time.
    """
    check_classifier(bundle.manifest, f"{bundle.path}: it")
    known = {each.name: each for each in bundle.manifest.configurations if each.routed is None}
    for name in asked:
        if name not in known:
            raise RouterError(
                f"--ways {name!r}: no configuration of {bundle.path} that a router can name."
                f" {choices_text(name, known)}"
            )
    found = [known[name] for name in asked or known]
    if not 2 <= len(found) <= MOST_WAYS:
        raise RouterError(
            f"{len(found)} configurations to choose from, expected 2 to {MOST_WAYS}. Name some"
            " with --ways."
        )
    names = [one.name for one in read_front(front).configurations]
    for each in found:
        if each.name not in names:
            raise RouterError(
                f"--front {front}: it has no configuration {each.name!r}, which the bundle"
                " has: it is not the front that the bundle was built from."
            )
    return found


def train_router(
    bundle: Bundle,
    front: Path,
    entries: Sequence[ConfigurationEntry],
    all_of_them: bool,
    parts: Sequence[Samples],
    aims: Sequence[Aim],
    name: str,
    target: str | None,
    seed: int,
    notes: Notes,
) -> TrainedRouter:
    """Trains a router, and writes it beside a front, which gets the configurations.

    Args:
        bundle: The bundle; it is not changed.
        front: The front that it was built from.
        entries: What may be named, see ``candidates``.
        all_of_them: Whether all are, not only those that none is as fast and better than.
        parts: The data: for fitting, selection, and the report. Targets are the numbers of
            classes.
        aims: What biases are chosen for; a configuration is written for each.
        name: What their names begin with.
        target: Whose engines answer, see ``open_runs``.
        seed: Of the training.
        notes: Told what is being done.

    Raises:
        RouterError: There is nothing to choose, too little data, or no bias meets an aim.
    """
    manifest = bundle.manifest
    spec = looked_at(manifest.inputs)
    fewest = min(len(part) for part in parts)
    if fewest < LEAST_SAMPLES * len(entries):
        raise RouterError(
            f"{len(entries)} configurations, but a part of the data has {fewest} samples: each"
            f" needs {LEAST_SAMPLES} for each of them. Give more data."
        )
    said = read_front(front)
    taken = {f"{name}-{aim.suffix}" for aim in aims}
    for one in said.configurations:
        if one.name in taken and one.router is None:
            raise RouterError(
                f"--front {front}: it has a configuration {one.name!r} already, without a"
                " router. Choose another --name."
            )
    notes("computing what every configuration answers")
    with ExitStack() as stack:
        graphs = {g.name: g for each in entries for g in manifest.graphs_of(each)}
        runs, engines = open_runs(bundle, list(graphs.values()), target, stack)
        points = points_here(bundle, engines, 1)
        own = [points[manifest.configurations.index(each)] for each in entries]
        upto_ms = [point.upto_ms or (point.p50_ms,) for point in own]
        answers = way_answers(bundle, entries, upto_ms, runs, parts, notes.advance)
    kept = undominated(answers[0])
    if all_of_them:
        mean_ms = answers[0].took_ms.mean(1)
        kept = sorted(range(len(entries)), key=lambda way: float(mean_ms[way]))
    if len(kept) < 2:
        raise RouterError(
            f"{entries[kept[0]].name!r} is as fast as all others and more accurate, so there"
            " is nothing to choose by input. Give configurations that differ, or name some by"
            " --ways."
        )
    entries, answers = [entries[way] for way in kept], [each.at(kept) for each in answers]
    notes("training the router")
    pairs = [
        (part.inputs[spec.name], own.right) for part, own in zip(parts, answers, strict=True)
    ]
    layers = trained(spec, pairs[0], pairs[1], seed, notes.advance)
    took_ms = answers[0].took_ms.mean(1)
    costs = tuple((took_ms / took_ms.max()).tolist())
    placeholder = Biased(0.0, 0.0, (1.0,))
    header = RouterHeader(
        checkpoints={n.name: n.checkpoint_sha256 for n in manifest.networks if n.axes},
        input=spec,
        pool=pool_of(spec),
        ways=tuple(Way(e.name, e.parts, c) for e, c in zip(entries, costs, strict=True)),
        curve=(placeholder,),
        data_sketch=sketch_of(parts[:2]),
    )
    router = Router(header, layers)
    notes("choosing biases")
    with tempfile.TemporaryDirectory(prefix="skipc-") as folder:
        path = Path(folder) / "router.onnx"
        ir.save(network_of(router, manifest.dimensions, spec.shape[0]).model, path)
        runner = GraphRunner(path)
        sample = {spec.name: parts[0].inputs[spec.name][:1]}
        guessed = own[0].source == "macs"
        router_ms = GUESSED_MS_PER_MAC * router.macs if guessed else _median_ms(runner, sample)
        scores = [_scores(runner, spec.name, part) for part in parts]
    starts = np.cumsum([1, *(len(each.route) for each in entries)]).tolist()
    _, selected, reported = (
        RoutedAnswers(score, answer, costs, router_ms, tuple(starts[:-1]), starts[-1])
        for score, answer in zip(scores, answers, strict=True)
    )
    biases = [
        bias_for_mean(selected, aim.mean_ms)
        if aim.mean_ms is not None
        else bias_for_drop(selected, aim.drop or 0.0)
        for aim in aims
    ]
    named: dict[float, str] = {}
    for aim, bias in zip(aims, biases, strict=True):
        same = named.setdefault(bias, f"{name}-{aim.suffix}")
        if same != f"{name}-{aim.suffix}":
            notes.note(f"{name}-{aim.suffix} would be {same!r} once more, and is left out.")
    router = replace(router, header=replace(header, curve=reported.curve()))
    file = front.with_name(f"{front.stem}.{name}.safetensors")
    made = [_entry(entry, bias, reported) for bias, entry in named.items()]
    write_router(file, router)
    _into_front(front, file, made, reported, entries, answers[-1])
    return TrainedRouter(
        path=file,
        ways=router.names,
        alone=_alone(answers[-1]),
        entries=tuple(made),
        best=most_that_can_be(answers[-1]),
        router_ms=router_ms,
        source=own[0].source,
        samples=len(parts[-1]),
        ties=_ties(router, spec.name, parts[-1], reported, list(named)),
        sent=tuple(reported.ways(bias) for bias in named),
    )


def _alone(answers: WayAnswers) -> tuple[tuple[float, float], ...]:
    right, took_ms = answers.right.mean(1).tolist(), answers.took_ms.mean(1).tolist()
    return tuple(zip(right, took_ms, strict=True))


def _entry(name: str, bias: float, reported: RoutedAnswers) -> RoutedEntry:
    outcome = reported.outcome(bias)
    ways = np.bincount(reported.ways(bias), minlength=len(reported.costs))
    shares = tuple((ways / ways.sum()).tolist())
    alone_ms = static_ms(reported.answers, outcome.accuracy)
    return RoutedEntry(name, bias, replace(outcome, shares=shares), alone_ms)


def _median_ms(runner: GraphRunner, sample: dict[str, NDArray[Any]]) -> float:
    """Returns the median time of a call on this machine."""
    took = []
    for _ in range(_TIMED):
        begun = time.perf_counter()
        runner.run(sample)
        took.append(time.perf_counter() - begun)
    return 1000 * float(np.median(took))


def _scores(runner: GraphRunner, name: str, samples: Samples) -> NDArray[np.float32]:
    """Returns the router's scores, (N, ways), one sample at a time."""
    array = samples.inputs[name]
    rows = [runner.run({name: array[r : r + 1]})[SCORES][0] for r in range(len(array))]
    found: NDArray[np.float32] = np.stack(rows)
    return found


def _ties(
    router: Router, name: str, samples: Samples, seen: RoutedAnswers, biases: Sequence[float]
) -> int:
    """Returns how many samples PyTorch sends elsewhere than the graph, with any bias."""
    network = network_of(router, (), 1)
    (found,) = network.reference.run([{name: samples.inputs[name]}])
    others = replace(seen, scores=found[SCORES])
    apart = [others.ways(bias) != seen.ways(bias) for bias in biases]
    return int(np.logical_or.reduce(apart).sum())


def _into_front(
    path: Path,
    file: Path,
    made: Sequence[RoutedEntry],
    reported: RoutedAnswers,
    entries: Sequence[ConfigurationEntry],
    answers: WayAnswers,
) -> None:
    """Writes configurations into a front; those named get an accuracy where none is known."""
    front, sha256 = read_front(path), file_sha256(file)
    known = {
        entry.name: right
        for entry, (right, _) in zip(entries, _alone(answers), strict=True)
        if "accuracy" not in entry.metrics
    }
    kept = tuple(
        replace(one, metrics={**one.metrics, "accuracy": known[one.name]})
        if one.name in known
        else one
        for one in front.configurations
        if one.name not in [each.name for each in made]
    )
    new = tuple(
        FrontEntry(
            each.name,
            router=FrontRouter(file.name, sha256, each.bias),
            stops=reported.outcome(each.bias).shares,
            metrics={
                "accuracy": each.outcome.accuracy,
                "latency_ms": each.outcome.mean_ms,
            },
        )
        for each in made
    )
    write_front(path, replace(front, configurations=(*kept, *new)))

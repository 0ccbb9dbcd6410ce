"""What every exit of a configuration answers to labelled data, computed once."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipc.compiler.errors import PolicyError
from skipc.compiler.targets.golden import run_route
from skipc.runtime.bundle.route import SCORES, source_of
from skipc.runtime.call.tests import score
from skipc.runtime.errors import choices_text
from skipc.runtime.load.opening import bundle_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import ExitStack

    from numpy.typing import NDArray

    from skipc.compiler.select.samples import Samples
    from skipc.runtime.bundle import Bundle
    from skipc.runtime.bundle.engines import EngineSet
    from skipc.runtime.bundle.manifest import ConfigurationEntry, GraphEntry, Manifest
    from skipc.runtime.bundle.route import Stage, Test

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Runs = Mapping[str, Any]

CLASS_SCORES = tuple(name for name in SCORES if name not in ("agreement", "value"))
"""What a solved test weighs of an answer of classes. Agreement earned nothing beside them."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the exits of a configuration answer to some samples.

    Attributes:
        logits: (exits, N, classes), float32.
        labels: (N,), int64.
        tests: Of each exit but the last, for what it looks at and its temperature. A network
            that stands before another one in a chain has a test for its last exit, too.
        upto_ms: What answering at each exit takes, (exits,).
        given: The classes answered, (exits, N).
        scores: Of each exit with a test, its ``CLASS_SCORES``: (tests, N, scores).
        starts: The answers with which a network begins: see ``starts_of``.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    tests: tuple[Test, ...]
    upto_ms: Floats
    given: NDArray[np.intp]
    scores: Floats
    starts: tuple[int, ...] = (0,)

    @classmethod
    def of(
        cls,
        logits: NDArray[np.float32],
        labels: NDArray[np.int64],
        tests: tuple[Test, ...],
        upto_ms: Sequence[float],
        starts: tuple[int, ...] = (0,),
    ) -> Answers:
        """Returns the answers, with what is computed of them."""
        scores = [
            [score(replace(test, scores={name: 1.0}), rows) for name in CLASS_SCORES]
            for test, rows in zip(tests, logits, strict=False)
        ]
        return cls(
            *(logits, labels, tests, np.array(upto_ms)),
            given=logits.argmax(2),
            scores=np.moveaxis(np.array(scores), 1, 2),
            starts=starts,
        )

    @classmethod
    def joined(cls, networks: Sequence[Answers]) -> Answers:
        """Returns the answers of networks that are asked one after the other.

        Args:
            networks: Their answers to the same samples, each with a test for its last exit.
        """
        first, *_ = networks
        counts = np.cumsum([0, *(len(one.upto_ms) for one in networks)])
        before_ms = np.cumsum([0.0, *(one.upto_ms[-1] for one in networks)])
        upto_ms = [ms + one.upto_ms for ms, one in zip(before_ms, networks, strict=False)]
        return cls(
            np.concatenate([one.logits for one in networks]),
            first.labels,
            tuple(test for one in networks for test in one.tests)[:-1],
            np.concatenate(upto_ms),
            given=np.concatenate([one.given for one in networks]),
            scores=np.concatenate([one.scores for one in networks])[:-1],
            starts=tuple(int(count) for count in counts[:-1]),
        )

    def at(self, exits: list[int]) -> Answers:
        """Returns the answers of some exits alone, each of which has a test."""
        return replace(
            self,
            logits=self.logits[exits],
            tests=tuple(self.tests[number] for number in exits),
            upto_ms=self.upto_ms[exits],
            given=self.given[exits],
            scores=self.scores[exits],
        )

    @property
    def wrong(self) -> Bools:
        """Whether each exit's answer is not the label, (exits, N)."""
        found: Bools = self.given != self.labels
        return found

    @property
    def targets(self) -> list[list[int]]:
        """By exit but the last, the stages that samples may jump to."""
        return [
            [start for start in self.starts if start > number + 1]
            for number in range(len(self.tests))
        ]

    @property
    def least_ms(self) -> Floats:
        """What answering at each exit takes at least: straight to its network, (exits,)."""
        found: Floats = self.upto_ms.copy()
        for start in self.starts[1:]:
            found[start:] = self.upto_ms[start:] - (self.upto_ms[start - 1] - self.upto_ms[0])
        return found

    def going(self, number: int, test: Test) -> NDArray[np.intp]:
        """Returns where each sample goes from an exit, as the runtime's ``goes_to``."""
        total = self.total(number, test)
        found = np.where(total >= test.threshold, number, number + 1)
        if test.jump is not None:
            found[total < test.jump.below] = test.jump.stage
        return found

    def total(self, number: int, test: Test) -> Floats:
        """Returns what a test compares with its threshold at an exit, as the runtime does."""
        total = np.zeros(len(self.labels))
        for name, weight in test.scores.items():
            total += weight * self.scores[number, :, CLASS_SCORES.index(name)]
        return total


def configuration_of(manifest: Manifest, name: str | None) -> ConfigurationEntry:
    """Returns the configuration whose policy is to be solved.

    Args:
        manifest: The bundle's.
        name: Its name; None for the only one with several exits.

    Raises:
        PolicyError: There is none, there are several, or its tests are not what is solved.
    """
    found = {entry.name: entry for entry in manifest.configurations if len(entry.route) > 1}
    if not found:
        raise PolicyError(
            f"no configuration of {manifest.name!r} has several exits. Name two or more under"
            " 'exits' of an entry of front.json, with a test for each but the last, and build"
            " it again."
        )
    if name is None and len(found) > 1:
        raise PolicyError(
            f"{len(found)} configurations have several exits: {', '.join(found)}. Name one"
            " with --configuration."
        )
    if name is not None and name not in found:
        raise PolicyError(
            f"--configuration {name!r}: no configuration with several exits."
            f" {choices_text(name, found)}"
        )
    entry = next(iter(found.values())) if name is None else found[name]
    if entry.routed is not None:
        check_classifier(manifest, f"configuration {entry.name!r}")
        return entry
    _check_solvable(manifest, entry)
    return entry


def _check_solvable(manifest: Manifest, entry: ConfigurationEntry) -> None:
    """Refuses a route that is no chain of classifiers, each asked one sample at a time."""
    place, spec = f"configuration {entry.name!r}", manifest.outputs[0]
    check_classifier(manifest, place)
    for number, stage in enumerate(entry.route[:-1]):
        answer, test = stage.answers.get(spec.name, spec.name), stage.test
        if test is None or not set(test.scores) & set(CLASS_SCORES) or test.output != answer:
            raise PolicyError(
                f"{place}: stage {number} is not tested by scores of its answer, which alone"
                f" are solved: {', '.join(CLASS_SCORES)}."
            )


def check_classifier(manifest: Manifest, place: str) -> None:
    """Refuses what does not classify, or cannot be asked one sample at a time.

    ``place`` is what is asked, for messages.
    """
    spec, *more = manifest.outputs
    if more or len(spec.shape) != 2:
        shapes = ", ".join(f"{s.name} {list(s.shape)}" for s in manifest.outputs)
        raise PolicyError(
            f"{place} answers {shapes}. A policy is solved for one output of shape (N,"
            " classes)."
        )
    rows = manifest.batch.minimum if manifest.batch else spec.shape[0]
    if rows != 1:
        raise PolicyError(
            f"{place} takes {rows} samples at least, which go on together; a policy is solved"
            " for samples that leave one by one. Build it for a batch of 1 or more."
        )


def starts_of(route: Sequence[Stage]) -> tuple[int, ...]:
    """Returns the stages before which nothing is needed: each begins a network."""
    reads = [
        min((source[0] for feed in stage.feeds.values() if (source := source_of(feed))),
            default=number)
        for number, stage in enumerate(route)
    ]  # fmt: skip
    return tuple(n for n in range(len(route)) if min(reads[n:]) >= n)


def open_runs(
    bundle: Bundle, graphs: Sequence[GraphEntry], target: str | None, stack: ExitStack
) -> tuple[Runs, EngineSet | None]:
    """Returns what runs each of some graphs, and whose engines those are.

    Args:
        bundle: The bundle.
        graphs: The graphs.
        target: Whose engines run; None for the first that fit this machine. Where the bundle
            has none the portable graphs run.
        stack: Closes them.

    Raises:
        BundleError: There are no engines for the target.
        BackendError: They cannot run here.
    """
    if target is None and not bundle.targets():
        return _portable(bundle, graphs, stack), None
    backend, engines, _ = bundle_backend(bundle, target, None, None)
    stack.callback(backend.close)
    runs = {}
    for graph in graphs:
        runs[graph.name] = stack.enter_context(closing(backend.load(graph.name)))
    return runs, engines


def _portable(bundle: Bundle, graphs: Sequence[GraphEntry], stack: ExitStack) -> Runs:
    """Returns what runs the portable graphs, each piece of a file by itself."""
    from skipc.compiler.targets.cpu.cut import cut_portable
    from skipc.compiler.verify.sessions import GraphRunner

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    runs = {}
    for file in dict.fromkeys(graph.file for graph in graphs):
        inside = [graph for graph in graphs if graph.file == file]
        whole = bundle.graph_file(inside[0])
        paths = [whole] if len(inside) == 1 else cut_portable(whole, inside, folder)
        for graph, path in zip(inside, paths, strict=True):
            runs[graph.name] = GraphRunner(path)
    return runs


def computed_logits(
    bundle: Bundle,
    entry: ConfigurationEntry,
    runs: Runs,
    parts: Sequence[Samples],
    advance: Callable[[int, int], None],
) -> list[NDArray[np.float32]]:
    """Returns what every exit answers, (exits, N, classes) for each part.

    One sample at a time, as the runtime does. ``advance`` is told how many of how many
    samples are done.
    """
    total, (output,) = sum(map(len, parts)), bundle.manifest.outputs
    found, done = [], 0
    for samples in parts:
        rows = []
        for row in range(len(samples)):
            case = {name: array[row : row + 1] for name, array in samples.inputs.items()}
            ran = zip(entry.route, run_route(bundle, entry, runs, case), strict=True)
            rows.append([stage.answer([output], g)[output.name][0] for stage, (_, g) in ran])
            done += 1
            advance(done, total)
        found.append(np.array(rows, np.float32).swapaxes(0, 1))
    return found

"""Scores from a Ray cluster: every worker opens checkpoint and data itself."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipc.compiler.cluster import connected
from skipc.compiler.errors import SelectError
from skipc.compiler.extras import require
from skipc.compiler.read.cached import open_checkpoint
from skipc.compiler.read.export_cache import ExportCache, default_folder
from skipc.compiler.read.several import fed
from skipc.compiler.select.problem import Problem, open_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.read import ModelOptions
    from skipc.compiler.select.options import SelectOptions
    from skipc.compiler.select.samples import Samples
    from skipc.runtime.bundle.tensors import TensorSpec

_PIECES_PER_WORKER = 4


@contextmanager
def on_ray(
    problem: Problem, checkpoint: Path, model: ModelOptions, options: SelectOptions
) -> Iterator[Problem]:
    """Yields the problem, scored by the workers of the cluster ``options.ray``.

    Raises:
        ClusterError: There is no such cluster.
        ExtraMissingError: Ray is not installed.
    """
    assert options.ray is not None
    with connected(options.ray):
        worker = _Worker(
            checkpoint.resolve(),
            model,
            replace(options, ray=None),
            os.getcwd(),
            problem.data.sha256,
            problem.family.network.inputs,
        )
        yield replace(problem, scores=RayScorer(problem, worker).scores)


class RayScorer:
    """Cuts each batch into pieces of neighbours in the walk and gives them to the workers.

    Args:
        problem: The problem, opened in this process.
        worker: What each process of the cluster is a copy of.
    """

    def __init__(self, problem: Problem, worker: _Worker) -> None:
        self._ray = require("ray", "ray")
        self._problem = problem
        threads = worker.options.threads
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        remote = self._ray.remote(num_cpus=threads)(_Worker)
        fields = vars(worker)
        self._workers = [remote.remote(**fields) for _ in range(max(cores // threads, 1))]

    def scores(
        self, batch: Sequence[Genes], samples: Samples
    ) -> Iterator[tuple[Genes, float]]:
        """Yields the scores, piece by piece as the workers finish them.

        Raises:
            SelectError: A worker failed.
        """
        report = samples is self._problem.data.parts.report
        # Neighbours share most, those of one network above all.
        ordered = sorted(batch, key=lambda g: (self._problem.space.whole(g), g))
        size = max(-(-len(ordered) // (len(self._workers) * _PIECES_PER_WORKER)), 1)
        pieces = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        free = list(self._workers)
        running: dict[Any, Any] = {}
        while pieces or running:
            while pieces and free:
                worker = free.pop()
                running[worker.scores.remote(pieces.pop(0), report)] = worker
            (done, *_), _ = self._ray.wait(list(running))
            free.append(running.pop(done))
            yield from self._result(done)

    def _result(self, done: Any) -> list[tuple[Genes, float]]:
        try:
            found: list[tuple[Genes, float]] = self._ray.get(done)
        except self._ray.exceptions.RayTaskError as cause:
            raise SelectError(f"a worker of the Ray cluster failed: {cause.cause}") from None
        except self._ray.exceptions.RayError as cause:
            first = str(cause).splitlines()[0]
            raise SelectError(f"a worker of the Ray cluster was lost: {first}") from None
        return found


@dataclass
class _Worker:
    """One process of the cluster.

    Attributes:
        checkpoint: The checkpoint's file, at the same place on every machine.
        model: How it is read.
        options: How to select.
        folder: The folder that the user's own code is imported from.
        data_sha256: The data's hash: a worker that reads other data is refused.
        inputs: What the network takes, where it is one of several.
        problem: The same problem, once it is opened.
    """

    checkpoint: Path
    model: ModelOptions
    options: SelectOptions
    folder: str
    data_sha256: str
    inputs: tuple[TensorSpec, ...]
    problem: Problem | None = None

    def scores(self, batch: list[Genes], report: bool) -> list[tuple[Genes, float]]:
        """Returns the scores of some configurations, on the report or the selection part."""
        # Opened here and not in the constructor, whose errors Ray reports as a lost worker.
        self.problem = self.problem or self._opened()
        parts = self.problem.data.parts
        return list(self.problem.scores(batch, parts.report if report else parts.selection))

    def _opened(self) -> Problem:
        if self.folder not in sys.path and Path(self.folder).is_dir():
            sys.path.insert(0, self.folder)
            os.chdir(self.folder)
        silent = _Silent()
        # --no-cache leaves no folder for scores, either.
        cached = self.options.cache is not None
        kept = ExportCache(default_folder(), silent.note) if cached else None
        supernet = open_checkpoint(self.checkpoint, self.model, kept, silent)
        supernet = fed(supernet, self.inputs, str(self.checkpoint))
        problem = open_problem(supernet, self.checkpoint, self.options, silent)
        if problem.data.sha256 != self.data_sha256:
            raise SelectError(
                "it reads other data than this process. Put the same data at the same place on"
                " every machine."
            )
        return problem


class _Silent:
    def __call__(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def advance(self, done: int, total: int, text: str = "") -> None:
        pass

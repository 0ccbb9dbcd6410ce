"""Writing a selection: ``front.json``, and the norm statistics beside it."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from typing import TYPE_CHECKING

from skipc.compiler import axes
from skipc.compiler.axes.exits import ExitsAxis
from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.errors import FrontError
from skipc.compiler.front import (
    DATA_SKETCH,
    Front,
    FrontEntry,
    StatisticsFile,
    read_front,
    write_front,
)
from skipc.compiler.norms.of_front import write_statistics
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.select.data.sketch import sketch_of
from skipc.runtime.bundle.folder import file_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.family import Family
    from skipc.compiler.select.exits import Early
    from skipc.compiler.select.options import SelectOptions
    from skipc.compiler.select.selecting import Chosen, Selection


def write_selection(
    path: Path, selection: Selection, options: SelectOptions
) -> tuple[Path, ...]:
    """Writes the front to ``path``, after the statistics it refers to; returns these files.

    A front that is there refers to statistics of its own, which are not written over: the one
    rename that exchanges the fronts exchanges both.

    Raises:
        FrontError: The front would not be one.
    """
    problem = selection.problem
    statistics, files = None, [path]
    before = _statistics_before(path)
    if problem.mode is not NormMode.SHARED:
        file = next(each for each in _statistics_places(path) if each != before)
        write_statistics(file, selection.norms)
        files.append(file)
        statistics = StatisticsFile(file.name, file_sha256(file))
    entries = tuple(
        FrontEntry(
            chosen.name,
            recorded(problem.family, chosen.genes),
            _metrics(chosen, problem.metric.is_accuracy),
        )
        for chosen in selection.chosen
    ) + tuple(
        FrontEntry(
            early.name,
            recorded(problem.family, early.genes) | {ExitsAxis.key: list(early.exits)},
            _early_metrics(early),
            early.tests,
            early.stops,
        )
        for early in selection.early
    )
    searched = dict.fromkeys(gene.axis for gene in problem.space.genes)
    if selection.early:
        searched[ExitsAxis.key] = None
    front = Front(
        entries,
        options={axis: problem.family.offers[axis].names for axis in searched},
        norm=problem.mode,
        statistics=statistics,
        provenance=_provenance(selection, options),
    )
    write_front(path, front)
    if before is not None and before not in files:
        before.unlink(missing_ok=True)
    return tuple(files)


def _statistics_places(path: Path) -> tuple[Path, Path]:
    return path.with_suffix(".norms.npz"), path.with_suffix(".norms-2.npz")


def _statistics_before(path: Path) -> Path | None:
    """Returns the one of our files of statistics that the front at ``path`` refers to."""
    try:
        found = read_front(path).statistics
    except FrontError:
        return None
    return next(
        (each for each in _statistics_places(path) if found and found.path == each.name), None
    )


def recorded(family: Family, genes: Genes) -> dict[str, object]:
    """Returns what stands in a front for a configuration, by axis; ``skip`` always does."""
    choices = family.decoded(genes)
    found = {a.key: a.record(choices[a.key]) for a in axes.AXES if a.key in choices}
    return {SkipAxis.key: [], **found}


def _metrics(chosen: Chosen, is_accuracy: bool) -> dict[str, float]:
    found = {
        "accuracy" if is_accuracy else "score": chosen.score,
        "macs": float(chosen.macs),
        "parameters": float(chosen.parameters),
        "latency_ms": chosen.measured_ms,
        "predicted_latency_ms": chosen.predicted_ms,
    }
    return {name: value for name, value in found.items() if value is not None}


def _early_metrics(early: Early) -> dict[str, float]:
    found = {
        "accuracy": early.score,
        "macs": early.macs,
        "parameters": float(early.parameters),
        "latency_ms": early.measured_ms,
    }
    return {name: value for name, value in found.items() if value is not None}


def _provenance(selection: Selection, options: SelectOptions) -> dict[str, str]:
    problem = selection.problem
    parts = problem.data.parts
    now = datetime.datetime.now(datetime.timezone.utc)
    found = {
        "created_utc": now.isoformat(timespec="seconds"),
        "skipc": importlib.metadata.version("skipc"),
        "checkpoint_sha256": problem.key.checkpoint_sha256,
        "data": problem.data.description,
        "data_sha256": problem.data.sha256,
        DATA_SKETCH: sketch_of([parts.reestimate, parts.fitting, parts.selection]),
        "metric": problem.metric.name,
        "search": options.search,
        "seed": str(options.data.seed),
        "evaluations": str(len(selection.candidates)),
        "cost": selection.cost.value,
        "hypervolume": f"{selection.hypervolume:.5f}",
        "target": options.target,
        "machine": platform.machine(),
    }
    if selection.exhaustive_share is not None:
        found["share_of_exhaustive_hypervolume"] = f"{selection.exhaustive_share:.5f}"
    found |= {f"policy of {early.name}": early.why for early in selection.early if early.tests}
    if selection.interrupted:
        found["interrupted"] = "yes"
    return found

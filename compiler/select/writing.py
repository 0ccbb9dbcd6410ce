"""Writing a selection: ``front.json``, and the norm statistics beside it."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from dataclasses import replace
from typing import TYPE_CHECKING

from skipc.compiler import axes
from skipc.compiler.axes.exits import END, ExitsAxis
from skipc.compiler.axes.skip import SkipAxis
from skipc.compiler.errors import FrontError
from skipc.compiler.front import (
    DATA_SKETCH,
    Front,
    FrontEntry,
    FrontPart,
    NetworkSaid,
    read_front,
    write_front,
)
from skipc.compiler.front_files import StatisticsFile
from skipc.compiler.norms.of_front import write_statistics
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.select.data.sketch import sketch_of
from skipc.runtime.bundle.folder import file_sha256

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skipc.compiler.axes.axis import Genes
    from skipc.compiler.family import Family
    from skipc.compiler.norms.statistics import FamilyNorms
    from skipc.compiler.select.composing import Early
    from skipc.compiler.select.options import SelectOptions
    from skipc.compiler.select.selecting import Chosen, Searched, Selection


def write_selection(
    path: Path, selection: Selection, options: SelectOptions
) -> tuple[Path, ...]:
    """Writes the front to ``path``, after the statistics it refers to; returns these files.

    A front that is there refers to statistics of its own, which are not written over: the one
    rename that exchanges the fronts exchanges both.

    Raises:
        FrontError: The front would not be one.
    """
    before, files = _statistics_before(path), [path]
    said = {}
    for name, searched in selection.networks.items():
        problem, statistics = searched.problem, None
        if problem.mode is not NormMode.SHARED:
            places = _statistics_places(path, name)
            file = next(each for each in places if each not in before)
            write_statistics(file, _norms(name, searched, selection.early))
            files.append(file)
            statistics = StatisticsFile(file.name, file_sha256(file))
        searched_axes = dict.fromkeys(gene.axis for gene in problem.space.genes)
        if problem.family.network.heads and selection.early:
            searched_axes[ExitsAxis.key] = None
        offered = {axis: problem.family.offers[axis].names for axis in searched_axes}
        said[name] = NetworkSaid(offered, problem.mode, statistics, _of_network(searched))
    entries = [
        FrontEntry(
            chosen.name,
            recorded(searched.problem.family, chosen.genes),
            _metrics(chosen, searched.problem.metric.is_accuracy),
            network=name,
        )
        for name, searched in selection.networks.items()
        for chosen in searched.chosen
    ]
    entries += [_early_entry(early, selection) for early in selection.early]
    provenance = _provenance(selection, options)
    front = Front(tuple(entries), provenance=provenance, networks=said)
    if len(said) == 1:
        (only,) = said.values()
        front = Front(
            tuple(entries),
            options=only.options,
            norm=only.norm,
            statistics=only.statistics,
            provenance={**provenance, **only.provenance},
        )
    write_front(path, front)
    for file in before:
        if file not in files:
            file.unlink(missing_ok=True)
    return tuple(files)


def _norms(name: str, searched: Searched, early: Sequence[Early]) -> FamilyNorms:
    """Returns the statistics of what is written of a network, by the names that it has there.

    That is what was chosen; for what answers early in this network alone its own name.
    """
    found = dict(searched.norms.configurations)
    for one in early:
        (part, *more) = one.parts
        if not more and part.network == name and part.base in found:
            found[one.name] = found[part.base]
    kept = {one.name for one in searched.chosen} | {one.name for one in early}
    kept |= {part.base for one in early for part in one.parts if len(one.parts) > 1}
    return replace(
        searched.norms,
        configurations={name: norms for name, norms in found.items() if name in kept},
    )


def _early_entry(early: Early, selection: Selection) -> FrontEntry:
    parts = [
        FrontPart(
            part.network,
            recorded(selection.networks[part.network].problem.family, part.genes)
            | ({ExitsAxis.key: list(part.exits)} if part.exits != (END,) else {}),
            part.base,
        )
        for part in early.parts
    ]
    entry = FrontEntry(early.name, {}, _early_metrics(early), early.tests, early.stops)
    if len(parts) > 1:
        return replace(entry, parts=tuple(parts))
    return replace(entry, network=parts[0].network, choices=parts[0].choices)


def _statistics_places(path: Path, network: str) -> tuple[Path, Path]:
    own = f".{network}" if network else ""
    return path.with_suffix(f"{own}.norms.npz"), path.with_suffix(f"{own}.norms-2.npz")


def _statistics_before(path: Path) -> list[Path]:
    """Returns those of our files of statistics that the front at ``path`` refers to."""
    try:
        front = read_front(path)
    except FrontError:
        return []
    found = []
    for name in ("", *front.networks):
        file = front.of(name).statistics
        found += [p for p in _statistics_places(path, name) if file and file.path == p.name]
    return found


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


def _of_network(searched: Searched) -> dict[str, str]:
    """Returns where what is said of one network comes from."""
    found = {
        "checkpoint_sha256": searched.problem.key.checkpoint_sha256,
        "evaluations": str(len(searched.candidates)),
        "hypervolume": f"{searched.hypervolume:.5f}",
    }
    if searched.exhaustive_share is not None:
        found["share_of_exhaustive_hypervolume"] = f"{searched.exhaustive_share:.5f}"
    if searched.interrupted:
        found["interrupted"] = "yes"
    return found


def _provenance(selection: Selection, options: SelectOptions) -> dict[str, str]:
    largest = selection.largest
    parts = largest.problem.data.parts
    now = datetime.datetime.now(datetime.timezone.utc)
    found = {
        "created_utc": now.isoformat(timespec="seconds"),
        "skipc": importlib.metadata.version("skipc"),
        "data": largest.problem.data.description,
        "data_sha256": largest.problem.data.sha256,
        DATA_SKETCH: sketch_of([parts.reestimate, parts.fitting, parts.selection]),
        "metric": largest.problem.metric.name,
        "axes": ",".join(options.axes),
        "search": options.search,
        "seed": str(options.data.seed),
        "cost": largest.prices.kind.value,
        "target": options.target,
        "machine": platform.machine(),
    }
    return found | {
        f"policy of {early.name}": early.why for early in selection.early if early.tests
    }

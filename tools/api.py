"""The commands as functions: ``import skipc``, then ``skipc.select(...)`` and the like.

They take and return the objects that the commands work with, and print nothing. What a
command would show while it works goes to the logger ``skipc``: steps as information, what the
user should know as warnings. A mistake raises a ``skipc.runtime.SkipcError``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from skipc.compiler.axes.precision import Precision, check_precision
from skipc.compiler.build import BuildOptions, plan_build
from skipc.compiler.build import build as build_bundle
from skipc.compiler.bundle.files import check_writable, write_json, write_whole
from skipc.compiler.errors import CompileError
from skipc.compiler.extras import require
from skipc.compiler.norms.statistics import NormMode
from skipc.compiler.read import ModelOptions
from skipc.compiler.select.data import DataOptions
from skipc.compiler.select.options import Constraints, CostKind, SelectOptions
from skipc.compiler.targets import builder_for, finish_bundle, unavailable_reason
from skipc.compiler.targets.options import TargetOptions
from skipc.profiles import load_profile
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.folder import client_of
from skipc.runtime.bundle.manifest import Recipe
from skipc.runtime.bundle.records import written
from skipc.tools.console import Steps

if TYPE_CHECKING:
    import os

    from skipc.compiler.axes.units import Units
    from skipc.compiler.build import BuildPlan
    from skipc.compiler.read import Supernet
    from skipc.compiler.select.selecting import Selection
    from skipc.profiles import Profile
    from skipc.tools.trtbench.report import Report

    Place = str | os.PathLike[str]

__all__ = [
    "BuildOptions",
    "Checkpoint",
    "Constraints",
    "CostKind",
    "DataOptions",
    "NormMode",
    "Precision",
    "SelectOptions",
    "TargetOptions",
    "bench",
    "build",
    "network",
    "report",
    "select",
    "units",
]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint, and how its network is built.

    Attributes:
        path: The file.
        options: The factory, its arguments and its inputs, as the command line says them.
        cached: Whether an earlier export is taken, and this one kept.
    """

    path: Path
    options: ModelOptions = field(default_factory=ModelOptions)
    cached: bool = True


def network(
    checkpoint: Place,
    model: str | Callable[..., object] | None = None,
    *,
    arguments: Mapping[str, object] | None = None,
    inputs: str | Sequence[str] = (),
    batch: str | None = None,
    dims: Sequence[str] = (),
    output: str | None = None,
    exit_outputs: Sequence[str] = (),
    weights: str | None = None,
    cached: bool = True,
) -> Checkpoint:
    """Returns a checkpoint with what builds its network; nothing is read yet.

    Args:
        checkpoint: The file.
        model: The class, a function that returns the network, or a text as ``--model`` takes
            it; None where the file says it.
        arguments: What the class or function is called with.
        inputs: What goes in, as ``--input`` takes it: ``images=1x3x224x224``.
        batch: Sizes of the batch: ``1:4:16``.
        dims: Sizes of other free dimensions: ``T=16:128:512``.
        output: The output to keep.
        exit_outputs: Outputs that are early exits of the network's own.
        weights: Which of several sets of weights.
        cached: Whether an earlier export is taken, and this one kept.

    Raises:
        CheckpointError: An input or an argument cannot be read.
        CompileError: ``model`` has no name that can be imported.
    """
    from skipc.compiler.read.inputs import parse_inputs

    texts = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    specs, dimensions = parse_inputs(texts, batch, dims)
    pairs = tuple((name, json.dumps(value)) for name, value in (arguments or {}).items())
    options = ModelOptions(
        None if model is None else model if isinstance(model, str) else _name(model),
        pairs,
        specs,
        dimensions,
        output,
        tuple(exit_outputs),
        weights,
    )
    return Checkpoint(Path(checkpoint), options, cached)


def units(checkpoint: Checkpoint | Place) -> Units:
    """Returns the parts of a network that may be skipped, and the joins that may not.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        SupernetError: The network cannot be exported.
    """
    from skipc.compiler.axes.skip import units_of
    from skipc.compiler.family import open_family

    return units_of(open_family(_opened(_checkpoint(checkpoint), _Logged())))


def select(
    networks: Checkpoint | Place | Mapping[str, Checkpoint],
    options: SelectOptions,
    out: Place = "front.json",
) -> Selection:
    """Finds near-Pareto configurations, writes them as ``skipc select`` does, returns them.

    Ctrl-C ends the search alone: what it found so far is written and returned.

    Args:
        networks: The network, or several by name.
        options: The data, and how to select.
        out: The front; norm statistics and a picture (``front.png``) lie beside it.

    Raises:
        SelectError: The data, the options or the constraints do not fit the networks.
        SkipcError: The networks cannot be read, or the front cannot be written.
    """
    from skipc.compiler.select.selecting import Given
    from skipc.compiler.select.selecting import select as found_by
    from skipc.compiler.select.writing import write_selection
    from skipc.tools.views.selection_pictures import write_png

    path, steps = Path(out), _Logged()
    require("matplotlib", "select")  # before the search, not after it
    load_profile(options.target)
    check_writable(path)
    given = {
        name: Given(_opened(one, steps), one.path, one.options)
        for name, one in _named(networks).items()
    }
    selection = found_by(given, options, steps)
    write_selection(path, selection, options)
    write_png(path.with_suffix(".png"), selection)
    return selection


def build(
    networks: Checkpoint | Place | Mapping[str, Checkpoint],
    front: Place,
    target: str = "cpu",
    options: BuildOptions | None = None,
    tuning: TargetOptions | None = None,
) -> Bundle:
    """Compiles a family, with the target's engines, and returns the bundle.

    Where they cannot be built, nothing takes the bundle's place.

    Args:
        networks: The network, or several by name.
        front: The configurations: ``front.json``.
        target: A profile's name, or a path to one. Of one whose engines are built on the
            device the bundle has none.
        options: Everything else; its ``recipe``, ``profile`` and ``int8_form`` are the
            target's.
        tuning: Options of the target.

    Raises:
        SkipcError: What was given does not fit, or a subnet differs from its reference.
    """
    steps, profile = _Logged(), load_profile(target)
    tuned = tuning or TargetOptions()
    given = _named(networks)
    plan = plan_for(
        {name: one.path for name, one in given.items()},
        Path(front),
        target,
        options or BuildOptions(),
        tuned,
    )
    supernets = {name: _opened(one, steps) for name, one in given.items()}

    def engines(folder: Path) -> None:
        if unavailable_reason(profile) is None:
            finish_sides(Bundle.open(folder), profile, tuned, steps)

    build_bundle(plan, supernets, steps, steps.note, engines)
    return Bundle.open(plan.out)


def finish_sides(
    bundle: Bundle, profile: Profile, tuning: TargetOptions, steps: Steps
) -> None:
    """Builds the engines of a bundle, and those of its client's side where it has one."""
    finish_bundle(bundle, profile, tuning, steps)
    client = client_of(bundle)
    if client is not None:
        finish_bundle(client, profile, tuning, steps)


def plan_for(
    checkpoints: Mapping[str, Path],
    front: Path,
    target: str,
    options: BuildOptions,
    tuning: TargetOptions,
) -> BuildPlan:
    """Returns what is to be built for a target, checked as far as that is quick.

    Raises:
        SkipcError: The target, its options, a precision or a file does not fit the others.
    """
    profile = load_profile(target)
    tuning.refuse(profile)
    asked = replace(
        options,
        recipe=Recipe(
            profile.name,
            "",
            tuning.workspace_bytes,
            tuning.optimization_level,
            tuning.engines,
        ),
        profile=Path(target) if target.endswith(".toml") else None,
        int8_form=builder_for(profile).int8_form(profile),
    )
    if asked.precision is not None:
        check_precision(asked.precision, profile.precisions, profile.name)
    plan = plan_build(checkpoints, front, asked)
    _check_precisions(plan, profile)
    return plan


def bench(
    bundle: Bundle | Place,
    *,
    target: str | None = None,
    configurations: Sequence[str] = (),
    threads: int | None = None,
    warm_up_ms: float = 200,
    duration_s: float = 3,
    iterations: int = 10,
    meter: str | None = None,
    out: Place | None = None,
) -> Report:
    """Measures the configurations of a bundle, alternating, as ``trtbench`` does.

    Args:
        bundle: The bundle, or its folder.
        target: Whose engines; None for the first by name that fit this machine.
        configurations: Their names; empty for all.
        threads: Threads of a call.
        warm_up_ms: Calls of each configuration that are dropped first.
        duration_s: Calls of each configuration, at least.
        iterations: The same, counted.
        meter: Measures energy, too: see ``skipc meters``.
        out: Where to write the result as JSON, for ``report``.

    Raises:
        SkipcError: A name is unknown, or the engines do not run here.
    """
    from skipc.tools.trtbench.command import Asked, benchmark

    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    asked = Asked(
        opened.path,
        target=target,
        configurations=",".join(configurations) or None,
        threads=threads,
        warm_up_ms=warm_up_ms,
        duration_s=duration_s,
        iterations=iterations,
        meter=meter,
    )
    if out is not None:
        check_writable(Path(out))
    found, _ = benchmark(opened, asked, _Logged())
    if out is not None:
        write_json(Path(out), written(found.report))
    return found.report


def report(bundle: Bundle | Place, results: Sequence[Place] = (), out: Place = "") -> Path:
    """Writes a bundle, and what was measured of it, as one HTML page; returns its file.

    Args:
        bundle: The bundle, or its folder.
        results: Files that ``bench`` or ``trtbench --json`` wrote.
        out: The page; by default ``NAME.report.html`` in the current folder.

    Raises:
        SkipcError: A file cannot be read, or is of another bundle.
    """
    from skipc.tools.report.page import page_of
    from skipc.tools.report.study import read_study

    folder = bundle.path if isinstance(bundle, Bundle) else Path(bundle)
    name = folder.resolve().name.removesuffix(".skipc")
    page = Path(out) if out else Path(f"{name}.report.html")
    check_writable(page)
    study = read_study(folder, [Path(each) for each in results], page)
    write_whole(page, page_of(study).encoded("report"))
    return page


class _Logged(Steps):
    """Tells the logger instead of the terminal."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("skipc")

    def __call__(self, text: str) -> None:
        self._logger.info(text)

    def advance(self, done: int, total: int, text: str = "") -> None:
        """Says nothing: a program that wants to know asks itself."""

    def note(self, text: str) -> None:
        """Warns."""
        self._logger.warning(text)


def _name(factory: Callable[..., object]) -> str:
    """Returns what ``--model`` would call a class or function."""
    name = getattr(factory, "__qualname__", "")
    if not name or "<" in name:
        raise CompileError(
            f"model={factory!r} has no name that can be imported. Give a class or function of"
            " a module's top level, or its name: 'PKG.MODULE:CLASS'."
        )
    return f"{factory.__module__}:{name}"


def _checkpoint(given: Checkpoint | Place) -> Checkpoint:
    return given if isinstance(given, Checkpoint) else Checkpoint(Path(given))


def _named(given: Checkpoint | Place | Mapping[str, Checkpoint]) -> Mapping[str, Checkpoint]:
    return given if isinstance(given, Mapping) else {"": _checkpoint(given)}


def _opened(checkpoint: Checkpoint, steps: Steps) -> Supernet:
    from skipc.tools.options import open_supernet

    return open_supernet(checkpoint.path, checkpoint.options, not checkpoint.cached, steps)


def _check_precisions(plan: BuildPlan, profile: Profile) -> None:
    """Refuses precisions that a front names and the target does not compute in."""
    parts = [part for entry in plan.front.configurations for part in entry.networks]
    named = {part.choices.get("precision") for part in parts}
    for each in Precision:
        if each.value in named:
            check_precision(each, profile.precisions, profile.name)

"""``skipc check``: is the bundle whole, and does it compute the same here?"""

from __future__ import annotations

import functools
import shlex
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from skipc.compiler.errors import NumericsError
from skipc.compiler.targets.golden import tolerance_on
from skipc.compiler.verify.numerics import difference
from skipc.runtime import AdaptiveEngine
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.measured import all_tables
from skipc.runtime.bundle.tensors import BATCH, row_axes, sizes_of
from skipc.runtime.errors import BackendUnavailableError, IntegrityError, StaleEngineError
from skipc.runtime.load.opening import NULL_TARGET
from skipc.tools.commands.finish import with_fresh_engines
from skipc.tools.console import console, fail, plural, print_json, progress, table
from skipc.tools.options import PATH, target_name
from skipc.tools.views.prologue import own_part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skipc.compiler.verify.numerics import Case, Difference
    from skipc.runtime.bundle.manifest import ConfigurationEntry
    from skipc.runtime.bundle.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """One configuration's error on this machine, over the golden inputs."""

    target: str
    configuration: str
    found: Difference
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is allowed."""
        return self.found.within(self.tolerance)

    def document(self) -> dict[str, object]:
        """Returns what ``--json`` prints of it."""
        names = {"target": self.target, "configuration": self.configuration}
        allowed = {"tolerance": self.tolerance, "passed": self.passed}
        return {**names, **asdict(self.found), **allowed}


@click.command("check")
@click.argument("bundle", type=PATH)
@click.option("--target", help="Check only this target's engines.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(bundle: Path, target: str | None, as_json: bool) -> int:
    """Check every hash of BUNDLE, then run its golden inputs on this machine.

    Where it holds engines for several targets, those that this machine cannot run are named
    and left out.

    Exit code 1 if a file is damaged or a configuration's outputs differ by more than the
    bundle's tolerance, 2 if there is no bundle or none of the engines can be run here.
    """
    if target == NULL_TARGET:
        raise click.UsageError("--target null: it computes nothing that could be checked.")
    try:
        return _checked(bundle, target, as_json)
    except (IntegrityError, NumericsError) as found:
        fail(str(found))
        return 1


def _checked(bundle: Path, target: str | None, as_json: bool) -> int:
    opened = Bundle.open(bundle)
    # By the name of its folder, what the user called the target: a name, or a .toml.
    targets = {name: name for name in opened.targets()}
    if target is not None:
        targets = {target_name(opened, target): target}
    results: list[GoldenResult] = []
    not_run: dict[str, str] = {}
    with progress() as step:
        step("comparing hashes")
        opened.verify_hashes(step.detail)
        all_tables(opened)
        for name, given in targets.items():
            step(f"running the golden inputs on target {name}")
            try:
                results += with_fresh_engines(
                    bundle, given, step, functools.partial(_golden, bundle, name)
                )
            except (BackendUnavailableError, StaleEngineError) as reason:
                if target is not None:
                    raise
                not_run[name] = str(reason)
                step.note(f"target {name} is not run here: {reason}")
    passed = all(result.passed for result in results)
    if as_json:
        print_json(
            {
                "hashes": "ok",
                "passed": passed,
                "golden": [result.document() for result in results],
                "not_run": not_run,
            }
        )
    else:
        _print(opened, results, not_run)
    if not_run and not results:
        return 2
    return 0 if passed else 1


def _golden(path: Path, target: str) -> list[GoldenResult]:
    """Runs the golden inputs through one target's engines."""
    results = []
    bundle = Bundle.open(path)
    inputs = bundle.golden_inputs()
    backend = bundle.engine_set(target).backend
    with AdaptiveEngine.open(path, target=target, part=own_part(bundle)) as engine:
        for entry in bundle.manifest.configurations:
            engine.pin(entry.name)
            actual, expected = _answers(engine, bundle, entry, inputs)
            found = difference(actual, expected, bundle.manifest.ranges(entry))
            tolerance = tolerance_on(backend, bundle.manifest, entry)
            results.append(GoldenResult(target, entry.name, found, tolerance))
    return results


def _answers(
    engine: AdaptiveEngine, bundle: Bundle, entry: ConfigurationEntry, inputs: list[Case]
) -> tuple[list[Case], list[Case]]:
    """Returns what the pinned configuration answers, and the reference at the same stage."""
    manifest, batch = bundle.manifest, bundle.manifest.batch
    apart = len(entry.route) > 1 and batch is not None and batch.minimum == 1
    actual, expected = [], []
    for number, case in enumerate(inputs):
        # Rows of a batch leave one by one, each at a stage of its own.
        for row in _rows(case, manifest.inputs) if apart else (slice(None),):
            actual.append(engine(_row(case, manifest.inputs, row)))
            assert engine.last is not None
            answer = bundle.golden_outputs(entry.name, engine.last.stage)[number]
            expected.append(_row(answer, manifest.outputs, row))
    return actual, expected


def _rows(case: Case, specs: Sequence[TensorSpec]) -> list[slice]:
    return [slice(row, row + 1) for row in range(sizes_of(case, specs).get(BATCH, 1))]


def _row(case: Case, specs: Sequence[TensorSpec], row: slice) -> Case:
    """Returns some rows of every array that has the batch as its first dimension."""
    first = {name for name, axis in row_axes(specs).items() if axis == 0}
    return {name: array[row] if name in first else array for name, array in case.items()}


def _print(bundle: Bundle, results: list[GoldenResult], not_run: dict[str, str]) -> None:
    out = console()
    targets = bundle.targets()
    also = f" and the engines of {', '.join(targets)}" if targets else ""
    out.print(f"hashes ok: {plural(len(bundle.manifest.files), 'file')}{also}")
    if not_run and not results:
        return  # why was said already
    if not results:
        out.print(
            "no engines to run. Build them on the device that will run them:"
            f" skipc finish {shlex.quote(str(bundle.path))}",
            soft_wrap=True,
        )
        return
    rows = table("target", "configuration", ">max error", ">of range", ">allowed", "")
    for result in results:
        rows.add_row(
            result.target,
            result.configuration,
            f"{result.found.max_abs_error:.1e}",
            f"{result.found.relative_error:.1e}",
            f"{result.tolerance:.0e}",
            "ok" if result.passed else "FAILED",
            style=None if result.passed else "red",
        )
    out.print(rows)
    failed = [result.configuration for result in results if not result.passed]
    for result in results:
        if unlike := result.found.unlike:
            out.print(f"{result.configuration}: {unlike} in the golden outputs.")
    if failed:
        fail(
            f"{len(failed)} of {plural(len(results), 'engine')} differ from the golden"
            f" outputs by more than the bundle allows: {', '.join(failed)}. Build the engines"
            " again with `skipc finish`, or the bundle."
        )

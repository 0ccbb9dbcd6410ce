"""``skipc run``: a bundle on arrays from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from skipc.compiler.bundle.array_files import read_arrays, write_arrays
from skipc.runtime import AdaptiveEngine, Budget
from skipc.runtime.bundle import Bundle
from skipc.runtime.bundle.folder import given_inputs
from skipc.tools.commands.finish import with_fresh_engines
from skipc.tools.console import console, print_json, progress, table
from skipc.tools.options import PATH, SizeType, check_place, target_name
from skipc.tools.views.prologue import own_part

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from skipc.runtime import CallRecord

    Arrays = dict[str, NDArray[Any]]


@click.command("run")
@click.argument("bundle", type=PATH)
@click.argument("inputs", type=PATH)
@click.option("--out", type=PATH, help="Write the outputs to this .npz (or .npy, if one).")
@click.option("--budget-ms", type=float, help="Latency that the call may take.")
@click.option("--configuration", metavar="NAME", help="Run this one, whatever the budget.")
@click.option(
    "--target",
    help="Whose engines to use.  [default: the first by name that fit this machine]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the call.")
@click.option(
    "--device-bytes",
    type=SizeType(),
    help="GPU: most memory that loaded engines may take, e.g. 512MB.  [default: all stay]",
)
@click.option("--strict", is_flag=True, help="Fail if no configuration fits the budget.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path,
    inputs: Path,
    out: Path | None,
    budget_ms: float | None,
    configuration: str | None,
    target: str | None,
    threads: int | None,
    device_bytes: int | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Run one call of BUNDLE on INPUTS, a .npy (one input) or .npz (by input name)."""
    budget = None if budget_ms is None else Budget(latency_ms=budget_ms)
    opened = Bundle.open(bundle)
    if out is not None:
        _check_writable(out, tuple(spec.name for spec in opened.manifest.outputs))
    arrays = read_arrays(inputs, tuple(spec.name for spec in given_inputs(opened)))
    name = None if target is None else target_name(opened, target)
    rebuilt = target or next(iter(opened.targets()), "cpu")

    def call() -> tuple[Arrays, CallRecord]:
        with AdaptiveEngine.open(
            bundle,
            budget,
            name,
            threads,
            strict,
            device_bytes=device_bytes,
            part=own_part(opened),
        ) as engine:
            engine.pin(configuration)
            outputs = engine(arrays)
            assert engine.last is not None
            return outputs, engine.last

    with progress() as step:
        step("loading the engines")
        outputs, record = with_fresh_engines(bundle, rebuilt, step, call)
    if out is not None:
        write_arrays(out, outputs)
    if as_json:
        print_json(
            {
                "configuration": record.configuration,
                "latency_ms": record.latency_ms,
                "predicted_ms": record.predicted_ms,
                "feasible": record.feasible,
                "reason": record.reason,
                "outputs": {name: list(array.shape) for name, array in outputs.items()},
            }
        )
        return
    _print(record, outputs, out)


def _print(record: CallRecord, outputs: Arrays, out: Path | None) -> None:
    printed = console()
    printed.print(f"{record.configuration}: {record.latency_ms:.2f} ms. {record.reason}")
    rows = table("output", "shape", "type", ">min", ">max", ">argmax")
    for name, array in outputs.items():
        numeric = array.size > 0 and array.dtype.kind in "fiu"
        rows.add_row(
            name,
            "x".join(map(str, array.shape)),
            str(array.dtype),
            f"{array.min():.4g}" if numeric else "-",
            f"{array.max():.4g}" if numeric else "-",
            str(int(array[0].argmax())) if numeric and array.ndim > 1 else "-",
        )
    printed.print(rows)
    if out is not None:
        printed.print(f"written to {out}", soft_wrap=True)


def _check_writable(path: Path, names: tuple[str, ...]) -> None:
    """Checks, before anything runs, that outputs of these names can be written to ``path``."""
    if path.suffix not in (".npy", ".npz"):
        raise click.UsageError(f"--out {path}: write to a .npy or .npz file.")
    if path.suffix == ".npy" and len(names) > 1:
        raise click.UsageError(
            f"--out {path}: the network has {len(names)} outputs. Write to a .npz file."
        )
    check_place("--out", path)

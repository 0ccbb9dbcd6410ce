"""``skipc policy``: when a configuration with several exits answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from skipc.runtime.load.opening import NULL_TARGET
from skipc.tools.console import console, print_json, print_prose, progress, table
from skipc.tools.data_options import data_options
from skipc.tools.options import PATH, group, target_name
from skipc.tools.views.routes import certified_text, exits_of

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from skipc.compiler.policy.solving import Bound, NewPolicy
    from skipc.compiler.select.data import DataOptions
    from skipc.runtime.bundle.manifest import Manifest

_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
_LEAST_SAMPLES = 8
_MOST_SAMPLES = 20000
_SURE = 0.9


def _bound(
    max_drop: float | None,
    max_error: float | None,
    max_disagreement: float | None,
    sure: float | None,
) -> Bound | None:
    from skipc.compiler.policy.solving import Bound

    given = [
        each
        for each in (
            max_drop is not None and Bound("max-drop", max_drop / 100, sure or _SURE),
            max_error is not None and Bound("max-error", max_error, sure or _SURE),
            max_disagreement is not None
            and Bound("max-disagreement", max_disagreement, sure or _SURE),
        )
        if each
    ]
    if len(given) > 1:
        raise click.UsageError(f"--{given[0].kind} and --{given[1].kind}: give one of them.")
    if sure is not None and not given:
        raise click.UsageError("--sure: only with a bound, such as --max-drop 1.")
    return given[0] if given else None


_bound_group = group(
    "bound",
    _bound,
    click.option(
        "--max-drop",
        type=click.FloatRange(0, 100, min_open=True, max_open=True),
        metavar="POINTS",
        help="Certify: of 100 samples at most so many are wrong where the last exit is right.",
    ),
    click.option(
        "--max-error",
        type=_SHARE,
        metavar="B",
        help="Certify: at most this share of the answers is wrong, e.g. 0.02.",
    ),
    click.option(
        "--max-disagreement",
        type=_SHARE,
        metavar="B",
        help="Certify: at most this share of the answers is not the last exit's.",
    ),
    click.option(
        "--sure",
        type=_SHARE,
        metavar="P",
        help=f"How sure the bound must be.  [default: {_SURE}]",
    ),
)


@click.command("policy")
@click.argument("bundle", type=PATH)
@data_options(
    "Labelled data, as `skipc select --data` takes it, that nothing else has seen.",
    samples=(_LEAST_SAMPLES, _MOST_SAMPLES),
    parts="30:20:30:20",
    shares="fitting, for selecting, for the bound, and for the report",
)
@click.option(
    "--configuration",
    metavar="NAME",
    help="Which one.  [default: the only one with several exits]",
)
@_bound_group
@click.option(
    "--target",
    help="Whose engines answer.  [default: the first by name that fit this machine; the graphs"
    " where there are none]",
)
@click.option(
    "--front",
    type=PATH,
    metavar="FRONT",
    help="Write the tests into this front.json, too, for the next build.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    bundle: Path,
    data: DataOptions,
    configuration: str | None,
    bound: Bound | None,
    target: str | None,
    front: Path | None,
    as_json: bool,
) -> None:
    """Solve anew, on labelled DATA, when a configuration of BUNDLE answers early.

    Of one that a router chooses, its bias is.

    Four disjoint parts of the data fit policies, choose one, certify it and report. Without a
    bound it is the fastest that loses at most 0.3 points against the last exit.
    """
    from skipc.compiler.bundle.files import check_writable
    from skipc.compiler.extras import require
    from skipc.compiler.policy.answers import configuration_of
    from skipc.compiler.policy.routed_policy import new_bias
    from skipc.compiler.policy.solving import new_policy
    from skipc.compiler.policy.writing import check_front, replace_entry, write_into_front
    from skipc.compiler.select.data import labelled_parts, samples_sha256
    from skipc.compiler.select.data.sketch import check_unseen, seen_before
    from skipc.runtime.bundle import Bundle

    if target == NULL_TARGET:
        raise click.UsageError("--target null: it computes nothing that could be looked at.")
    require("scipy", "select")  # before the work, not after it
    opened = Bundle.open(bundle)
    entry = configuration_of(opened.manifest, configuration)
    name = None if target is None else target_name(opened, target)
    check_writable(bundle.resolve())
    if front is not None:
        check_front(front, entry)
    with progress() as step:
        step("reading the data")
        manifest = opened.manifest
        parts = labelled_parts(data, manifest.inputs, manifest.outputs[0], manifest.dimensions)
        seen = manifest.provenance.data_sketches
        if bound is not None:
            check_unseen(parts[2:], seen, "the bound and the report", data.text)
        elif told := seen_before(parts[3:], seen, "the report", data.text):
            step.note(f"{told} Its accuracies look better than they are.")
        sha256s = [samples_sha256([part]) for part in parts]
        solve = new_policy if entry.routed is None else new_bias
        found = solve(opened, entry, parts, sha256s, bound, name, step)
        step("writing the bundle")
        replace_entry(opened, found.entry)
        if front is not None:
            write_into_front(front, found.entry)
    if as_json:
        print_json(_json(found))
    else:
        _print(found, manifest, console())


def _json(found: NewPolicy) -> dict[str, object]:
    entry = found.entry
    return {
        "configuration": entry.name,
        "policy": found.solved.name,
        "source": found.source,
        "upto_ms": found.upto_ms,
        "tests": [asdict(test) for test in found.solved.gates.tests],
        "stops": entry.stops,
        "certificate": entry.certificate and asdict(entry.certificate),
        "policies": {name: asdict(each) for name, each in found.solved.outcomes.items()},
    }


def _print(found: NewPolicy, manifest: Manifest, out: Console) -> None:
    unit = "ms by MACs" if found.source == "macs" else "ms"
    rows = table(
        *("policy", ">accuracy", ">drop", f">mean {unit}", ">of full"),
        *(">answered at each exit", ""),
    )
    full, *_ = found.solved.outcomes.values()
    for name, each in found.solved.outcomes.items():
        rows.add_row(
            name,
            f"{100 * each.accuracy:.2f} %",
            f"{100 * (full.accuracy - each.accuracy):.2f}",
            f"{each.mean_ms:.3f}",
            f"{each.mean_ms / full.mean_ms:.2f}",
            " / ".join(f"{100 * share:.0f}" for share in each.shares) + " %",
            "taken" if name == found.solved.name else "",
        )
    out.print(rows)
    out.print(f"\n{found.entry.name} answers by this: {found.solved.name}.")
    if found.entry.certificate is not None:
        names = [each.name for each in exits_of(manifest, found.entry)]
        print_prose(out, certified_text(found.entry.certificate, names))

"""The command line of ``trtbench``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from skipc.compiler.array_files import read_arrays
from skipc.compiler.files import write_whole
from skipc.runtime import Bundle, SystemClock
from skipc.runtime.errors import ChoiceError, InputError, choices_text
from skipc.runtime.inputs import InputChecker
from skipc.runtime.opening import NULL_TARGET, bundle_backend
from skipc.tools.console import console, progress
from skipc.tools.options import PATH, target_name
from skipc.tools.stale import with_fresh_engines
from skipc.tools.trtbench.baselines.options import baseline_options, check_baselines
from skipc.tools.trtbench.cases import typical_cases
from skipc.tools.trtbench.compare import compare
from skipc.tools.trtbench.document import encoded, read_report
from skipc.tools.trtbench.layer_view import print_profiles
from skipc.tools.trtbench.layers import check_profile, encoded_profile
from skipc.tools.trtbench.loop import Stop
from skipc.tools.trtbench.measuring import Subject, Wanted, measure
from skipc.tools.trtbench.options import measuring_options
from skipc.tools.trtbench.refused import refused_options
from skipc.tools.trtbench.regime import HOST_TIMES_ARE_COMPUTE
from skipc.tools.trtbench.shapes import cases_of
from skipc.tools.trtbench.streams import check_streams
from skipc.tools.trtbench.times_file import encoded_times, times_paths
from skipc.tools.trtbench.update import (
    check_update,
    measured_table,
    update_text,
    write_table,
)
from skipc.tools.trtbench.view import print_comparison, print_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skipc.runtime.backends import Arrays, Backend
    from skipc.tools.trtbench.baselines.options import BaselineOptions
    from skipc.tools.trtbench.measuring import Found
    from skipc.tools.trtbench.shapes import Shapes


@click.command(
    "trtbench",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("bundle", type=PATH, required=False)
@measuring_options
@baseline_options
@refused_options
@click.pass_context
def command(
    context: click.Context,
    bundle: Path | None,
    warm_up_ms: float,
    duration_s: float,
    iterations: int,
    streams: int,
    average_runs: int,
    percents: tuple[float, ...],
    inputs: Path | None,
    shapes: Shapes | None,
    times: Path | None,
    dump_profile: bool,
    profile: Path | None,
    loading_only: bool,
    configurations: str | None,
    target: str | None,
    threads: int | None,
    meter: str | None,
    update: bool,
    as_json: Path | None,
    compared: tuple[Path, Path] | None,
    margin_percent: float,
    baselines: BaselineOptions,
) -> int:
    """Measure all configurations of BUNDLE, by turns, as trtexec measures one engine."""
    if compared is not None:
        _refuse_besides_compare(context)
        old, new = map(read_report, compared)
        found = compare(old, new, margin_percent / 100)
        print_comparison(found, console())
        return 1 if found.slower else 0
    if _given(context, "margin_percent"):
        raise click.UsageError("--margin: only with --compare OLD NEW.")
    if bundle is None:
        raise click.UsageError("name a bundle: trtbench BUNDLE, or --compare OLD NEW.")
    for option, path in (
        ("--json", as_json),
        ("--exportTimes", times),
        ("--exportProfile", profile),
    ):
        _check_writable(option, path)
    layers = dump_profile or profile is not None
    if loading_only and (times is not None or meter is not None or layers):
        raise click.UsageError(
            "--timeDeserialize ends after the first calls: there is nothing for --exportTimes,"
            " --meter, --dumpProfile and --exportProfile. Leave them or it out."
        )
    if shapes is not None and inputs is not None:
        raise click.UsageError(
            "--shapes: the inputs of --loadInputs have shapes already. Leave one of them out."
        )
    opened = Bundle.open(bundle)
    names = _chosen(opened, configurations)
    name = None if target is None else target_name(opened, target)
    if meter is not None and name == NULL_TARGET:
        raise click.UsageError(
            f"--meter {meter}: the target 'null' runs nothing whose energy could be measured."
        )
    cases = _cases(opened, inputs) if shapes is None else cases_of(opened, shapes)
    if update:
        check_update(
            opened, name, names, cases, iterations, loading_only, baselines.names, streams
        )
    rebuilt = target or next(iter(opened.targets()), "cpu")
    wanted = Wanted(
        Stop(warm_up_ms, duration_s, iterations),
        loading_only,
        percents,
        average_runs,
        meter,
        baselines,
        streams,
        layers,
    )
    with progress() as step:
        step("opening the engines")
        backend, engines, clock = with_fresh_engines(
            bundle,
            rebuilt,
            step,
            lambda: bundle_backend(Bundle.open(bundle), name, threads, None),
        )
        try:
            _check_times(times, backend)
            check_baselines(baselines, backend.name)
            check_streams(wanted, backend.name)
            if layers:
                check_profile(backend)
            subject = Subject(opened, backend, engines, clock or SystemClock(), names, cases)
            measured = measure(subject, wanted, step)
        finally:
            backend.close()
    print_report(measured.report, average_runs, console())
    if dump_profile:
        print_profiles(measured.profiles, console())
    if update and engines is not None:
        path = write_table(opened, measured_table(opened, engines, measured))
        console().print(f"\n{update_text(opened, path, measured.report)}", soft_wrap=True)
    _write(measured, as_json, times, profile)
    return 0


def _refuse_besides_compare(context: click.Context) -> None:
    """Raises if anything but ``--compare`` was given: it would be ignored."""
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in ("compared", "margin_percent", "help") or not parameter.expose_value:
            continue
        if _given(context, name):
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else "BUNDLE"
            raise click.UsageError(
                f"--compare reads two files and measures nothing. Leave out {shown}."
            )


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _chosen(bundle: Bundle, text: str | None) -> tuple[str, ...]:
    """Returns the configurations that ``text`` names, in the bundle's order."""
    known = tuple(entry.name for entry in bundle.manifest.configurations)
    if text is None:
        return known
    wanted = [word.strip() for word in text.split(",")]
    for word in wanted:
        if word not in known:
            raise ChoiceError(
                f"--configurations {text}: no configuration {word!r}."
                f" {choices_text(word, known)}"
            )
    return tuple(name for name in known if name in wanted)


def _cases(bundle: Bundle, inputs: Path | None) -> Sequence[Arrays]:
    """Returns the inputs to measure with, checked."""
    specs = bundle.manifest.inputs
    checker = InputChecker(specs, bundle.manifest.batch)
    if inputs is None:
        given = typical_cases(bundle)
    else:
        given = [read_arrays(inputs, tuple(spec.name for spec in specs))]
    try:
        return [checker.check(case) for case in given]
    except InputError as cause:
        source = "the bundle's golden inputs" if inputs is None else str(inputs)
        raise InputError(f"{source}: {cause}") from cause


def _check_writable(option: str, path: Path | None) -> None:
    if path is None:
        return
    if not path.parent.is_dir():
        raise click.UsageError(f"{option} {path}: the folder {path.parent} does not exist.")
    if path.is_dir():
        raise click.UsageError(f"{option} {path}: this is a folder. Name a file.")


def _check_times(times: Path | None, backend: Backend) -> None:
    if times is not None and backend.name not in HOST_TIMES_ARE_COMPUTE:
        raise ChoiceError(
            f"--exportTimes {times}: the backend {backend.name!r} does not tell transfers from"
            f" computation, which trtexec's file does. It can be had for"
            f" {' and '.join(map(repr, HOST_TIMES_ARE_COMPUTE))}."
        )


def _write(
    measured: Found, as_json: Path | None, times: Path | None, profile: Path | None
) -> None:
    written = []
    if as_json is not None:
        write_whole(as_json, encoded(measured.report))
        written.append(as_json)
    if times is not None:
        for name, path in times_paths(times, tuple(measured.calls)).items():
            write_whole(path, encoded_times(measured.calls[name]))
            written.append(path)
    if profile is not None:
        for name, path in times_paths(profile, tuple(measured.profiles)).items():
            write_whole(path, encoded_profile(measured.profiles[name]))
            written.append(path)
    if written:
        listed = ", ".join(map(str, written))
        console().print(f"\nwritten: {listed}", soft_wrap=True)

"""The command line of ``trtbench``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from skipc.runtime import Bundle, SystemClock
from skipc.runtime.backends.phases import OWN_WAY
from skipc.runtime.errors import ChoiceError, choices_text
from skipc.runtime.load.opening import NULL_TARGET, bundle_backend
from skipc.tools.commands.finish import with_fresh_engines
from skipc.tools.console import console, progress
from skipc.tools.options import PATH, target_name
from skipc.tools.pss import added_bytes, pss_bytes
from skipc.tools.trtbench.baselines.options import baseline_options, check_baselines
from skipc.tools.trtbench.measuring import measure
from skipc.tools.trtbench.options.measuring_options import measuring_options
from skipc.tools.trtbench.options.refused import refused_options
from skipc.tools.trtbench.options.way_flags import Asked, check_asked, way_options
from skipc.tools.trtbench.results.compare import compare
from skipc.tools.trtbench.results.document import read_report
from skipc.tools.trtbench.results.result_files import ResultFiles
from skipc.tools.trtbench.results.update import (
    check_update,
    measured_table,
    update_text,
    write_table,
)
from skipc.tools.trtbench.running.cases import cases_from
from skipc.tools.trtbench.running.layers import check_profile
from skipc.tools.trtbench.running.loop import Stop
from skipc.tools.trtbench.running.shapes import cases_of
from skipc.tools.trtbench.running.streams import check_streams
from skipc.tools.trtbench.views.layer_view import print_profiles
from skipc.tools.trtbench.views.view import print_comparison, print_report
from skipc.tools.trtbench.wanted import Subject, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skipc.tools.trtbench.baselines.options import BaselineOptions
    from skipc.tools.trtbench.running.shapes import Shapes

T = TypeVar("T")


@click.command(
    "trtbench",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("bundle", type=PATH, required=False)
@measuring_options
@baseline_options
@way_options
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
    asked: Asked,
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
    files = ResultFiles(as_json, times, profile)
    files.check_places()
    layers = dump_profile or profile is not None
    if loading_only and (times is not None or meter is not None or layers or asked.of_calls):
        raise click.UsageError(
            "--timeDeserialize ends after the first calls: there is nothing for --exportTimes,"
            " --meter, --dumpProfile, --exportProfile and flags of how calls are made. Leave"
            " them or it out."
        )
    if update and asked.way != OWN_WAY:
        raise click.UsageError(
            "--update writes what the runtime's own calls take. Leave out"
            f" {' and '.join(asked.of_calls)}."
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
    cases = cases_from(opened, inputs) if shapes is None else cases_of(opened, shapes)
    rebuilt = target or next(iter(opened.targets()), "cpu")
    wanted = Wanted(
        Stop(warm_up_ms, duration_s, iterations),
        loading_only,
        percents,
        average_runs,
        meter,
        asked.way,
        asked.refit,
        baselines,
        streams,
        layers,
    )
    if update:
        check_update(opened, name, names, cases, wanted)
    with progress() as step:
        step("opening the engines")
        (backend, engines, clock), backend_bytes = with_fresh_engines(
            bundle,
            rebuilt,
            step,
            lambda: _grown(lambda: bundle_backend(Bundle.open(bundle), name, threads, None)),
        )
        try:
            check_asked(asked, backend)
            files.check_backend(backend)
            check_baselines(baselines, backend.name)
            check_streams(wanted, backend.name)
            if layers:
                check_profile(backend)
            clock = clock or SystemClock()
            subject = Subject(opened, backend, engines, clock, names, cases, backend_bytes)
            measured = measure(subject, wanted, step)
        finally:
            backend.close()
    print_report(measured.report, average_runs, console())
    if dump_profile:
        print_profiles(measured.profiles, console())
    if update and engines is not None:
        path = write_table(opened, measured_table(opened, engines, measured))
        console().print(f"\n{update_text(path, measured.report)}", soft_wrap=True)
    written = files.write(measured)
    if written:
        listed = ", ".join(map(str, written))
        console().print(f"\nwritten: {listed}", soft_wrap=True)
    return 0


def _grown(action: Callable[[], T]) -> tuple[T, int | None]:
    """Returns what ``action`` does, and what it added to this process's memory."""
    before = pss_bytes()
    done = action()
    return done, added_bytes(before, pss_bytes())


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

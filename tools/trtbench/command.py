"""The command line of ``trtbench``: what may be asked, what may not, and what is done."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from skipc.runtime import Bundle
from skipc.runtime.backends.phases import OWN_WAY, Wait, Way
from skipc.runtime.backends.tensorrt.backend import phased_backend
from skipc.runtime.errors import ChoiceError, choices_text
from skipc.runtime.load.opening import NULL_TARGET
from skipc.tools.commands.finish import with_fresh_engines
from skipc.tools.console import console, progress
from skipc.tools.options import PATH, target_name
from skipc.tools.trtbench.cases import are_typical, cases_from, shapes_from
from skipc.tools.trtbench.compare import compare
from skipc.tools.trtbench.latency import percent_of
from skipc.tools.trtbench.loop import MOST_ROUNDS, Stop
from skipc.tools.trtbench.measuring import measure, open_bundle
from skipc.tools.trtbench.modes import measure_in_modes
from skipc.tools.trtbench.output import (
    STDOUT,
    check_places,
    print_comparison,
    print_profile,
    print_report,
    write_files,
    write_table,
)
from skipc.tools.trtbench.report import ONLY_COMPUTING, read_report

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from skipc.runtime.bundle.engines import EngineSet
    from skipc.tools.console import Steps
    from skipc.tools.trtbench.cases import Shapes
    from skipc.tools.trtbench.measuring import Benchmark, OpenBundle

_LEAST_ITERATIONS = 10  # of --update: fewer calls say nothing of a 95th percentile
_LONGEST_S = 86_400.0
_MOST_STREAMS = 256
_ON_CPU = "onnxruntime-cpu"  # runs calls side by side, and beside plain sessions


class GpuFlag(NamedTuple):
    """A flag of ``trtexec`` for GPUs: why other backends refuse it, what contradicts it."""

    flag: str
    help: str
    reason: str
    opposite: str = ""


_NO_GRAPH = "there are no CUDA graphs"
_NO_TRANSFERS = "inputs and outputs lie where it computes, so that nothing is transferred"
_NO_WAIT = "a call is over when it returns, with no device to wait for"
_NO_PLANS = "there are no plans that could be refitted"

GPU_FLAGS = (
    GpuFlag("--useCudaGraph", "launch captured CUDA graphs.  [default]", _NO_GRAPH,
            "--noCudaGraph"),
    GpuFlag("--noCudaGraph", "enqueue each call's work anew.", _NO_GRAPH),
    GpuFlag("--includeDataTransfers", "calls copy their inputs in and outputs out.  [default]",
            _NO_TRANSFERS, "--noDataTransfers"),
    GpuFlag("--noDataTransfers", "inputs and outputs stay on the device.", _NO_TRANSFERS),
    GpuFlag("--useSpinWait", "wait by asking without pause.  [default: as the driver decides]",
            _NO_WAIT, "--noSpinWait"),
    GpuFlag("--noSpinWait", "wait asleep.", _NO_WAIT),
    GpuFlag("--timeRefit", "show what reading plans and refitting them took of the load.",
            _NO_PLANS),
)  # fmt: skip

_MEANINGLESS = {
    "This tool takes a bundle, whose engines `skipc build` and `skipc finish` made; the flag"
    " is for trtexec, which builds and runs plans of the backend 'tensorrt'. Leave it out.": (
        "onnx loadEngine saveEngine fp16 bf16 int8 fp8 best noTF32 stripWeights minShapes"
        " optShapes maxShapes memPoolSize plugins timingCacheFile builderOptimizationLevel"
        " profilingVerbosity useDLACore avgTiming"
    ),
    "Outputs are compared by `skipc check`, and `skipc report` shows what a subnet holds."
    " Leave it out.": "dumpOutput dumpLayerInfo exportOutput exportLayerInfo",
    "Calls follow one another at once, on every backend. Leave it out.": "sleepTime idleTime",
    "To load without measuring there is --timeDeserialize.": "skipInference",
    "--dumpProfile and --exportProfile always run on their own. Leave it out.": (
        "separateProfileRun"
    ),
    "There is nothing more to tell. Leave it out.": "verbose",
    "The first device is used; CUDA_VISIBLE_DEVICES chooses it.": "device",
}
MEANINGLESS = {
    f"--{name}": reason for reason, names in _MEANINGLESS.items() for name in names.split()
}
"""Flags of ``trtexec`` that mean nothing here: refused with the reason, never ignored."""


def _percentiles(context: click.Context, parameter: click.Parameter, text: str) -> object:
    for word in text.split(","):
        if percent_of(word) is None:
            raise click.BadParameter(
                f"{word.strip()!r} is no percentile: expected numbers from 0 to 100, as in"
                " 90,95,99."
            )
    return tuple(dict.fromkeys(map(float, text.split(","))))


def _option(name: str, text: str, value: object = None, **settings: Any) -> Any:
    """Returns a field of ``Asked``, which knows the option that sets it.

    Its default is the option's, or ``value``: what the option's callback makes of that, or
    makes such a value.
    """
    settings = {"show_default": "default" in settings, "help": text, **settings}
    default = settings.get("default", False if settings.get("is_flag") else None)
    about = {"name": name, "settings": settings}
    if callable(value):
        return field(default_factory=value, metadata=about)
    return field(default=default if value is None else value, metadata=about)


_ms, _s = click.FloatRange(0, _LONGEST_S * 1000), click.FloatRange(0, _LONGEST_S)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says, and its options."""

    bundle: Path | None = None
    flags: frozenset[str] = frozenset()
    # fmt: off
    warm_up_ms: float = _option(
        "--warmUp", "Milliseconds of calls of each configuration that are dropped first.",
        type=_ms, default=200)
    duration_s: float = _option(
        "--duration", "Seconds of calls of each configuration, at least.", type=_s, default=3)
    iterations: int = _option("--iterations", "Calls of each configuration, at least.",
        type=click.IntRange(1, MOST_ROUNDS), default=10)
    streams: int = _option("--infStreams", "Calls of a configuration at the same time.",
        type=click.IntRange(1, _MOST_STREAMS), default=1)
    average_runs: int = _option(
        "--avgRuns", "Calls in a row that are averaged; the lowest and highest average are"
        " shown.", type=click.IntRange(1), default=10)
    percents: tuple[float, ...] = _option(
        "--percentile", "Percentiles to show; 0 is the fastest call, 100 the slowest.",
        (90.0, 95.0, 99.0), metavar="PERCENTILES", default="90,95,99", callback=_percentiles)
    inputs: Path | None = _option(
        "--loadInputs", "Inputs: .npy, or .npz by input name.  [default: the bundle's golden"
        " inputs]", type=PATH)
    shapes: Shapes = _option(
        "--shapes", "Golden inputs of this batch, repeated or cut; several with commas.", dict,
        metavar="[NAME:]1x3x224x224", callback=lambda c, p, text: shapes_from(text or ""))
    times: Path | None = _option("--exportTimes", "Write every call's times here.", type=PATH)
    dump_profile: bool = _option(
        "--dumpProfile", "Print the layers' times, found in a run of its own.", is_flag=True)
    profile: Path | None = _option(
        "--exportProfile", "Write the layers' times here.", type=PATH)
    loading_only: bool = _option(
        "--timeDeserialize", "Time loading and the first call.", is_flag=True)
    configurations: str | None = _option(
        "--configurations", "Only these, e.g. full,fast.  [default: all]", metavar="NAMES")
    target: str | None = _option(
        "--target", "Whose engines.  [default: the first by name that fit]")
    threads: int | None = _option(
        "--threads", "Threads of a call.", type=click.IntRange(min=1))
    meter: str | None = _option(
        "--meter", "Measure energy, too: see `skipc meters`.", metavar="SPEC")
    baseline: str | None = _option(
        "--baseline", "Measure plain ONNX Runtime sessions of the portable graphs beside the"
        " engines.", type=click.Choice(["plain"]))
    update: bool = _option(
        "--update", "Write the results into BUNDLE as this device's table, which the governor"
        " uses.", is_flag=True)
    modes: tuple[str, ...] = _option(
        "--modes", "With --update: measure in each of these power modes, e.g. 15W,30W, and put"
        " back what was; see `skipc targets --modes`.", (), metavar="NAMES",
        callback=lambda c, p, text: tuple(map(str.strip, text.split(","))) if text else ())
    as_json: Path | None = _option(
        "--json", "Write everything here as JSON; - is standard output, and the tables go to"
        " standard error.", type=PATH)
    compared: tuple[Path, Path] | None = _option(
        "--compare", "Compare two files of --json; exit code 1 if something became slower.",
        type=PATH, nargs=2, metavar="OLD NEW")
    margin_percent: float = _option(
        "--margin", "With --compare: percent that two measurements of one thing may differ"
        " by.", type=click.FloatRange(0, 1000), default=3)
    # fmt: on

    @classmethod
    def of(cls, given: dict[str, Any]) -> Asked:
        """Returns what the options of ``command`` say, by their names."""
        flags = frozenset(one.flag for one in GPU_FLAGS if given.pop(one.flag[2:]))
        return cls(**given, flags=flags)

    @property
    def stop(self) -> Stop:
        """When the loop ends."""
        return Stop(self.warm_up_ms, self.duration_s, self.iterations)

    @property
    def layers(self) -> bool:
        """Whether to find the times of the layers, afterwards."""
        return self.dump_profile or self.profile is not None

    @property
    def way(self) -> Way:
        """How calls are made, where the backend leaves a choice."""
        spin, block = "--useSpinWait" in self.flags, "--noSpinWait" in self.flags
        return Way(
            graph="--noCudaGraph" not in self.flags,
            transfers="--noDataTransfers" not in self.flags,
            wait=Wait.SPIN if spin else Wait.BLOCK if block else Wait.DRIVER,
        )

    @property
    def of_calls(self) -> tuple[str, ...]:
        """The flags that say how calls are made."""
        return tuple(sorted(self.flags - {"--timeRefit"}))


class _Command(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as unknown:
            reason = MEANINGLESS.get(unknown.option_name)
            if reason is None:
                raise
            raise click.UsageError(f"{unknown.option_name}: {reason}", ctx) from None


_OPTIONS = [
    *(click.Option([one.metadata["name"], one.name], **one.metadata["settings"])
      for one in fields(Asked) if one.metadata),
    *(click.Option([one.flag, one.flag[2:]], is_flag=True, help=f"On a GPU: {one.help}")
      for one in GPU_FLAGS),
]  # fmt: skip


@click.command(
    "trtbench",
    _Command,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[click.Argument(["bundle"], type=PATH, required=False), *_OPTIONS],
)
@click.version_option(package_name="skipc", prog_name="trtbench")
@click.pass_context
def command(context: click.Context, /, **given: Any) -> int:
    """Measure all configurations of BUNDLE, alternating, as trtexec measures one engine."""
    asked = Asked.of(given)
    if asked.compared is not None:
        return _compare(context, asked, asked.compared)
    if asked.bundle is None:
        raise click.UsageError("name a bundle: trtbench BUNDLE, or --compare OLD NEW.")
    _check(context, asked)
    bundle = Bundle.open(asked.bundle)
    if asked.modes:
        measure_in_modes(asked.modes, asked, partial(_opened, bundle, asked), console())
        return 0
    with progress() as step:
        found, engines = benchmark(bundle, asked, step)
    out = console(stderr=asked.as_json == STDOUT)
    print_report(found.report, out)
    for graph, profile in found.profiles.items() if asked.dump_profile else ():
        print_profile(graph, profile, out)
    if asked.update and engines is not None:
        out.print(f"\n{write_table(bundle, engines, found)}", soft_wrap=True)
    if files := write_files(asked, found):
        out.print(f"\nwritten: {', '.join(map(str, files))}", soft_wrap=True)
    return 0


def benchmark(bundle: Bundle, asked: Asked, step: Steps) -> tuple[Benchmark, EngineSet | None]:
    """Measures a bundle, its engines made anew where they are another machine's.

    Returns:
        What was found, and the engines; None where the null backend stands in.

    Raises:
        SkipcError: What was asked for does not fit the bundle, or cannot be measured here.
        click.UsageError: The table that ``--update`` asks for would not stand for a call.
    """
    opened = _opened(bundle, asked, step)
    with closing(opened.backend):
        return measure(opened, asked, step), opened.engines


def _opened(bundle: Bundle, asked: Asked, step: Steps) -> OpenBundle:
    """Opens what is measured, and checks that all that was asked for fits it."""
    names = _chosen(bundle, asked.configurations)
    target = None if asked.target is None else target_name(bundle, asked.target)
    cases = cases_from(bundle, asked.inputs, asked.shapes)
    if asked.update:
        whole = len(names) == len(bundle.manifest.configurations)
        _check_table(asked, whole, are_typical(bundle, cases))
    rebuilt = asked.target or next(iter(bundle.targets()), "cpu")

    def open_now() -> OpenBundle:
        return open_bundle(bundle.path, target, asked.threads, names, cases)

    step("opening the engines")
    opened = with_fresh_engines(bundle.path, rebuilt, step, open_now)
    with ExitStack() as stack:
        stack.callback(opened.backend.close)
        _check_backend(asked, opened)
        stack.pop_all()
    return opened


def _compare(context: click.Context, asked: Asked, files: tuple[Path, Path]) -> int:
    for parameter in context.command.params:
        alone = parameter.name in ("compared", "margin_percent") or not parameter.expose_value
        if not alone and _given(context, parameter.name or ""):
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else "BUNDLE"
            raise click.UsageError(
                f"--compare reads two files and measures nothing. Leave out {shown}."
            )
    old, new = map(read_report, files)
    found = compare(old, new, asked.margin_percent / 100)
    print_comparison(found, console())
    return 1 if found.slower else 0


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _refuse(error: type[Exception], refused: Mapping[str, object]) -> None:
    """Raises ``error`` with the first of the reasons that holds."""
    for reason, holds in refused.items():
        if holds:
            raise error(reason)


def _check(context: click.Context, asked: Asked) -> None:
    """Raises ``click.UsageError`` where two things that were asked for exclude one another."""
    check_places(asked)
    several, metered = asked.streams > 1, asked.meter is not None
    not_with = f"--infStreams {asked.streams}: not with"
    contradictions = {
        f"{one.flag} and {one.opposite} contradict one another. Leave one out.": (
            {one.flag, one.opposite} <= asked.flags
        )
        for one in GPU_FLAGS
    }
    refused = {
        "--margin: only with --compare OLD NEW.": _given(context, "margin_percent"),
        **contradictions,
        "--timeDeserialize ends after the first calls: there is nothing for --exportTimes,"
        " --meter, --dumpProfile, --exportProfile and flags of how calls are made. Leave"
        " them or it out.": asked.loading_only
        and (asked.times or asked.meter or asked.layers or asked.of_calls),
        "--shapes: the inputs of --loadInputs have shapes already. Leave one of them out.": (
            asked.shapes and asked.inputs is not None
        ),
        f"--meter {asked.meter}: the target 'null' runs nothing whose energy could be"
        " measured.": metered and asked.target == NULL_TARGET,
        "--modes: only with --update, whose tables are by mode.": asked.modes
        and not asked.update,
        "--modes measures once in each mode, and --json, --exportTimes, --dumpProfile and"
        " --exportProfile are of one measurement. Leave them or it out.": asked.modes
        and (asked.as_json or asked.times or asked.layers),
        f"{not_with} --timeDeserialize: it ends after the first calls. Leave one of them"
        " out.": several and asked.loading_only,
        f"{not_with} --meter: energy is measured of one call at a time. Leave one of them"
        " out.": several and metered,
    }
    _refuse(click.UsageError, refused)


def _check_table(asked: Asked, whole: bool, typical: bool) -> None:
    """Raises ``click.UsageError`` unless ``--update`` makes a table that stands for a call.

    Args:
        asked: What was asked for.
        whole: Whether all configurations are measured.
        typical: Whether the inputs are of the typical sizes.
    """
    refused = {
        "writes what the runtime's own calls take. Leave out"
        f" {' and '.join(asked.of_calls)}.": asked.way != OWN_WAY,
        "with --target null no latency is measured.": asked.target == NULL_TARGET,
        "with --timeDeserialize no latency is measured.": asked.loading_only,
        f"a table needs {_LEAST_ITERATIONS} calls of each configuration, or more; --iterations"
        f" is {asked.iterations}.": asked.iterations < _LEAST_ITERATIONS,
        f"writes what a call takes alone, not one of {asked.streams}. Leave out"
        " --infStreams.": asked.streams > 1,
        "with --baseline plain calls take turns with those of something else, and find its"
        " data in the caches. Leave one of them out.": asked.baseline,
        "writes a table of all configurations. Leave out --configurations.": not whole,
        "writes the table of the typical sizes. Give inputs of those, or none; `skipc"
        " show` names it.": not typical,
    }
    _refuse(click.UsageError, {f"--update: {why}": holds for why, holds in refused.items()})


def _check_backend(asked: Asked, opened: OpenBundle) -> None:
    """Raises ``ChoiceError`` where the backend cannot do what was asked for."""
    name, on_gpu = opened.backend.name, phased_backend(opened.backend) is not None
    own = " Run trtexec itself on the plan under engines/: --loadEngine=PLAN --dumpProfile."
    instead, on_cpu = own if name.startswith("tensorrt") else "", name == _ON_CPU
    for_gpus = {
        f"{one.flag} is for the backends 'tensorrt' and 'tensorrt-rtx'. With {name!r}"
        f" {one.reason}. Leave it out.": not on_gpu and one.flag in asked.flags
        for one in GPU_FLAGS
    }
    told = on_gpu or name in ONLY_COMPUTING
    refused = {
        **for_gpus,
        f"--exportTimes {asked.times}: the backend {name!r} does not tell transfers from"
        " computation, which trtexec's file does. Leave it out.": asked.times and not told,
        f"--baseline plain: plain sessions run on the CPU, and the backend {name!r} does not."
        " Leave it out, or measure a CPU target with --target.": asked.baseline and not on_cpu,
        f"--dumpProfile, --exportProfile: the backend {name!r} does not tell the times of"
        f" layers; {_ON_CPU!r} does.{instead}": asked.layers and not on_cpu,
        f"--infStreams {asked.streams}: the backend {name!r} runs one call at a time, so"
        f" callers would only wait for each other. Several can be had for {_ON_CPU!r}; use 1,"
        " or leave it out.": asked.streams > 1 and not on_cpu,
    }
    _refuse(ChoiceError, refused)


def _chosen(bundle: Bundle, text: str | None) -> tuple[str, ...]:
    """Returns the configurations that ``text`` names, in the bundle's order."""
    known = tuple(entry.name for entry in bundle.manifest.configurations)
    wanted = known if text is None else tuple(map(str.strip, text.split(",")))
    for word in wanted:
        if word not in known:
            raise ChoiceError(
                f"--configurations {text}: no configuration {word!r}."
                f" {choices_text(word, known)}"
            )
    return tuple(name for name in known if name in wanted)

"""Options that several commands share, and what they have in common."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from skipc.compiler.errors import no_folder_text
from skipc.compiler.targets.options import LEVELS, TargetOptions
from skipc.profiles import load_profile
from skipc.runtime import Budget
from skipc.runtime.bundle.manifest import EngineForm
from skipc.runtime.errors import BudgetError, choices_text
from skipc.runtime.load.opening import NULL_TARGET
from skipc.tools.project import ProjectOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from click import Context, Parameter

    from skipc.compiler.read import ModelOptions, Supernet
    from skipc.compiler.remote.connection import Device
    from skipc.compiler.residual_scale import Scaling
    from skipc.runtime.bundle import Bundle
    from skipc.tools.console import Steps

    Pair = tuple[str, str]
    Checkpoints = Mapping[str, Path]

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_BUDGET_KEYS = tuple(field.name for field in fields(Budget) if field.init)
_SIZE = re.compile(
    r"(?P<count>\d+(\.\d+)?)\s*(?P<prefix>[kmgt])?(?P<binary>i)?b?", re.IGNORECASE
)


def group(
    name: str, make: Callable[..., object], *options: Callable[[F], F]
) -> Callable[[F], F]:
    """Returns a decorator that adds options and makes one record of what they say.

    Args:
        name: The command's argument that gets the record.
        make: Returns it of the options.
        options: The options, in the order of the help.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            record = make(**{key: given.pop(key) for key in keys})
            return function(**{name: record}, **given)

        made: Any = command
        others = len(getattr(function, "__click_params__", ()))
        for option in reversed(options):
            made = option(made)
        keys = [parameter.name for parameter in made.__click_params__[others:]]
        decorated: F = made
        return decorated

    return decorate


class SizeType(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions
    """A number of bytes, with a unit of powers of 1000 (MB) or 1024 (MiB)."""

    name = "size"

    def convert(self, value: object, param: Parameter | None, ctx: Context | None) -> int:
        """Returns the bytes that ``value`` names."""
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        if found is None or float(found["count"]) <= 0:
            self.fail(f"{value!r} is no size above zero, such as 512MB or 2GiB.", param, ctx)
        base = 1024 if found["binary"] else 1000
        power = "_kmgt".index((found["prefix"] or "_").lower())
        return max(1, int(float(found["count"]) * base**power))


class BudgetType(click.ParamType):  # type: ignore[type-arg]  # click 8.1 has no argument
    """A budget, as ``latency_ms=12,quantile=0.95``."""

    name = "budget"

    def get_metavar(self, param: Parameter, ctx: Context | None = None) -> str:
        """Returns how the value is written in ``--help``."""
        return "KEY=VALUE,..."

    def convert(self, value: object, param: Parameter | None, ctx: Context | None) -> Budget:
        """Returns the budget that a text grants."""
        if isinstance(value, Budget):
            return value
        granted: dict[str, Any] = {}
        for part in str(value).split(","):
            key, equals, number = (text.strip() for text in part.partition("="))
            if not equals:
                self.fail(f"{part!r} is not key=value, such as latency_ms=12.", param, ctx)
            if key not in _BUDGET_KEYS:
                self.fail(
                    f"a budget has no {key!r}. {choices_text(key, _BUDGET_KEYS)}", param, ctx
                )
            if key in granted:
                self.fail(f"{key!r} is given twice.", param, ctx)
            if key == "hard":
                granted[key] = number == "true"
                if number not in ("true", "false"):
                    self.fail(f"hard={number!r} is neither true nor false.", param, ctx)
                continue
            try:
                granted[key] = float(number)
            except ValueError:
                self.fail(f"{key}={number!r} is not a number.", param, ctx)
        try:
            return Budget(**granted)
        except BudgetError as cause:
            self.fail(str(cause), param, ctx)


def pairs(context: Context, option: Parameter, texts: tuple[str, ...]) -> tuple[Pair, ...]:
    """Returns the two sides of each ``NAME=VALUE``: the callback of an option."""
    return split_pairs(option.opts[0], texts)


def split_pairs(option: str, texts: Sequence[str]) -> tuple[Pair, ...]:
    """Returns the two sides of each ``NAME=VALUE`` that an option was given."""
    split = [tuple(text.partition("=")) for text in texts]
    for text, (name, equals, _) in zip(texts, split, strict=True):
        if not equals or not name.strip():
            raise click.UsageError(f"{option} {text!r}: write it as NAME=VALUE.")
    return tuple((name.strip(), value) for name, _, value in split)


def _checkpoints(context: Context, option: Parameter, texts: tuple[str, ...]) -> Checkpoints:
    """Returns the files by the networks' names; "" for one that is not named."""
    if len(texts) == 1 and (Path(texts[0]).exists() or "=" not in texts[0]):
        return {"": Path(texts[0])}
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path or not _NETWORK.fullmatch(name):
            raise click.UsageError(
                f"{text!r}: name each of several networks, e.g. small={path or text}, with"
                " letters, digits, '_' and '-'."
            )
        if name.lower() in map(str.lower, found):  # names become file names
            raise click.UsageError(f"two networks are named {name!r}. Names must differ.")
        found[name] = Path(path)
    return found


checkpoints_argument = click.argument(
    "checkpoints",
    nargs=-1,
    required=True,
    type=click.Path(),
    callback=_checkpoints,
    metavar="[NAME=]CHECKPOINT...",
)
"""Adds the checkpoints of a family: ``checkpoints``, by the networks' names."""


def _model_options(
    inputs: Sequence[str], batch: str | None, dims: Sequence[str], **others: Any
) -> ModelOptions:
    from skipc.compiler.read import ModelOptions
    from skipc.compiler.read.inputs import parse_inputs

    specs, dimensions = parse_inputs(inputs, batch, dims)
    return ModelOptions(inputs=specs, dimensions=dimensions, **others)


class Models:
    """What the command line says about networks, each option as often as it is given."""

    def __init__(self, **texts: tuple[str, ...]) -> None:
        self._texts = texts

    def of(self, networks: Checkpoints) -> dict[str, ModelOptions]:
        """Returns the options of each network.

        A value holds for all; behind a network's name and ``=`` it is that one's.
        """
        return {name: self._of(name, networks) for name in networks}

    def _of(self, network: str, networks: Checkpoints) -> ModelOptions:
        own: dict[str, list[str]] = {}
        for key, texts in self._texts.items():
            split = [(text, *text.partition("=")) for text in texts]
            own[key] = [t for t, name, _, _ in split if not name or name not in networks]
            own[key] += [rest for _, name, _, rest in split if name and name == network]
        one = ("model", "weights", "batch", "output")
        exits = own.pop("exit_outputs")[-1:]
        return _model_options(
            inputs=own["inputs"],
            dims=own["dims"],
            model_args=split_pairs("--model-arg", own["model_args"]),
            exit_outputs=tuple(name.strip() for text in exits for name in text.split(",")),
            **{key: own[key][-1] if own[key] else None for key in one},
        )


def _one_model(**texts: tuple[str, ...]) -> ModelOptions:
    return Models(**texts).of({"": Path()})[""]


project_option = functools.partial(click.option, cls=ProjectOption)
"""Adds an option that `skipc.toml` may give, too."""

_MODEL = (
    project_option(
        "--model",
        multiple=True,
        metavar="FACTORY",
        help="What builds the network: PKG.MODULE:FACTORY, or timm:NAME, torchvision:NAME,"
        " transformers:CLASS.",
    ),
    project_option(
        "--model-arg",
        "model_args",
        multiple=True,
        metavar="K=V",
        help="An argument of the factory; may be repeated.",
    ),
    project_option(
        "--weights",
        multiple=True,
        metavar="KEY",
        help="Which weights of the checkpoint, where it holds several (model_ema), or the"
        " prefix of their names (model.).",
    ),
    project_option(
        "--input",
        "inputs",
        multiple=True,
        metavar="[NAME=]SHAPE[:DTYPE]",
        help="An input, e.g. 1x3x224x224, Nx3x224x224 or ids=NxT:int64; may be repeated.",
    ),
    project_option(
        "--batch",
        multiple=True,
        metavar="MIN:TYP:MAX",
        help="Sizes of the batch N, e.g. 1:4:16.",
    ),
    project_option(
        "--dim",
        "dims",
        multiple=True,
        metavar="NAME=MIN:TYP:MAX",
        help="Sizes of another free dimension that --input names, e.g. T=16:128:512; may be"
        " repeated.",
    ),
    project_option(
        "--output",
        multiple=True,
        metavar="NAME",
        help="The output to keep, where the network returns several.  [default: logits]",
    ),
    project_option(
        "--exit-outputs",
        multiple=True,
        metavar="NAME,NAME",
        help="Outputs that are early exits of the network's own, in their order; its end is"
        " --output, or the last.",
    ),
)

model_options = group("model", _one_model, *_MODEL)
"""Adds the options that say how to read a checkpoint: ``model``, a ``ModelOptions``."""

models_options = group("models", Models, *_MODEL)
"""Adds the same for several checkpoints: ``models``, a ``Models``."""

target_options = group(
    "tuning",
    TargetOptions,
    click.option(
        "--workspace",
        "workspace_bytes",
        type=SizeType(),
        help="TensorRT: most scratch memory that a layer may ask for, e.g. 512MB or 2GiB.",
    ),
    click.option(
        "--optimization-level",
        type=click.IntRange(LEVELS[0], LEVELS[-1]),
        help="TensorRT: how much it tries, 0 to 5; 0 builds fastest. `finish` does as the"
        " bundle was built for.  [default: TensorRT's own]",
    ),
    click.option(
        "--engines",
        type=click.Choice(get_args(EngineForm)),
        help="CPU: an engine for each configuration, one for all, or what suits the network."
        "  [default: each]",
    ),
)
"""Adds the options of targets: ``tuning``, a ``TargetOptions``."""


def _device(
    on: str | None, on_command: str | None, on_options: tuple[str, ...]
) -> Device | None:
    from skipc.compiler.remote.connection import Device

    if on is None:
        if on_command is not None or on_options:
            raise click.UsageError("--on-command and --on-option: only with --on HOST.")
        return None
    try:
        words = () if on_command is None else (tuple(shlex.split(on_command)),)
        return Device(on, on_options, *words)
    except ValueError as cause:
        raise click.UsageError(
            f"--on-command {on_command!r}: {cause}. Quote it as for a shell."
        ) from cause


device_options = group(
    "device",
    _device,
    click.option(
        "--on",
        metavar="HOST",
        help="Build the engines on this device over ssh: HOST, USER@HOST or an alias of"
        " ssh's configuration.",
    ),
    click.option(
        "--on-command",
        metavar="COMMAND",
        help="How skipc is run on the device, e.g. /opt/venv/bin/skipc.  [default: skipc]",
    ),
    click.option(
        "--on-option",
        "on_options",
        metavar="NAME=VALUE",
        multiple=True,
        help="An option for ssh, as its -o takes it; may be repeated.",
    ),
)
"""Adds the options that name a device to build engines on: ``device``, or None."""


def device_arguments(device: Device | None) -> list[str]:
    """Returns the words of a command line that ``device_options`` reads as ``device``."""
    if device is None:
        return []
    words = ["--on", device.host]
    if device.command != type(device)(device.host).command:
        words += ["--on-command", shlex.join(device.command)]
    for option in device.options:
        words += ["--on-option", option]
    return words


def _scaling(residual_scale: str | None, survival: tuple[Pair, ...]) -> Scaling:
    from skipc.compiler.residual_scale import ResidualScale, Scaling

    found = {}
    for unit, text in survival:
        try:
            found[unit] = float(text)
        except ValueError:
            found[unit] = -1.0
        if not 0 < found[unit] <= 1:
            raise click.UsageError(
                f"--survival '{unit}={text}': the probability must be above 0 and at most 1."
            )
    scale = None if residual_scale is None else ResidualScale(residual_scale)
    return Scaling(scale, found)


scaling_options = group(
    "scaling",
    _scaling,
    click.option(
        "--residual-scale",
        type=click.Choice(["original", "inverted"]),
        help="How stochastic depth scaled kept branches; 'original' applies the survival"
        " probability now.  [default: as the checkpoint says, else inverted]",
    ),
    click.option(
        "--survival",
        metavar="UNIT=P",
        multiple=True,
        callback=pairs,
        help="A unit's survival probability, for --residual-scale original; may be repeated.",
    ),
)
"""Adds how stochastic depth is undone: ``scaling``, a ``Scaling``."""

no_cache_option = click.option(
    "--no-cache",
    is_flag=True,
    help="Take nothing from earlier commands, and keep nothing for later ones.",
)


def open_supernet(
    checkpoint: Path, model: ModelOptions, no_cache: bool, step: Steps
) -> Supernet:
    """Returns the network in a checkpoint, its export taken from the cache where it can be.

    Raises:
        CheckpointError: They do not fit together.
        ExtraMissingError: A library that is needed is not installed.
    """
    from skipc.compiler.read.cached import open_checkpoint
    from skipc.compiler.read.export_cache import ExportCache, default_folder

    cache = None if no_cache else ExportCache(default_folder(), step.note)
    return open_checkpoint(checkpoint, model, cache, step)


def target_name(bundle: Bundle, target: str) -> str:
    """Returns the name of a target that ``bundle`` has engines for; ``null`` needs none.

    Args:
        bundle: The bundle.
        target: The target's name, or the path of its ``.toml``.

    Raises:
        ProfileError: There is no such target.
        BundleError: There are no engines for it.
    """
    if target == NULL_TARGET or target in bundle.targets():
        return target
    name = load_profile(target).name
    if name not in bundle.targets():
        bundle.engine_set(name)  # its error lists what there is and names the command
    return name


def check_place(option: str, path: Path) -> None:
    """Checks, before the work is done, that a file can be written to ``path``."""
    if not path.parent.is_dir():
        raise click.UsageError(f"{option} {path}: {no_folder_text(path.parent)}.")
    if path.is_dir():
        raise click.UsageError(f"{option} {path}: this is a folder. Name a file.")

"""The options of ``--baseline``: which ones, and the network that two of them need."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from skipc.runtime.errors import ChoiceError, choices_text
from skipc.tools.options import PATH
from skipc.tools.trtbench.baselines.registry import BASELINES, OF_PYTORCH

if TYPE_CHECKING:
    from pathlib import Path

F = TypeVar("F", bound=Callable[..., Any])

_AS_BUILD = "For eager and compile: as `skipc build` takes it."


@dataclass(frozen=True, slots=True)
class NetworkFiles:
    """How the network that a bundle was built from is read, as ``skipc build`` takes it.

    Attributes:
        checkpoint: ``--checkpoint``.
        front: ``--front``; needed where the bundle has norm statistics.
        model: ``--model``.
        model_args: ``--model-arg``.
        inputs: ``--input``.
        batch: ``--batch``.
        output: ``--output``.
    """

    checkpoint: Path
    front: Path | None
    model: str | None
    model_args: tuple[str, ...]
    inputs: tuple[str, ...]
    batch: str | None
    output: str | None


@dataclass(frozen=True, slots=True)
class BaselineOptions:
    """What ``--baseline`` and its companions say.

    Attributes:
        names: The baselines, each once.
        network: How to read the network; None without ``--checkpoint``.
    """

    names: tuple[str, ...]
    network: NetworkFiles | None


class BaselinesType(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions
    """Names of baselines, ``plain,if``, or ``all``."""

    name = "baselines"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Returns the names in ``value``, each once."""
        if isinstance(value, tuple):
            return value
        if value == "all":
            return tuple(BASELINES)
        words = [word.strip() for word in str(value).split(",")]
        for word in words:
            if word not in BASELINES:
                self.fail(
                    f"no baseline {word!r}. {choices_text(word, (*BASELINES, 'all'))}",
                    param,
                    ctx,
                )
        return tuple(dict.fromkeys(words))


_OPTIONS = (
    click.option(
        "--baseline",
        "baseline_names",
        type=BaselinesType(),
        metavar="NAMES",
        help="Measure these beside it: plain, if, eager, compile, or all.",
    ),
    click.option(
        "--checkpoint", type=PATH, help="For eager and compile: what BUNDLE was built from."
    ),
    click.option(
        "--front", type=PATH, help="For eager and compile: its front, where that has norms."
    ),
    click.option("--model", metavar="FACTORY", help=_AS_BUILD),
    click.option("--model-arg", "model_args", metavar="K=V", multiple=True, help=_AS_BUILD),
    click.option(
        "--input",
        "network_inputs",
        metavar="[NAME=]SHAPE[:DTYPE]",
        multiple=True,
        help=_AS_BUILD,
    ),
    click.option("--batch", metavar="MIN:TYP:MAX", help=_AS_BUILD),
    click.option("--output", metavar="NAME", help=_AS_BUILD),
)

# In the order of NetworkFiles.
_ABOUT_THE_NETWORK: dict[str, str] = {
    "--front": "front",
    "--model": "model",
    "--model-arg": "model_args",
    "--input": "network_inputs",
    "--batch": "batch",
    "--output": "output",
}


def baseline_options(function: F) -> F:
    """Adds the options; the command gets them as one ``BaselineOptions``, ``baselines``."""

    @functools.wraps(function)
    def gathered(*words: Any, **given: Any) -> Any:
        about = {flag: given.pop(name) for flag, name in _ABOUT_THE_NETWORK.items()}
        names = given.pop("baseline_names") or ()
        given["baselines"] = _gathered(names, given.pop("checkpoint"), about)
        return function(*words, **given)

    found: Any = gathered
    for decorate in reversed(_OPTIONS):
        found = decorate(found)
    return found  # type: ignore[no-any-return]


def _gathered(
    names: tuple[str, ...], checkpoint: Path | None, about: dict[str, Any]
) -> BaselineOptions:
    of_pytorch = [name for name in names if name in OF_PYTORCH]
    if checkpoint is None:
        if of_pytorch:
            raise click.UsageError(
                f"--baseline {of_pytorch[0]} runs the network in PyTorch: give what BUNDLE was"
                " built from with --checkpoint, or name others, as in --baseline plain,if."
            )
        useless = next((flag for flag, value in about.items() if value), None)
        if useless is not None:
            raise click.UsageError(f"{useless}: only with --checkpoint and --baseline eager.")
        return BaselineOptions(names, None)
    if not of_pytorch:
        raise click.UsageError(
            f"--checkpoint {checkpoint}: nothing needs it but --baseline eager and compile."
        )
    return BaselineOptions(names, NetworkFiles(checkpoint, *about.values()))


def check_baselines(asked: BaselineOptions, backend: str) -> None:
    """Raises unless baselines can be compared with this backend.

    Raises:
        ChoiceError: It runs elsewhere than they do.
    """
    if asked.names and backend != "onnxruntime-cpu":
        raise ChoiceError(
            f"--baseline {','.join(asked.names)}: they all run on the CPU, and the backend"
            f" {backend!r} does not. Leave it out, or measure a CPU target with --target."
        )

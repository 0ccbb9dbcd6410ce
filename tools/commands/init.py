"""``skipc init``: write ``skipc.toml``, by asking or by looking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skipc.tools.completing import complete_target
from skipc.tools.console import console, facts, progress, tell
from skipc.tools.options import PATH, split_pairs
from skipc.tools.project import FILE, Project, ProjectError, project_text

if TYPE_CHECKING:
    from skipc.compiler.read import ModelOptions, Supernet
    from skipc.tools.looking import Guess

_NOT_TOML = (dict, type(None))
_CHECKED = 100  # samples of the data


@dataclass(frozen=True, slots=True)
class _Answer:
    """A value for the file, and why it is that one."""

    text: str = ""
    reason: str = ""


@click.command("init")
@click.argument("checkpoint", type=PATH)
@click.option(
    "--model", metavar="FACTORY", help="What builds the network: PKG.MODULE:FACTORY."
)
@click.option(
    "--model-arg",
    "model_args",
    multiple=True,
    metavar="K=V",
    help="An argument of the factory; may be repeated.",
)
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]SHAPE[:DTYPE]", help="An input."
)
@click.option(
    "--data",
    metavar="DATA",
    type=click.Path(),
    help="Labelled data for `skipc select`.",
)
@click.option("--metric", metavar="METRIC", help="top1, or PKG.MODULE:FUNCTION.")
@click.option(
    "--target",
    metavar="TARGET",
    shell_complete=complete_target,
    help="What to compile for; see `skipc targets`.",
)
@click.option(
    "--yes", is_flag=True, help="Ask nothing: take what the checkpoint and the folder tell."
)
@click.option("--overwrite", is_flag=True, help="Replace a skipc.toml that is already there.")
def command(
    checkpoint: Path,
    model: str | None,
    model_args: tuple[str, ...],
    inputs: tuple[str, ...],
    data: str | None,
    metric: str | None,
    target: str | None,
    yes: bool,
    overwrite: bool,
) -> None:
    """Write skipc.toml into the current folder, for the network in CHECKPOINT.

    `units`, `heads`, `gates`, `select` and `build` read it there, so that they need no options
    about network, data and target; what is given to them comes first. What is not said here is
    asked for, with what the checkpoint and the Python files of this folder tell as a proposal.
    The network is built and run once before anything is written.
    """
    from skipc.compiler.bundle.files import check_writable, write_whole
    from skipc.compiler.read import read_checkpoint
    from skipc.compiler.select.metrics import TOP1
    from skipc.profiles import load_profile
    from skipc.profiles.detect import detect
    from skipc.tools.looking import (
        Guess,
        class_of,
        data_in,
        input_of,
        network_classes,
        weights_in,
    )

    path = Path(FILE)
    if path.exists() and not overwrite:
        raise ProjectError(f"{FILE} is already there. Change it, or say --overwrite.")
    check_writable(path)

    def answer(said: str | None, question: str, guess: Guess | None) -> _Answer:
        if said is not None:
            return _Answer(said, "as you said")
        if yes:
            return _Answer() if guess is None else _Answer(guess.text, guess.reason)
        proposed = "" if guess is None else guess.text
        told = click.prompt(question, default=proposed, show_default=bool(proposed), err=True)
        because = guess.reason if guess is not None and told == guess.text else "as you said"
        return _Answer(told.strip(), because if told.strip() else "")

    with progress() as step:
        step("looking at the checkpoint")
        weights = weights_in(checkpoint)
    seen = data_in(Path())
    network, arguments, taken = _Answer(), model_args, inputs
    input_reason = "as you said" if inputs else ""
    if weights is not None:
        classes = network_classes(Path())
        found = class_of(weights, classes)
        like = None if found is None else Guess(found.factory, f"its parts, in {found.file}")
        network = answer(model, "What builds the network (PKG.MODULE:CLASS)", like)
        chosen = next((one for one in classes if one.factory == network.text), None)
        if not network.text:
            raise ProjectError(
                f"{checkpoint} holds weights, and no class in the Python files of this folder"
                f" has the parts {', '.join(sorted(weights.parts)[:6])}. Say what builds the"
                " network: --model PKG.MODULE:FACTORY, or e.g. --model timm:resnet18"
            )
        if chosen is not None and chosen.arguments and not model_args and not yes:
            told = click.prompt(
                f"Its arguments ({chosen.arguments}), as depth=4 width=8",
                default="",
                show_default=False,
                err=True,
            )
            arguments = tuple(told.split())
    labelled = answer(
        data,
        "Labelled data (a folder of images by class, x and y in a .npz, PKG.MODULE:FUNCTION)",
        seen[0] if len(seen) == 1 else None,
    )
    if weights is not None:
        images = labelled.text or (seen[0].text if seen else "")
        guess = input_of(weights, chosen, Path(images) if images else None)
        if not inputs and ":" in network.text and not _is_librarys(network.text):
            one = answer(None, "What goes in ([NAME=]SHAPE[:DTYPE])", guess)
            taken, input_reason = tuple(one.text.split()), one.reason
    metric = metric or (TOP1 if yes else click.prompt("Metric", default=TOP1, err=True))
    machine = detect()
    aim = answer(target, "Target", Guess(machine.profile, "this machine"))
    load_profile(aim.text)
    with progress() as step:
        step("building the network, and running it once")
        supernet = read_checkpoint(checkpoint, _options(network.text, arguments, taken))
        step("reading some of the data")
        _check_data(labelled.text, metric, supernet)
    project = Project(
        model=network.text,
        model_arg=_arguments(arguments),
        input=taken[0] if len(taken) == 1 else taken,
        data=labelled.text.removesuffix("/"),
        metric=metric,
        target=aim.text,
    )
    write_whole(path, project_text(project).encode())
    out = console()
    out.print(FILE)
    out.print(
        facts(
            ("model", _said(network)),
            ("model_arg", " ".join(arguments)),
            ("input", _said(_Answer(" ".join(taken), input_reason))),
            ("data", _said(labelled)),
            ("metric", metric),
            ("target", _said(aim)),
        )
    )
    if labelled.text:
        out.print(f"\nNext: skipc select {checkpoint}", soft_wrap=True)
    else:
        names = [each.text.removesuffix("/") for each in seen]
        several = f"The labelled data may be any of {', '.join(names)}"
        tell(
            f"{several if names else 'No labelled data was found'}. `skipc select` needs what"
            f" the network was not trained on: write it into {FILE}, as data ="
            f' "{(names or ["photos"])[0]}", or say --data.'
        )


def _check_data(text: str, metric: str, supernet: Supernet) -> None:
    """Checks that the first of the data fit the network, and the metric fits them."""
    from skipc.compiler.errors import SelectError
    from skipc.compiler.read.factories import function_of
    from skipc.compiler.select.data import DataOptions, read_data
    from skipc.compiler.select.metrics import TOP1, find_metric

    if text:
        options = DataOptions(text, samples=_CHECKED)
        data = read_data(options, supernet.inputs, dimensions=supernet.dimensions)
        find_metric(metric, data.parts.selection)
    elif metric != TOP1:
        function_of("--metric", metric, SelectError)


def _options(model: str, arguments: tuple[str, ...], inputs: tuple[str, ...]) -> ModelOptions:
    from skipc.compiler.read import ModelOptions
    from skipc.compiler.read.inputs import parse_inputs

    specs, dimensions = parse_inputs(inputs, None)
    pairs = split_pairs("--model-arg", arguments)
    return ModelOptions(model or None, pairs, specs, dimensions)


def _is_librarys(model: str) -> bool:
    """Tells whether a library says itself what goes in."""
    from skipc.compiler.read.factories import is_users_code

    return not is_users_code(model)


def _arguments(texts: tuple[str, ...]) -> dict[str, object] | tuple[str, ...]:
    """Returns the factory's arguments: a table, or the texts where TOML has no such value."""
    from skipc.compiler.read.factories import parse_arguments

    found = parse_arguments(split_pairs("--model-arg", texts))
    return texts if any(isinstance(each, _NOT_TOML) for each in found.values()) else found


def _said(answer: _Answer) -> str:
    return f"{answer.text}  ({answer.reason})" if answer.reason else answer.text
